//! Many streams, large ones, slow readers, and servers that do not read.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use callboard::ConnectivityState;
use callboard_echo::pb::EchoRequest;
use callboard_raw::{Event, Peer, RawServer, code, serve, setting};
use common::{PATIENCE, Stage, echo, endpoint, in_time, request, until, until_ready, within};
use futures_util::{StreamExt, stream};
use tokio::sync::{Notify, mpsc};
use tonic::Code;

/// Calls that are open at once on three connections. An unoptimised build takes seven seconds for 10,000.
const CALLS_AT_ONCE: usize = 10_000;

fn payload(length: usize) -> EchoRequest {
    EchoRequest { payload: vec![7; length], ..EchoRequest::default() }
}

/// Sends as much on each stream as the client's windows allow, and an answer on a stream whose request is small.
///
/// `filled` counts the streams whose windows are used up.
async fn flood(mut peer: Peer, filled: Arc<AtomicUsize>) {
    peer.settings(&[]);
    let (mut stream_window, mut connection_window) = (65_535_usize, 65_535_usize);
    let mut waiting = Vec::new();
    let chunk = [0; 16_384];
    while let Some(event) = peer.next().await {
        match event {
            Event::Settings(values) => {
                let window = values.iter().find(|(id, _)| *id == setting::INITIAL_WINDOW_SIZE);
                stream_window = window.map_or(stream_window, |(_, value)| *value as usize);
            }
            Event::Window { stream: 0, by } => connection_window += by as usize,
            Event::Data { stream, end: true, data } if data.len() > 100 => {
                peer.head(stream);
                if connection_window < 100 {
                    filled.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                let allowed = stream_window.min(connection_window);
                connection_window -= allowed;
                // The beginning of a message that is longer than all that.
                peer.data(stream, &[0, 0x7F, 0, 0, 0], false);
                let mut left = allowed.saturating_sub(5);
                while left > 0 {
                    let part = left.min(chunk.len());
                    peer.data(stream, &chunk[..part], false);
                    left -= part;
                }
                filled.fetch_add(1, Ordering::SeqCst);
            }
            Event::Data { stream, end: true, .. } => waiting.push(stream),
            _ => {}
        }
        if connection_window > 100 {
            for stream in waiting.drain(..) {
                connection_window -= 20;
                peer.answer(stream, "a");
            }
        }
    }
}

#[tokio::test]
async fn many_slow_readers_do_not_stall_the_others() {
    const READERS: usize = 64;
    let stage = Stage::new();
    let filled = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&filled);
    let (server, _registration) = stage.raw("a", move |peer| flood(peer, Arc::clone(&told))).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let mut streams = Vec::new();
    for _ in 0..READERS {
        // They have their response and do not read it.
        streams.push(in_time(echo(&channel).server_streaming(payload(200))).await.unwrap());
    }
    until("all windows are full", || filled.load(Ordering::SeqCst) == READERS).await;
    for _ in 0..20 {
        in_time(echo(&channel).unary(request())).await.unwrap();
    }
    assert_eq!((server.stats().accepted, server.stats().open), (1, READERS));
}

#[tokio::test]
async fn a_reader_that_stops_for_a_while_loses_nothing() {
    let stage = Stage::new();
    let (_server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    let message = EchoRequest { repeat: 64, ..payload(256 << 10) };
    let mut stopped = in_time(echo(&channel).server_streaming(message.clone())).await.unwrap().into_inner();
    in_time(stopped.next()).await.unwrap().unwrap();
    // Another one on the same connection reads all meanwhile.
    let reading = in_time(echo(&channel).server_streaming(message)).await.unwrap().into_inner();
    assert_eq!(in_time(reading.count()).await, 64);
    let rest: Vec<_> = in_time(stopped.collect()).await;
    assert_eq!(rest.len(), 63);
    assert!(rest.into_iter().all(|message| message.unwrap().payload.len() == 256 << 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_calls_at_once_share_three_connections() {
    let stage = Stage::new();
    let release = Arc::new(Notify::new());
    let script = |release: &Arc<Notify>| {
        let release = Arc::clone(release);
        move |mut peer: Peer| {
            let release = Arc::clone(&release);
            async move {
                peer.settings(&[]);
                let mut held = Vec::new();
                let released = release.notified();
                tokio::pin!(released);
                loop {
                    tokio::select! {
                        // Nothing more comes by then, so that no frame is cut.
                        () = &mut released => break,
                        request = peer.request() => match request {
                            Some(request) => held.push(request.stream),
                            None => return,
                        },
                    }
                }
                held.into_iter().for_each(|stream| peer.answer(stream, "a"));
                peer.ignore().await;
            }
        }
    };
    let servers = [
        stage.raw("a", script(&release)).await,
        stage.raw("b", script(&release)).await,
        stage.raw("c", script(&release)).await,
    ];
    let channel = stage.channel(stage.builder(), 3).await;
    let calls: Vec<_> = (0..CALLS_AT_ONCE)
        .map(|_| {
            let mut client = echo(&channel);
            tokio::spawn(async move { client.unary(request()).await })
        })
        .collect();
    let open = || servers.iter().map(|(server, _)| server.stats().open).sum::<usize>();
    until("all calls are with the servers", || open() == CALLS_AT_ONCE).await;
    // And their requests have come to their end.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let in_flight: u64 = channel.endpoints().iter().map(|status| status.endpoint.in_flight()).sum();
    assert_eq!(in_flight, CALLS_AT_ONCE as u64);
    release.notify_waiters();
    for call in calls {
        in_time(call).await.unwrap().unwrap();
    }
    assert_eq!((open(), servers.each_ref().map(|(server, _)| server.stats().accepted)), (0, [1; 3]));
    assert!(channel.endpoints().iter().all(|status| status.endpoint.in_flight() == 0));
}

#[tokio::test]
async fn a_server_that_never_reads_blocks_its_own_stream_alone_until_the_deadline() {
    let stage = Stage::new();
    let (server, _registration) = stage
        .raw("a", |mut peer: Peer| async move {
            peer.settings(&[]);
            peer.without_windows();
            // The connection's window is not what is tested.
            peer.window(0, 1 << 30);
            while let Some(event) = peer.next().await {
                if let Event::Data { stream, end: true, .. } = event {
                    peer.answer(stream, "a");
                }
            }
        })
        .await;
    let channel = stage.channel(stage.builder(), 1).await;
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let endless = stream::repeat_with(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        payload(64 << 10)
    });
    let mut blocked = tonic::Request::new(endless);
    blocked.set_timeout(Duration::from_millis(700));
    let begun = Instant::now();
    let mut client = echo(&channel);
    let blocked = tokio::spawn(async move { client.client_streaming(blocked).await });
    until("the stream is blocked", || taken.load(Ordering::SeqCst) > 1).await;
    for _ in 0..50 {
        in_time(echo(&channel).unary(request())).await.unwrap();
    }
    let status = in_time(blocked).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(begun.elapsed() >= Duration::from_millis(700));
    let taken = taken.load(Ordering::SeqCst);
    assert!(taken < 40, "{taken} messages of 64 KiB were taken from the caller although none could be sent");
    in_time(server.until(|stats| stats.resets == 1 && stats.open == 0)).await;
    assert_eq!(server.stats().accepted, 1);
}

/// Refuses each request on its first connection once it has come to its end, and tells all bodies.
async fn refuse(mut peer: Peer, bodies: mpsc::UnboundedSender<Vec<u8>>) {
    peer.settings(&[]);
    while let Some(request) = peer.request().await {
        bodies.send(request.body).unwrap();
        peer.reset(request.stream, code::REFUSED_STREAM);
    }
}

/// Answers each request, and tells its body.
async fn take(mut peer: Peer, bodies: mpsc::UnboundedSender<Vec<u8>>) {
    peer.settings(&[]);
    while let Some(request) = peer.request().await {
        bodies.send(request.body).unwrap();
        peer.answer(request.stream, "b");
    }
}

/// Messages that come one after the other, not all at once.
fn trickle(messages: usize, size: usize) -> impl futures_util::Stream<Item = EchoRequest> + Send + 'static {
    stream::unfold(0, move |sent| async move {
        tokio::task::yield_now().await;
        (sent < messages).then(|| (EchoRequest { payload: vec![sent as u8; size], ..EchoRequest::default() }, sent + 1))
    })
}

#[tokio::test]
async fn a_streamed_request_that_is_refused_is_sent_again_from_its_beginning() {
    let stage = Stage::new();
    let (first, mut refused) = mpsc::unbounded_channel();
    let (second, mut taken) = mpsc::unbounded_channel();
    let _a = stage.raw("a", move |peer| refuse(peer, first.clone())).await;
    let _b = stage.raw("b", move |peer| take(peer, second.clone())).await;
    let channel = stage.channel(stage.builder(), 2).await;
    for _ in 0..10 {
        let answer = in_time(echo(&channel).client_streaming(trickle(20, 10_000))).await.unwrap();
        assert_eq!(answer.into_inner().server, "b");
        let body = taken.recv().await.unwrap();
        assert!(body.len() > 200_000);
        // What the refusing server has seen of it, if it was asked, is the same.
        if let Ok(before) = refused.try_recv() {
            assert_eq!(before, body);
        }
    }
}

#[tokio::test]
async fn a_streamed_request_too_large_to_be_kept_fails_when_it_is_refused() {
    let stage = Stage::new();
    let (bodies, mut refused) = mpsc::unbounded_channel();
    let (a, _a) = stage.raw("a", move |peer| refuse(peer, bodies.clone())).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let status = in_time(echo(&channel).client_streaming(trickle(40, 10_000))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    for part in ["project/test", &a.address().to_string(), "REFUSED_STREAM"] {
        assert!(status.message().contains(part), "{part} in {status:?}");
    }
    assert!(refused.recv().await.unwrap().len() > 400_000);
    assert_eq!(a.stats().requests, 1);
}

#[tokio::test]
async fn a_request_that_is_refused_before_its_end_goes_on_elsewhere_with_nothing_lost() {
    let stage = Stage::new();
    let (second, mut taken) = mpsc::unbounded_channel();
    let (a, _a) = stage
        .raw("a", |mut peer: Peer| async move {
            peer.settings(&[]);
            while let Some(event) = peer.next().await {
                // In the middle of the body.
                if let Event::Data { stream, .. } = event {
                    peer.reset(stream, code::REFUSED_STREAM);
                }
            }
        })
        .await;
    let _b = stage.raw("b", move |peer| take(peer, second.clone())).await;
    let channel = stage.channel(stage.builder(), 2).await;
    let mut expected = None;
    for _ in 0..10 {
        in_time(echo(&channel).client_streaming(trickle(20, 10_000))).await.unwrap();
        let body = taken.recv().await.unwrap();
        assert_eq!(*expected.get_or_insert_with(|| body.clone()), body);
    }
    assert!(a.stats().requests > 0);
}

/// Bytes that this process has written to a port of 127.0.0.1 and that have not been acknowledged.
#[cfg(target_os = "linux")]
fn unacknowledged(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let to = format!("0100007F:{port:04X}");
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(2);
            let (remote, _state, queues) = (fields.next()?, fields.next()?, fields.next()?);
            (remote == to).then(|| u64::from_str_radix(queues.split_once(':')?.0, 16).ok())?
        })
        .sum()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn requests_that_could_not_be_written_are_sent_elsewhere_when_the_connection_dies() {
    let stage = Stage::new();
    let cut = Arc::new(Notify::new());
    let told = Arc::clone(&cut);
    // It opens its windows wide and then reads nothing, so that the client's socket fills up.
    let stuck = RawServer::start_narrow(move |mut peer: Peer| {
        let told = Arc::clone(&told);
        async move {
            peer.settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 30)]);
            peer.window(0, 1 << 30);
            peer.opened().await;
            told.notified().await;
            peer.cut();
        }
    })
    .await
    .unwrap();
    let _a = stage.sign_in("a", stuck.address().try_into().unwrap(), 1).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let spawn = |message: EchoRequest| {
        let mut client = echo(&channel);
        tokio::spawn(async move { client.unary(message).await })
    };
    let plug = spawn(payload(15 << 20));
    in_time(stuck.until(|stats| stats.open == 1)).await;
    let mut before = 0;
    in_time(async {
        // Full is what no longer grows.
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = unacknowledged(stuck.address().port());
            if now > 0 && now == before {
                break;
            }
            before = now;
        }
    })
    .await;
    let calls: Vec<_> = (0..50).map(|_| spawn(request())).collect();
    let given = || endpoint(&channel, "a").endpoint.in_flight();
    until("all calls are with the first server", || given() == 51).await;

    let (serving, _b) = stage.raw("b", |peer| serve("b", peer)).await;
    until_ready(&channel, 2).await;
    cut.notify_one();
    assert_eq!(in_time(plug).await.unwrap().unwrap_err().code(), Code::Unavailable, "half of it had been sent");
    for call in calls {
        assert_eq!(in_time(call).await.unwrap().unwrap().into_inner().server, "b");
    }
    assert_eq!((stuck.stats().requests, serving.stats().requests), (1, 50));
}

#[tokio::test]
async fn a_caller_that_sends_slowly_gets_its_answer_and_others_do_not_wait() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    let (sender, receiver) = mpsc::channel::<EchoRequest>(1);
    let messages = stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    let mut answers = in_time(echo(&channel).bidirectional(messages)).await.unwrap().into_inner();
    for index in 0..20_u8 {
        in_time(echo(&channel).unary(request())).await.unwrap();
        sender.send(EchoRequest { payload: vec![index], ..EchoRequest::default() }).await.unwrap();
        assert_eq!(in_time(answers.next()).await.unwrap().unwrap().payload, [index]);
    }
    drop(sender);
    assert!(in_time(answers.next()).await.is_none());
    assert_eq!(channel.state(), ConnectivityState::Ready);
    assert_eq!(server.accepted(), 1);
    let begun = Instant::now();
    let status = echo(&channel).unary(within(Duration::ZERO, request())).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(begun.elapsed() < PATIENCE / 4);
}

/// Opens the window of each stream by one byte at a time, whenever one has come.
async fn byte_by_byte(mut peer: Peer) {
    peer.settings(&[(setting::INITIAL_WINDOW_SIZE, 0)]);
    peer.without_windows();
    while let Some(event) = peer.next().await {
        match event {
            // At the beginning the client may still believe in the window that HTTP/2 begins with.
            Event::Request { stream, .. } => peer.window(stream, 1),
            Event::Data { stream, end: true, .. } => peer.answer(stream, "a"),
            Event::Data { stream, data, .. } => {
                assert!(data.len() <= 1);
                peer.window(0, 1);
                peer.window(stream, 1);
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_window_that_opens_byte_by_byte_is_used_byte_by_byte() {
    let stage = Stage::new();
    let (server, _registration) = stage.raw("a", byte_by_byte).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let (mut one, mut two) = (echo(&channel), echo(&channel));
    let unary = one.unary(payload(300));
    let streamed = two.client_streaming(trickle(10, 30));
    let (unary, streamed) = in_time(async { tokio::join!(unary, streamed) }).await;
    assert_eq!((unary.unwrap().into_inner().server, streamed.unwrap().into_inner().server), ("a".into(), "a".into()));
    assert_eq!(server.stats().accepted, 1);
}

#[tokio::test]
async fn a_window_that_shrinks_below_nothing_is_waited_for() {
    let stage = Stage::new();
    let (writers, mut given) = mpsc::unbounded_channel();
    let (server, _registration) = stage
        .raw("a", move |mut peer: Peer| {
            let writers = writers.clone();
            async move {
                peer.settings(&[]);
                peer.without_windows();
                let (mut received, mut shrunk) = (0, false);
                while let Some(event) = peer.next().await {
                    match event {
                        Event::Data { stream, end: true, .. } => peer.answer(stream, "a"),
                        Event::Data { stream, data, .. } => {
                            received += data.len();
                            // All that was allowed: from here on the stream's window is 65,535 below 0.
                            if received == 65_535 && !shrunk {
                                shrunk = true;
                                peer.window(0, 1 << 20);
                                peer.settings(&[(setting::INITIAL_WINDOW_SIZE, 0)]);
                                writers.send((peer.writer(), stream)).unwrap();
                            }
                        }
                        _ => {}
                    }
                }
            }
        })
        .await;
    let channel = stage.channel(stage.builder(), 1).await;
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.client_streaming(trickle(10, 10_000)).await });
    let (writer, stream) = in_time(given.recv()).await.unwrap();
    writer.window(stream, 65_535);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!call.is_finished());
    writer.window(stream, 1 << 20);
    in_time(call).await.unwrap().unwrap();
    assert_eq!(server.stats().accepted, 1);
}
