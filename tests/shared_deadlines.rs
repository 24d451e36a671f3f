//! Many calls that end at once, by a deadline that they share or because their callers give them up, beside others on the
//! same connection.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use callboard_echo::EchoServer;
use callboard_echo::pb::EchoRequest;
use common::{Stage, echo, endpoint, in_time, poll_once, request, slow, until, within};
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_one_deadline_that_all_run_out_harm_no_other_call_on_the_connection() {
    for round in 0..3 {
        let stage = Stage::new();
        let (server, _registration) = stage.limited("a", 200).await;
        let channel = stage.channel(stage.builder(), 1).await;
        let mut client = echo(&channel);
        let long = tokio::spawn(async move { client.unary(slow(3_000)).await });
        let mut client = echo(&channel);
        let (say, said) = tokio::sync::mpsc::unbounded_channel();
        let mut talk = client.bidirectional(tokio_stream_of(said)).await.unwrap().into_inner();
        until("both are there", || server.in_flight() == 2).await;
        let burst: Vec<_> = (0..600)
            .map(|_| {
                let mut client = echo(&channel);
                tokio::spawn(async move { client.unary(within(Duration::from_millis(500), slow(20_000))).await })
            })
            .collect();
        for call in burst {
            let status = in_time(call).await.unwrap().unwrap_err();
            assert_eq!(status.code(), Code::DeadlineExceeded, "{round}: {status:?}");
        }
        say.send(request()).unwrap();
        in_time(talk.message()).await.unwrap().unwrap();
        in_time(long).await.unwrap().unwrap();
        assert_eq!(server.accepted(), 1, "{round}: the connection has lasted");
        until("its calls have ended", || endpoint(&channel, "a").endpoint.in_flight() == 1).await;
        println!("{round}: {} of 600 were sent", server.calls() - 2);
    }
}

/// What is said, as a request's stream.
fn tokio_stream_of(
    mut said: tokio::sync::mpsc::UnboundedReceiver<EchoRequest>,
) -> impl futures_util::Stream<Item = EchoRequest> {
    futures_util::stream::poll_fn(move |cx| said.poll_recv(cx))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_that_are_given_up_at_once_harm_no_other_call_on_the_connection() {
    let stage = Stage::new();
    let (server, _registration) = stage.limited("a", 1_000).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let mut client = echo(&channel);
    let long = tokio::spawn(async move { client.unary(slow(8_000)).await });
    until("it is there", || server.in_flight() == 1).await;
    for _ in 0..5 {
        let mut calls: Vec<_> = (0..200)
            .map(|_| {
                let mut client = echo(&channel);
                Box::pin(async move { client.unary(slow(20_000)).await })
            })
            .collect();
        // Sent and given up in one turn of this task: the server meets both together.
        for call in &mut calls {
            assert!(poll_once(call).await.is_pending());
        }
        drop(calls);
        until("their places are free", || server.in_flight() == 1).await;
    }
    in_time(long).await.unwrap().unwrap();
    assert_eq!(server.accepted(), 1, "the connection has lasted");
}

/// A server on a thread of its own, which can be told to stand still.
struct Moody {
    address: std::net::SocketAddr,
    stand_still: std::sync::mpsc::Sender<Duration>,
}

impl Moody {
    fn start() -> Self {
        let (stand_still, orders) = std::sync::mpsc::channel::<Duration>();
        let (say, said) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let server = EchoServer::start("a").await.unwrap();
                say.send(server.address()).unwrap();
                // Until the test is over.
                while let Ok(time) = orders.recv_timeout(Duration::from_millis(1)).or_else(|error| match error {
                    std::sync::mpsc::RecvTimeoutError::Timeout => Ok(Duration::ZERO),
                    over => Err(over),
                }) {
                    std::thread::sleep(time);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
        });
        Self { address: said.recv().unwrap(), stand_still }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_does_not_meet_all_resets_at_once() {
    for still in [0, 200, 500, 800].map(Duration::from_millis) {
        let server = Moody::start();
        let stage = Stage::new();
        let _registration = stage.sign_in("a", server.address.try_into().unwrap(), 1).await;
        let channel = stage.channel(stage.builder(), 1).await;
        let mut client = echo(&channel);
        let innocent = tokio::spawn(async move { client.unary(slow(3_000)).await });
        in_time(echo(&channel).unary(request())).await.unwrap();
        server.stand_still.send(still).unwrap();
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let mut client = echo(&channel);
                tokio::spawn(async move { client.unary(within(Duration::from_millis(100), slow(3_000))).await })
            })
            .collect();
        for call in calls {
            let status = in_time(call).await.unwrap().unwrap_err();
            assert_eq!(status.code(), Code::DeadlineExceeded, "{still:?}: {status:?}");
        }
        let innocent = in_time(innocent).await.unwrap();
        println!("it stood still for {still:?}: the call beside them {:?}", innocent.as_ref().map(drop));
        innocent.unwrap();
    }
}
