//! Streams in both directions, and large messages.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use callboard::{Channel, Registration, ServedBy};
use callboard_echo::EchoServer;
use callboard_echo::pb::EchoRequest;
use common::{Stage, echo, endpoint, in_time, request, slow, until};
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

const MIB: usize = 1 << 20;

async fn one_server() -> (Stage, EchoServer, Registration, Channel) {
    let stage = Stage::new();
    let (server, registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    (stage, server, registration, channel)
}

/// A payload in which every stretch is different.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index ^ (index >> 8) ^ (index >> 16)) as u8).collect()
}

fn message(payload: Vec<u8>) -> EchoRequest {
    EchoRequest { payload, ..EchoRequest::default() }
}

/// Everything that calls have taken is given back.
async fn assert_nothing_is_left(server: &EchoServer, channel: &Channel) {
    until("the server is at rest", || server.in_flight() == 0).await;
    until("the endpoint is at rest", || endpoint(channel, "a").endpoint.in_flight() == 0).await;
    assert_eq!(server.accepted(), 1, "one connection did it all");
    echo(channel).unary(request()).await.unwrap();
}

#[tokio::test]
async fn a_server_streams() {
    let (_stage, server, _registration, channel) = one_server().await;
    let response = echo(&channel).server_streaming(EchoRequest { repeat: 5, ..request() }).await.unwrap();
    assert!(response.extensions().get::<ServedBy>().is_some());
    let answers: Vec<_> = response.into_inner().collect().await;
    assert_eq!(answers.len(), 5);
    assert!(answers.into_iter().all(|answer| answer.unwrap().payload == b"ping"));
    assert_nothing_is_left(&server, &channel).await;
}

#[tokio::test]
async fn a_client_streams() {
    let (_stage, server, _registration, channel) = one_server().await;
    let requests = stream::iter(0..10u8).map(|index| message(vec![index]));
    let answer = echo(&channel).client_streaming(requests).await.unwrap().into_inner();
    assert_eq!(answer.payload, (0..10).collect::<Vec<u8>>());
    assert_nothing_is_left(&server, &channel).await;
}

#[tokio::test]
async fn a_client_that_streams_nothing_is_answered() {
    let (_stage, server, _registration, channel) = one_server().await;
    let answer = echo(&channel).client_streaming(stream::iter([])).await.unwrap().into_inner();
    assert!(answer.payload.is_empty());
    let answers = echo(&channel).bidirectional(stream::iter([])).await.unwrap().into_inner();
    assert_eq!(answers.count().await, 0);
    assert_nothing_is_left(&server, &channel).await;
}

#[tokio::test]
async fn both_sides_stream_and_each_message_is_answered_before_the_next() {
    let (_stage, server, _registration, channel) = one_server().await;
    let (requests, body) = mpsc::channel(1);
    let mut answers = echo(&channel).bidirectional(ReceiverStream::new(body)).await.unwrap().into_inner();
    for index in 0..20u8 {
        requests.send(message(vec![index])).await.unwrap();
        let answer = in_time(answers.message()).await.unwrap().expect("an answer");
        assert_eq!(answer.payload, [index]);
    }
    assert_eq!(endpoint(&channel, "a").endpoint.in_flight(), 1);
    drop(requests);
    assert!(in_time(answers.message()).await.unwrap().is_none());
    assert_nothing_is_left(&server, &channel).await;
}

#[tokio::test]
async fn four_mebibytes_go_both_ways() {
    let (_stage, server, _registration, channel) = one_server().await;
    let payload = bytes(4 * MIB);
    let answer = in_time(echo(&channel).unary(message(payload.clone()))).await.unwrap().into_inner();
    assert!(answer.payload == payload);
    assert_nothing_is_left(&server, &channel).await;
}

#[tokio::test]
async fn a_request_larger_than_every_window_is_sent() {
    let (_stage, server, _registration, channel) = one_server().await;
    let payload = bytes(MIB);
    let requests = stream::iter(vec![message(payload.clone()); 15]);
    let answer = in_time(echo(&channel).client_streaming(requests)).await.unwrap().into_inner();
    assert!(answer.payload == payload.repeat(15));
    assert_nothing_is_left(&server, &channel).await;
}

#[tokio::test]
async fn a_response_larger_than_every_window_is_read() {
    let (_stage, server, _registration, channel) = one_server().await;
    let all = EchoRequest { repeat: 72, ..message(bytes(MIB)) };
    let mut answers = in_time(echo(&channel).server_streaming(all)).await.unwrap().into_inner();
    let mut count = 0;
    while let Some(answer) = in_time(answers.message()).await.unwrap() {
        assert_eq!(answer.payload.len(), MIB);
        count += 1;
    }
    assert_eq!(count, 72);
    assert_nothing_is_left(&server, &channel).await;
}

#[tokio::test]
async fn both_sides_stream_large_messages() {
    let (_stage, server, _registration, channel) = one_server().await;
    let payload = bytes(4 * MIB);
    let requests = stream::iter(vec![message(payload.clone()); 4]);
    let mut answers = in_time(echo(&channel).bidirectional(requests)).await.unwrap().into_inner();
    for _ in 0..4 {
        let answer = in_time(answers.message()).await.unwrap().expect("an answer");
        assert!(answer.payload == payload);
    }
    assert!(in_time(answers.message()).await.unwrap().is_none());
    assert_nothing_is_left(&server, &channel).await;
}

#[tokio::test]
async fn a_response_that_nobody_reads_does_not_hold_up_other_calls() {
    let (_stage, server, _registration, channel) = one_server().await;
    let all = EchoRequest { repeat: 100, ..message(bytes(MIB)) };
    let unread = in_time(echo(&channel).server_streaming(all)).await.unwrap();
    let begun = Instant::now();
    for _ in 0..50 {
        in_time(echo(&channel).unary(request())).await.unwrap();
    }
    in_time(echo(&channel).unary(message(bytes(4 * MIB)))).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop(unread);
    assert_nothing_is_left(&server, &channel).await;
}

#[tokio::test]
async fn a_server_that_reads_slowly_holds_the_client_back() {
    let (_stage, server, _registration, channel) = one_server().await;
    let (requests, body) = mpsc::channel(1);
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.client_streaming(ReceiverStream::new(body)).await });
    // The server thinks after the first message and reads no other one meanwhile.
    requests.send(slow(15_000)).await.unwrap();
    until("the server thinks", || server.in_flight() == 1).await;
    let mut sent = 0;
    while sent < 64 {
        let send = requests.send(message(vec![0; MIB]));
        if tokio::time::timeout(Duration::from_millis(300), send).await.is_err() {
            break;
        }
        sent += 1;
    }
    assert!(sent > 0 && sent < 16, "{sent} MiB were taken from the caller");
    let begun = Instant::now();
    call.abort();
    assert_nothing_is_left(&server, &channel).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    in_time(requests.closed()).await;
}

#[tokio::test]
async fn a_request_that_fails_in_the_middle_fails_the_call_with_its_own_status() {
    let (_stage, server, _registration, channel) = one_server().await;
    let mut client = echo(&channel).max_encoding_message_size(1_000);
    let (requests, body) = mpsc::channel(1);
    let call = tokio::spawn(async move { client.client_streaming(ReceiverStream::new(body)).await });
    requests.send(request()).await.unwrap();
    until("the server has begun", || server.in_flight() == 1).await;
    requests.send(message(vec![0; 2_000])).await.unwrap();
    let status = in_time(call).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert_nothing_is_left(&server, &channel).await;
}

#[tokio::test]
async fn a_request_that_fails_while_the_response_is_read_fails_the_call_with_its_own_status() {
    let (_stage, server, _registration, channel) = one_server().await;
    let mut client = echo(&channel).max_encoding_message_size(1_000);
    let (requests, body) = mpsc::channel(1);
    let mut answers = client.bidirectional(ReceiverStream::new(body)).await.unwrap().into_inner();
    requests.send(request()).await.unwrap();
    in_time(answers.message()).await.unwrap().expect("an answer");
    requests.send(message(vec![0; 2_000])).await.unwrap();
    let status = in_time(answers.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert_nothing_is_left(&server, &channel).await;
}

#[tokio::test]
async fn a_request_that_fails_at_its_first_message_is_not_sent() {
    let (_stage, server, _registration, channel) = one_server().await;
    let mut client = echo(&channel).max_encoding_message_size(1_000);
    let status = in_time(client.unary(message(vec![0; 2_000]))).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn a_request_that_panics_fails_the_call_and_nothing_else() {
    let (_stage, server, _registration, channel) = one_server().await;
    let (begin, begun) = tokio::sync::oneshot::channel::<()>();
    let requests = stream::once(async { request() }).chain(stream::once(async {
        begun.await.unwrap();
        panic!("on purpose")
    }));
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.client_streaming(requests).await });
    until("the server has begun", || server.in_flight() == 1).await;
    begin.send(()).unwrap();
    let status = in_time(call).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Internal, "{status:?}");
    assert!(status.message().contains("panicked"), "{status:?}");
    assert_nothing_is_left(&server, &channel).await;
}

#[tokio::test]
async fn a_server_that_answers_before_the_request_has_ended_ends_it() {
    let stage = Stage::new();
    let server = common::scripted::Scripted::start(|_| unreachable!()).await;
    let _registration = stage.sign_in("a", server.address.try_into().unwrap(), 1).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let (requests, body) = mpsc::channel(1);
    requests.send(request()).await.unwrap();
    // It answers "unimplemented" without reading anything.
    let status = in_time(echo(&channel).client_streaming(ReceiverStream::new(body))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    in_time(requests.closed()).await;
    assert_eq!(endpoint(&channel, "a").endpoint.in_flight(), 0);
}
