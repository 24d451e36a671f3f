//! Deadlines hold whoever polls, wherever it is polled, and what is out of time is not sent.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use callboard_echo::pb::EchoRequest;
use callboard_raw::{Event, Peer, Request, code, serve};
use common::{Stage, echo, in_time, poll_once, request, slow, until, within};
use tonic::Code;

const SOON: Duration = Duration::from_millis(300);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(3);
/// An answer that comes much too late.
const LATE: u32 = 15_000;

#[tokio::test]
async fn a_call_whose_time_is_up_is_not_sent() {
    let stage = Stage::new();
    let (server, _registration) = stage.raw("a", |peer| serve("a", peer)).await;
    let channel = stage.channel(stage.builder(), 1).await;
    for _ in 0..200 {
        let status = in_time(echo(&channel).unary(within(Duration::ZERO, request()))).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    }
    in_time(echo(&channel).unary(request())).await.unwrap();
    println!("of 200 calls that were out of time, {} arrived", server.stats().requests - 1);
    assert_eq!(server.stats().requests, 1);
}

#[tokio::test]
async fn a_call_that_nobody_polls_ends_at_its_deadline_and_frees_its_place() {
    let stage = Stage::new();
    // It does not look at deadlines.
    let (server, _registration) = stage
        .raw("a", |mut peer: Peer| async move {
            peer.settings(&[(3, 1)]);
            let mut requests = 0;
            while let Some(event) = peer.next().await {
                let (Event::Request { stream, end: true } | Event::Data { stream, end: true, .. }) = event else {
                    continue;
                };
                requests += 1;
                if requests > 1 {
                    peer.answer(stream, "a");
                }
            }
        })
        .await;
    let channel = stage.channel(stage.builder(), 1).await;
    let mut client = echo(&channel);
    let mut left = Box::pin(async move { client.unary(within(SOON, request())).await });
    let begun = Instant::now();
    assert!(poll_once(&mut left).await.is_pending());
    in_time(server.until(|stats| stats.requests == 1)).await;

    let next = in_time(echo(&channel).unary(request())).await.unwrap();
    assert_eq!(next.into_inner().server, "a");
    let elapsed = begun.elapsed();
    println!("the stream that nobody polled was reset, and its place free, after {elapsed:?}");
    assert!(elapsed >= SOON - Duration::from_millis(5) && elapsed < SOON + SLACK, "{elapsed:?}");
    assert_eq!(server.stats().resets, 1);
    let status = in_time(left).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}

#[tokio::test]
async fn a_response_that_nobody_reads_ends_at_the_deadline_and_frees_its_place() {
    let stage = Stage::new();
    let (server, _registration) = stage.limited("a", 1).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let begun = Instant::now();
    let many = EchoRequest { repeat: 1_000, delay_ms: 100, ..request() };
    let stream = echo(&channel).server_streaming(within(SOON, many)).await.unwrap().into_inner();
    let next = in_time(echo(&channel).unary(request())).await.unwrap();
    assert_eq!(next.into_inner().server, "a");
    let elapsed = begun.elapsed();
    println!("the place of a response that nobody read was free after {elapsed:?}");
    assert!(elapsed >= SOON - Duration::from_millis(5) && elapsed < SOON + SLACK, "{elapsed:?}");
    until("the server works no longer", || server.in_flight() == 0).await;
    drop(stream);
}

#[tokio::test]
async fn a_streamed_request_that_nobody_polls_is_sent_no_longer_than_its_deadline() {
    let stage = Stage::new();
    let (server, _registration) = stage
        .raw("a", |mut peer: Peer| async move {
            peer.settings(&[]);
            while let Some(event) = peer.next().await {
                if let Event::Request { stream, .. } = event {
                    peer.head(stream);
                }
            }
        })
        .await;
    let channel = stage.channel(stage.builder(), 1).await;
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let endless = futures_util::stream::unfold((), move |()| {
        let counted = Arc::clone(&counted);
        async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Some((request(), ()))
        }
    });
    let mut call = tonic::Request::new(endless);
    call.set_timeout(SOON);
    let _responses = in_time(echo(&channel).bidirectional(call)).await.unwrap();
    in_time(server.until(|stats| stats.resets == 1)).await;
    let at_the_end = sent.load(std::sync::atomic::Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let after = sent.load(std::sync::atomic::Ordering::SeqCst);
    assert!(after <= at_the_end + 1, "{at_the_end} messages were asked for, then {after}");
}

/// How a server ends a call whose time is up.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Reset,
    AllHead,
    Trailers,
}

#[tokio::test]
async fn an_expired_call_is_deadline_exceeded_although_the_server_cancels_it_first() {
    const TIME: Duration = Duration::from_millis(20);
    for cut in [Cut::Reset, Cut::AllHead, Cut::Trailers] {
        let stage = Stage::new();
        let script = move |mut peer: Peer| async move {
            peer.settings(&[]);
            while let Some(Request { stream, .. }) = peer.request().await {
                let writer = peer.writer();
                if matches!(cut, Cut::Trailers) {
                    writer.head(stream);
                }
                // After the deadline, and a little before this side's timer, which goes by milliseconds: as grpc-go's
                // server does.
                tokio::task::spawn_blocking(move || {
                    std::thread::sleep(TIME + Duration::from_micros(10));
                    match cut {
                        Cut::Reset => writer.reset(stream, code::CANCEL),
                        Cut::AllHead => writer.refuse(stream, "1"),
                        Cut::Trailers => writer.trailers(stream, "1"),
                    }
                });
            }
        };
        let (_server, _registration) = stage.raw("a", script).await;
        let channel = stage.channel(stage.builder(), 1).await;
        let mut codes = std::collections::BTreeMap::<String, usize>::new();
        for _ in 0..50 {
            let status = in_time(echo(&channel).unary(within(TIME, request()))).await.unwrap_err();
            *codes.entry(format!("{:?}", status.code())).or_default() += 1;
        }
        println!("{cut:?}: {codes:?}");
        assert_eq!(codes.keys().collect::<Vec<_>>(), ["DeadlineExceeded"], "{cut:?}: {codes:?}");
    }
}

#[tokio::test]
async fn a_call_that_is_cancelled_before_its_deadline_is_cancelled() {
    let stage = Stage::new();
    let (_server, _registration) = stage
        .raw("a", |mut peer: Peer| async move {
            peer.settings(&[]);
            while let Some(request) = peer.request().await {
                peer.reset(request.stream, code::CANCEL);
            }
        })
        .await;
    let channel = stage.channel(stage.builder(), 1).await;
    let status = in_time(echo(&channel).unary(within(Duration::from_secs(60), request()))).await.unwrap_err();
    assert_eq!(status.code(), Code::Cancelled, "{status:?}");
}

/// Wakes a thread that is no thread of Tokio's.
struct Thread(std::thread::Thread);

impl Wake for Thread {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Thread(std::thread::current())));
    let begun = Instant::now();
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park_timeout(Duration::from_secs(1)),
        }
        assert!(begun.elapsed() < common::PATIENCE, "it hangs");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_can_be_polled_outside_of_the_runtime() {
    let stage = Stage::new();
    let (_server, _registration) = stage.server("a").await;
    stage.put_service_config(Some(RETRIES)).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let empty = Stage::new();
    empty.put_service_config(Some(RETRIES)).await;
    let nobody = empty.builder().build().unwrap();
    let outside = std::thread::spawn(move || {
        let mut client = echo(&channel);
        let unary = block_on(client.unary(within(Duration::from_secs(60), request())));
        assert_eq!(unary.unwrap().into_inner().server, "a");
        let late = block_on(client.unary(within(SOON, slow(LATE)))).unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
        let streamed = block_on(client.client_streaming(futures_util::stream::iter([request(), request()])));
        assert_eq!(streamed.unwrap().into_inner().server, "a");
        let mut stream =
            block_on(client.server_streaming(EchoRequest { repeat: 3, ..request() })).unwrap().into_inner();
        assert!(block_on(stream.message()).unwrap().is_some());
        drop(stream);
        // With a wait between its attempts.
        let retried = block_on(echo(&nobody).unary(within(SOON, request()))).unwrap_err();
        assert_eq!(retried.code(), Code::DeadlineExceeded, "{retried:?}");
        assert!(retried.message().contains("while waiting to send the call again"), "{retried:?}");
        let late = block_on(nobody.wait_ready(SOON)).unwrap_err();
        assert_eq!(late.kind(), callboard::ErrorKind::Timeout, "{late:?}");
        let waiting = block_on(echo(&nobody).unary(common::waiting(request()).map_timeout(SOON))).unwrap_err();
        assert_eq!(waiting.code(), Code::DeadlineExceeded, "{waiting:?}");
    });
    in_time(tokio::task::spawn_blocking(move || outside.join())).await.unwrap().unwrap();
}

const RETRIES: &str = r#"{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 3, "initialBackoff": "60s",
    "maxBackoff": "60s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}"#;

trait MapTimeout {
    fn map_timeout(self, timeout: Duration) -> Self;
}

impl<T> MapTimeout for tonic::Request<T> {
    fn map_timeout(mut self, timeout: Duration) -> Self {
        self.set_timeout(timeout);
        self
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_holds_although_the_task_that_made_the_call_had_used_up_its_turn() {
    const CALLS: usize = 100;
    let stage = Stage::new();
    let (server, _registration) = stage
        .raw("a", |mut peer: Peer| async move {
            peer.settings(&[]);
            peer.ignore().await;
        })
        .await;
    let channel = stage.channel(stage.builder(), 1).await;
    let caller = tokio::spawn(async move {
        let call = |_| {
            let mut client = echo(&channel);
            Box::pin(async move { client.unary(within(SOON, request())).await })
        };
        let mut calls: Vec<_> = (0..CALLS).map(call).collect();
        std::future::poll_fn(|cx| {
            while std::pin::pin!(tokio::task::consume_budget()).poll(cx).is_ready() {}
            calls.iter_mut().for_each(|call| assert!(call.as_mut().poll(cx).is_pending()));
            Poll::Ready(())
        })
        .await;
        // They are not polled again, and not dropped.
        in_time(server.until(|stats| stats.resets == CALLS)).await;
    });
    in_time(caller).await.unwrap();
}
