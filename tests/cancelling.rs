//! Calls that their callers give up.

mod common;

use std::time::{Duration, Instant};

use callboard_echo::pb::EchoRequest;
use common::{Stage, echo, endpoint, in_time, request, slow, tasks, until};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// An answer that nobody waits for.
const LATE: u32 = 15_000;
const EARLY: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_call_that_is_dropped_ends_on_the_server_and_frees_its_place() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.unary(slow(LATE)).await });
    until("it has arrived", || server.in_flight() == 1).await;
    assert_eq!(endpoint(&channel, "a").endpoint.in_flight(), 1);
    let begun = Instant::now();
    call.abort();
    until("the server has stopped", || server.in_flight() == 0).await;
    assert!(begun.elapsed() < EARLY);
    assert_eq!(endpoint(&channel, "a").endpoint.in_flight(), 0);
    echo(&channel).unary(request()).await.unwrap();
    assert_eq!(server.accepted(), 1, "the connection stays");
}

#[tokio::test]
async fn a_response_that_is_dropped_half_way_ends_on_the_server_and_frees_its_place() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    let endless = EchoRequest { repeat: u32::MAX, ..slow(5) };
    let mut answers = echo(&channel).server_streaming(endless).await.unwrap().into_inner();
    for _ in 0..2 {
        answers.message().await.unwrap().expect("an answer");
    }
    assert_eq!(endpoint(&channel, "a").endpoint.in_flight(), 1);
    let begun = Instant::now();
    drop(answers);
    assert_eq!(endpoint(&channel, "a").endpoint.in_flight(), 0);
    until("the server has stopped", || server.in_flight() == 0).await;
    assert!(begun.elapsed() < EARLY);
    echo(&channel).unary(request()).await.unwrap();
    assert_eq!(server.accepted(), 1, "the connection stays");
}

#[tokio::test]
async fn a_call_with_a_streamed_request_that_is_dropped_leaves_no_task() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    echo(&channel).unary(request()).await.unwrap();
    until("the server is at rest", || server.in_flight() == 0).await;
    let before = tasks();
    let (requests, body) = mpsc::channel(1);
    let mut client = echo(&channel);
    let unanswered = tokio::spawn(async move { client.client_streaming(ReceiverStream::new(body)).await });
    requests.send(request()).await.unwrap();
    until("it has arrived", || server.in_flight() == 1).await;
    let (more_requests, body) = mpsc::channel(1);
    let answers = echo(&channel).bidirectional(ReceiverStream::new(body)).await.unwrap();
    let begun = Instant::now();
    unanswered.abort();
    drop(answers);
    in_time(requests.closed()).await;
    in_time(more_requests.closed()).await;
    until("the server has stopped", || server.in_flight() == 0).await;
    assert!(begun.elapsed() < EARLY);
    until("the tasks are gone", || tasks() <= before).await;
    assert_eq!(endpoint(&channel, "a").endpoint.in_flight(), 0);
    assert_eq!(server.accepted(), 1, "the connection stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_that_are_dropped_at_any_moment_leave_nothing() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    echo(&channel).unary(request()).await.unwrap();
    let before = tasks();
    for round in 0..20 {
        let calls: Vec<_> = (0..10u64)
            .map(|call| {
                let mut client = echo(&channel);
                let give_up = Duration::from_micros(call * 150 + round * 40);
                tokio::spawn(async move { drop(tokio::time::timeout(give_up, client.unary(slow(2))).await) })
            })
            .collect();
        for call in calls {
            in_time(call).await.unwrap();
        }
    }
    until("the endpoint is at rest", || endpoint(&channel, "a").endpoint.in_flight() == 0).await;
    until("the server is at rest", || server.in_flight() == 0).await;
    until("the tasks are gone", || tasks() <= before).await;
    in_time(echo(&channel).unary(request())).await.unwrap();
}
