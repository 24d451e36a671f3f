//! Connections that end in an orderly way, requests that are refused, and streams that are reset.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use callboard_echo::pb::EchoRequest;
use callboard_raw::{Event, Peer, RawServer, Writer, code, serve, setting};
use common::{Stage, echo, in_time, quick, request, until, until_ready};
use tokio::sync::mpsc;
use tonic::Code;

/// The largest stream id: a GOAWAY with it refuses nothing that was sent.
const NOTHING_REFUSED: u32 = (1 << 31) - 1;

/// Hands the writers of its connections to the test, and answers from the second connection on.
async fn give_away(mut peer: Peer, writers: mpsc::UnboundedSender<(Writer, u32)>) {
    if peer.number() > 1 {
        return serve("again", peer).await;
    }
    peer.settings(&[]);
    while let Some(request) = peer.request().await {
        writers.send((peer.writer(), request.stream)).unwrap();
    }
}

#[tokio::test]
async fn after_a_graceful_goaway_streams_finish_and_the_connection_is_replaced_before_anyone_asks() {
    let stage = Stage::new();
    let (writers, mut given) = mpsc::unbounded_channel();
    let (server, _registration) = stage.raw("a", move |peer| give_away(peer, writers.clone())).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let mut client = echo(&channel);
    let running = tokio::spawn(async move { client.unary(request()).await });
    let (writer, stream) = in_time(given.recv()).await.unwrap();

    writer.go_away(NOTHING_REFUSED, code::NO_ERROR);
    // Nobody calls meanwhile.
    in_time(server.until(|stats| stats.accepted == 2)).await;
    until_ready(&channel, 1).await;
    let next = in_time(echo(&channel).unary(request())).await.unwrap();
    assert_eq!(next.into_inner().server, "again");

    assert!(!running.is_finished());
    writer.answer(stream, "first");
    assert_eq!(in_time(running).await.unwrap().unwrap().into_inner().server, "first");
    // Only the second connection is left once the first has nothing to do.
    in_time(server.until(|stats| stats.connections == 1)).await;
    assert_eq!(server.stats().requests, 2);
}

#[tokio::test]
async fn a_call_does_not_fail_in_the_gap_between_a_goaway_and_the_next_connection() {
    let stage = Stage::new();
    let (writers, mut given) = mpsc::unbounded_channel();
    let (_server, _registration) = stage.raw("a", move |peer| give_away(peer, writers.clone())).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let mut client = echo(&channel);
    let running = tokio::spawn(async move { client.unary(request()).await });
    let (writer, stream) = in_time(given.recv()).await.unwrap();
    writer.go_away(NOTHING_REFUSED, code::NO_ERROR);
    writer.answer(stream, "first");
    in_time(running).await.unwrap().unwrap();
    // At this moment the channel may or may not know; either way the call is answered.
    for _ in 0..20 {
        assert_eq!(in_time(echo(&channel).unary(request())).await.unwrap().into_inner().server, "again");
    }
}

#[tokio::test]
async fn requests_above_the_last_id_of_a_goaway_are_sent_again_once_each() {
    let stage = Stage::new();
    let (server, _registration) = stage
        .raw("a", |mut peer: Peer| async move {
            if peer.number() > 1 {
                return serve("again", peer).await;
            }
            peer.settings(&[]);
            let mut streams = Vec::new();
            while streams.len() < 10 {
                streams.push(peer.request().await.unwrap().stream);
            }
            streams.sort_unstable();
            peer.go_away(streams[4], code::NO_ERROR);
            streams.iter().take(5).for_each(|stream| peer.answer(*stream, "first"));
            peer.ignore().await;
        })
        .await;
    let channel = stage.channel(stage.builder().backoff(quick()).wait_for_ready(true), 1).await;
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let mut client = echo(&channel);
            tokio::spawn(async move { client.unary(request()).await.unwrap().into_inner().server })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(in_time(call).await.unwrap());
    }
    let of = |server: &str| answers.iter().filter(|answer| *answer == server).count();
    assert_eq!((of("first"), of("again")), (5, 5));
    assert_eq!(server.stats().requests, 15, "each of the five was sent once more, and no other");
}

/// Refuses every request.
async fn refuse(mut peer: Peer) {
    peer.settings(&[]);
    while let Some(request) = peer.request().await {
        peer.reset(request.stream, code::REFUSED_STREAM);
    }
}

#[tokio::test]
async fn what_one_server_refuses_another_one_answers() {
    let stage = Stage::new();
    let (refusing, _a) = stage.raw("a", refuse).await;
    let (serving, _b) = stage.raw("b", |peer| serve("b", peer)).await;
    let channel = stage.channel(stage.builder(), 2).await;
    for _ in 0..20 {
        let answer = in_time(echo(&channel).unary(request())).await.unwrap();
        assert_eq!(answer.into_inner().server, "b");
    }
    assert_eq!(serving.stats().requests, 20, "no request was answered twice");
    let refused = refusing.stats().requests;
    assert!((1..=20).contains(&refused), "round robin goes to both: {refused}");
}

#[tokio::test]
async fn a_second_refusal_is_final() {
    let stage = Stage::new();
    let (a, _a) = stage.raw("a", refuse).await;
    let (b, _b) = stage.raw("b", refuse).await;
    let (c, _c) = stage.raw("c", refuse).await;
    let channel = stage.channel(stage.builder(), 3).await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let message = status.message();
    for part in ["project/test", "endpoint 127.0.0.1:", "REFUSED_STREAM"] {
        assert!(message.contains(part), "{message}");
    }
    let mut requests = [&a, &b, &c].map(|server| server.stats().requests);
    requests.sort_unstable();
    assert_eq!(requests, [0, 1, 1], "twice in all, and not twice at the same one");
}

#[tokio::test]
async fn a_lone_server_may_answer_what_it_has_refused() {
    let stage = Stage::new();
    let (server, _registration) = stage
        .raw("a", |mut peer: Peer| async move {
            peer.settings(&[]);
            let first = peer.request().await.unwrap();
            peer.reset(first.stream, code::REFUSED_STREAM);
            while let Some(request) = peer.request().await {
                assert_eq!(request.body, first.body);
                peer.answer(request.stream, "a");
            }
        })
        .await;
    let channel = stage.channel(stage.builder(), 1).await;
    in_time(echo(&channel).unary(request())).await.unwrap();
    assert_eq!(server.stats().requests, 2);
}

#[tokio::test]
async fn each_reset_becomes_the_status_that_grpc_gives_it_and_is_not_repeated() {
    for (reason, expected, name) in [
        (code::NO_ERROR, Code::Internal, "NO_ERROR"),
        (code::PROTOCOL_ERROR, Code::Internal, "PROTOCOL_ERROR"),
        (code::INTERNAL_ERROR, Code::Internal, "INTERNAL_ERROR"),
        (code::FLOW_CONTROL_ERROR, Code::Internal, "FLOW_CONTROL_ERROR"),
        (code::CANCEL, Code::Cancelled, "CANCEL"),
        (code::ENHANCE_YOUR_CALM, Code::ResourceExhausted, "ENHANCE_YOUR_CALM"),
        (code::INADEQUATE_SECURITY, Code::PermissionDenied, "INADEQUATE_SECURITY"),
    ] {
        let stage = Stage::new();
        let (server, _registration) = stage
            .raw("a", move |mut peer: Peer| async move {
                peer.settings(&[]);
                while let Some(request) = peer.request().await {
                    peer.reset(request.stream, reason);
                }
            })
            .await;
        let channel = stage.channel(stage.builder(), 1).await;
        let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
        assert_eq!(status.code(), expected, "{name}: {status:?}");
        for part in ["project/test", &server.address().to_string(), name] {
            assert!(status.message().contains(part), "{part} in {}", status.message());
        }
        assert_eq!((server.stats().requests, server.stats().accepted), (1, 1), "{name}");
    }
}

#[tokio::test]
async fn a_reset_in_the_middle_of_a_response_is_not_repeated_whatever_its_reason() {
    for (reason, expected) in [(code::REFUSED_STREAM, Code::Unavailable), (code::INTERNAL_ERROR, Code::Internal)] {
        let stage = Stage::new();
        let (server, _registration) = stage
            .raw("a", move |mut peer: Peer| async move {
                peer.settings(&[]);
                while let Some(request) = peer.request().await {
                    peer.head(request.stream);
                    peer.data(request.stream, &[0, 0, 0], false);
                    peer.reset(request.stream, reason);
                }
            })
            .await;
        let (other, _b) = stage.raw("b", |peer| serve("b", peer)).await;
        let channel = stage.channel(stage.builder(), 2).await;
        let mut failures = Vec::new();
        for _ in 0..4 {
            failures.extend(in_time(echo(&channel).unary(request())).await.err());
        }
        assert_eq!(failures.iter().map(tonic::Status::code).collect::<Vec<_>>(), [expected; 2]);
        assert_eq!((server.stats().requests, other.stats().requests), (2, 2));
    }
}

#[tokio::test]
async fn a_streamed_request_above_the_last_id_goes_on_elsewhere_although_its_caller_says_nothing() {
    let stage = Stage::new();
    let (server, _registration) = stage
        .raw("a", |mut peer: Peer| async move {
            peer.settings(&[]);
            if peer.number() == 1 {
                peer.opened().await;
                peer.go_away(0, code::NO_ERROR);
                return peer.ignore().await;
            }
            // Answers although the request has not ended.
            while let Some(stream) = peer.opened().await {
                peer.answer(stream, "again");
            }
        })
        .await;
    let channel = stage.channel(stage.builder().backoff(quick()).wait_for_ready(true), 1).await;
    let silent = futures_util::stream::pending();
    let answer = in_time(echo(&channel).client_streaming(silent)).await.unwrap();
    assert_eq!((answer.into_inner().server.as_str(), server.stats().requests), ("again", 2));
}

#[tokio::test]
async fn a_whole_answer_counts_although_the_stream_is_reset_behind_it() {
    let stage = Stage::new();
    // What a server may do that needs no more of the request: RFC 9113, 8.1.
    let (_server, _registration) = stage
        .raw("a", |mut peer: Peer| async move {
            peer.settings(&[]);
            while let Some(stream) = peer.opened().await {
                peer.answer(stream, "a");
                peer.reset(stream, code::NO_ERROR);
            }
        })
        .await;
    let channel = stage.channel(stage.builder(), 1).await;
    for _ in 0..20 {
        let endless = futures_util::stream::pending();
        let answer = in_time(echo(&channel).client_streaming(endless)).await.unwrap();
        assert_eq!(answer.into_inner().server, "a");
    }
}

#[tokio::test]
async fn a_server_that_is_told_too_much_ends_its_calls_with_unavailable_and_its_words() {
    let stage = Stage::new();
    let (server, _registration) = stage
        .raw("a", |mut peer: Peer| async move {
            if peer.number() > 1 {
                return serve("again", peer).await;
            }
            peer.settings(&[]);
            let stream = peer.request().await.unwrap().stream;
            // It counts as processed.
            peer.go_away(stream, code::ENHANCE_YOUR_CALM);
        })
        .await;
    let channel = stage.channel(stage.builder().backoff(quick()), 1).await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("ENHANCE_YOUR_CALM"), "{status:?}");
    assert_eq!(server.stats().requests, 1, "it may have been processed, so it is not sent again");
    until_ready(&channel, 1).await;
    in_time(echo(&channel).unary(request())).await.unwrap();
}

/// Sends a graceful GOAWAY after every so many requests, and answers all that come.
async fn short_lived(mut peer: Peer, requests: usize) {
    peer.settings(&[]);
    let mut answered = 0;
    while let Some(event) = peer.next().await {
        let (Event::Request { stream, end: true } | Event::Data { stream, end: true, .. }) = event else { continue };
        answered += 1;
        if answered == requests {
            peer.go_away(NOTHING_REFUSED, code::NO_ERROR);
        }
        peer.answer(stream, "a");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_all_connections_end_gracefully_again_and_again() {
    const CALLERS: usize = 32;
    const CALLS: usize = 100;
    let stage = Stage::new();
    let servers = [
        stage.raw("a", |peer| short_lived(peer, 100)).await,
        stage.raw("b", |peer| short_lived(peer, 110)).await,
        stage.raw("c", |peer| short_lived(peer, 120)).await,
    ];
    let channel = stage.channel(stage.builder().backoff(quick()).wait_for_ready(true), 3).await;
    let answered = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (mut client, answered) = (echo(&channel), Arc::clone(&answered));
            tokio::spawn(async move {
                for _ in 0..CALLS {
                    client.unary(request()).await.unwrap();
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for caller in callers {
        in_time(caller).await.unwrap();
    }
    assert_eq!(answered.load(Ordering::Relaxed), CALLERS * CALLS);
    let requests: usize = servers.iter().map(|(server, _)| server.stats().requests).sum();
    assert_eq!(requests, CALLERS * CALLS, "and none was sent twice");
    let accepted: usize = servers.iter().map(|(server, _)| server.stats().accepted).sum();
    assert!(accepted > 10, "the connections did end: {accepted}");
    until("old connections are closed", || {
        servers.iter().map(|(server, _)| server.stats().connections).sum::<usize>() <= 3
    })
    .await;
}

/// A server that ends while a client still writes answers that with a reset, and what it has said before is there to be
/// read. The PING lets the client write before it reads.
#[tokio::test]
async fn a_goaway_is_heard_although_the_connection_can_not_be_written_any_more() {
    const LARGE: usize = 15 << 20;
    let stage = Stage::new();
    let script = |mut peer: Peer| async move {
        if peer.number() > 1 {
            return serve("again", peer).await;
        }
        peer.settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 30)]);
        peer.window(0, 1 << 30);
        peer.opened().await;
        // By then all queues on the way are full, and nobody reads them.
        tokio::time::sleep(Duration::from_millis(200)).await;
        peer.ping([7; 8]);
        peer.go_away(0, code::NO_ERROR);
    };
    let server = RawServer::start_narrow(script).await.unwrap();
    let _registration = stage.sign_in("a", server.address().try_into().unwrap(), 1).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let large = EchoRequest { payload: vec![0; LARGE], ..EchoRequest::default() };
    let answer = in_time(echo(&channel).unary(large)).await.unwrap();
    assert_eq!(answer.into_inner().server, "again");
}
