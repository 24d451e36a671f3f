//! Calls that may be repeated after their connection was lost.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use callboard::{Channel, Idempotent, Registration, ServedBy};
use callboard_echo::EchoServer;
use callboard_echo::pb::EchoRequest;
use callboard_raw::{Peer, serve};
use common::{Stage, echo, endpoint, in_time, quick, request, slow, until, until_ready};
use futures_util::stream;
use tokio::sync::mpsc;
use tonic::{Code, IntoStreamingRequest, Request};

fn repeatable<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Idempotent);
    request
}

/// Cuts its connection once a request has come to its end.
async fn cut(mut peer: Peer) {
    peer.settings(&[]);
    if peer.request().await.is_some() {
        peer.cut();
    }
}

/// Begins to answer each request, with a message if it is told to, and then cuts its connection.
async fn cut_half_way(mut peer: Peer, message: bool) {
    peer.settings(&[]);
    let Some(request) = peer.request().await else { return };
    peer.head(request.stream);
    if message {
        peer.message(request.stream, "half");
    }
    // Until that has been written: the client hears it before the end.
    tokio::time::sleep(Duration::from_millis(100)).await;
    peer.cut();
}

/// Two servers and a channel to them.
async fn two(stage: &Stage) -> ([(EchoServer, Registration); 2], Channel) {
    let servers = [stage.server("a").await, stage.server("b").await];
    let channel = stage.channel(stage.builder().backoff(quick()), 2).await;
    (servers, channel)
}

/// Kills the one of the two that has a call, and gives the other one. Both stay on the board.
async fn kill_the_busy_one([(a, one), (b, two)]: [(EchoServer, Registration); 2]) -> (EchoServer, [Registration; 2]) {
    until("a call has arrived", || a.in_flight() + b.in_flight() == 1).await;
    let (busy, idle) = if a.in_flight() == 1 { (a, b) } else { (b, a) };
    busy.kill().await;
    (idle, [one, two])
}

#[tokio::test]
async fn a_call_that_may_be_repeated_is_sent_again_elsewhere_when_its_server_is_killed() {
    let stage = Stage::new();
    let (servers, channel) = two(&stage).await;
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.unary(repeatable(slow(1_000))).await });
    let (left, _registrations) = kill_the_busy_one(servers).await;
    let answer = in_time(call).await.unwrap().unwrap();
    let served_by = answer.extensions().get::<ServedBy>().unwrap().0.instance().id().to_owned();
    assert_eq!((answer.get_ref().payload.as_slice(), answer.get_ref().server.as_str()), (&b"ping"[..], left.id()));
    assert_eq!((served_by.as_str(), left.calls()), (left.id(), 1));
    for id in ["a", "b"] {
        assert_eq!(endpoint(&channel, id).endpoint.in_flight(), 0);
        assert_eq!(endpoint(&channel, id).endpoint.calls(), 1, "each attempt counts where it was made");
    }
}

#[tokio::test]
async fn a_streamed_request_that_may_be_repeated_is_sent_again_from_its_beginning() {
    let stage = Stage::new();
    let (servers, channel) = two(&stage).await;
    let part = |part: &str| EchoRequest { payload: part.into(), delay_ms: 500, ..EchoRequest::default() };
    let mut parts = stream::iter([part("ab"), part("cd"), part("ef")]).into_streaming_request();
    parts.extensions_mut().insert(Idempotent);
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.client_streaming(parts).await });
    let (left, _registrations) = kill_the_busy_one(servers).await;
    let answer = in_time(call).await.unwrap().unwrap().into_inner();
    assert_eq!((answer.payload.as_slice(), answer.server.as_str()), (&b"abcdef"[..], left.id()));
}

#[tokio::test]
async fn a_call_that_does_not_say_so_is_not_repeated() {
    let stage = Stage::new();
    let (servers, channel) = two(&stage).await;
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.unary(slow(1_000)).await });
    let (left, _registrations) = kill_the_busy_one(servers).await;
    let status = in_time(call).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("project/test"), "{status:?}");
    assert_eq!(left.calls(), 0);
}

#[tokio::test]
async fn nothing_is_repeated_once_the_response_has_begun() {
    for message in [false, true] {
        let stage = Stage::new();
        let script = move |peer| cut_half_way(peer, message);
        let servers = [stage.raw("a", script).await, stage.raw("b", script).await];
        let channel = stage.channel(stage.builder().backoff(quick()), 2).await;
        let unary = in_time(echo(&channel).unary(repeatable(request()))).await.unwrap_err();
        until_ready(&channel, 2).await;
        let many = EchoRequest { repeat: 2, ..request() };
        let mut answers = in_time(echo(&channel).server_streaming(repeatable(many))).await.unwrap().into_inner();
        if message {
            assert_eq!(in_time(answers.message()).await.unwrap().unwrap().server, "half");
        }
        let streamed = in_time(answers.message()).await.unwrap_err();
        for status in [unary, streamed] {
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        }
        let requests: usize = servers.iter().map(|(server, _)| server.stats().requests).sum();
        assert_eq!(requests, 2, "one for each call");
    }
}

#[tokio::test]
async fn a_call_is_repeated_four_times_at_most_and_each_time_elsewhere() {
    let stage = Stage::new();
    let (order, mut tried) = mpsc::unbounded_channel();
    let mut servers = Vec::new();
    for id in ["a", "b", "c", "d", "e", "f"] {
        let order = order.clone();
        let script = move |mut peer: Peer| {
            let order = order.clone();
            async move {
                peer.settings(&[]);
                if peer.request().await.is_some() {
                    order.send(id).unwrap();
                    peer.cut();
                }
            }
        };
        servers.push(stage.raw(id, script).await);
    }
    let channel = stage.channel(stage.builder(), 6).await;
    let status = in_time(echo(&channel).unary(repeatable(request()))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("endpoint 127.0.0.1:"), "{status:?}");
    let tried: Vec<_> = std::iter::from_fn(|| tried.try_recv().ok()).collect();
    assert_eq!(tried.len(), 5, "{tried:?}");
    assert!(tried.windows(2).all(|pair| pair[0] != pair[1]), "{tried:?}");
}

#[tokio::test]
async fn a_repeated_call_avoids_the_server_that_it_was_lost_on() {
    let stage = Stage::new();
    let (losing, _a) = stage.raw("a", cut).await;
    let (serving, _b) = stage.raw("b", |peer| serve("b", peer)).await;
    let channel = stage.channel(stage.builder().backoff(quick()), 2).await;
    for call in 1..=10 {
        let answer = in_time(echo(&channel).unary(repeatable(request()))).await.unwrap();
        assert_eq!(answer.into_inner().server, "b");
        assert_eq!(serving.stats().requests, call);
        until_ready(&channel, 2).await;
    }
    let lost = losing.stats().requests;
    assert!((3..=10).contains(&lost), "it had its share of first attempts: {lost}");
}

#[tokio::test]
async fn a_deadline_covers_all_attempts() {
    let stage = Stage::new();
    let late = |mut peer: Peer| async move {
        peer.settings(&[]);
        if peer.request().await.is_some() {
            tokio::time::sleep(Duration::from_millis(300)).await;
            peer.cut();
        }
    };
    let servers = [stage.raw("a", late).await, stage.raw("b", late).await, stage.raw("c", late).await];
    let channel = stage.channel(stage.builder(), 3).await;
    let (begun, deadline) = (Instant::now(), Duration::from_millis(500));
    let mut request = repeatable(request());
    request.set_timeout(deadline);
    let status = in_time(echo(&channel).unary(request)).await.unwrap_err();
    let took = begun.elapsed();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(took >= deadline && took < deadline + Duration::from_millis(400), "{took:?}");
    let requests: usize = servers.iter().map(|(server, _)| server.stats().requests).sum();
    assert_eq!(requests, 2, "the second attempt was under way");
}
