//! The service's config says how large messages may be: gRPC's `maxRequestMessageBytes` and `maxResponseMessageBytes`.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use callboard::{CallError, Channel};
use callboard_echo::pb::EchoRequest;
use common::{Stage, echo, in_time, request, until, until_config};
use futures_util::stream;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Status};

/// A config of these limits for all methods.
fn limits(says: &str) -> String {
    format!(r#"{{"methodConfig": [{{"name": [{{}}], {says}}}]}}"#)
}

/// A message that is so long on the wire: a tag, a length of one or two bytes, and the payload.
fn message(encoded: usize) -> EchoRequest {
    let payload = encoded - if encoded > 129 { 3 } else { 2 };
    EchoRequest { payload: vec![b'x'; payload], ..EchoRequest::default() }
}

async fn under(stage: &Stage, says: &str) -> Channel {
    let config = limits(says);
    stage.put_service_config(Some(&config)).await;
    let channel = stage.channel(stage.builder(), 1).await;
    until_config(&channel, Some(&config)).await;
    channel
}

/// The call has failed by this limit, and says so.
fn exhausted(status: &Status, field: &str, says: &str) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains(field) && status.message().contains(says), "{status}");
    assert!(CallError::of(status).is_some(), "no server has said it: {status:?}");
}

#[tokio::test]
async fn a_request_that_is_too_large_is_not_sent() {
    let stage = Stage::new();
    let (server, _a) = stage.server("a").await;
    let channel = under(&stage, r#""maxRequestMessageBytes": 1000"#).await;
    in_time(echo(&channel).unary(message(1000))).await.expect("as large as it may be");
    let status = in_time(echo(&channel).unary(message(1001))).await.unwrap_err();
    exhausted(&status, "maxRequestMessageBytes", "1001 bytes");
    assert_eq!(server.calls(), 1, "it was not sent");
}

#[tokio::test]
async fn each_message_of_a_stream_counts_by_itself() {
    let stage = Stage::new();
    let (server, _a) = stage.server("a").await;
    let channel = under(&stage, r#""maxRequestMessageBytes": 1000"#).await;
    let many = stream::iter(std::iter::repeat_n(message(1000), 500));
    in_time(echo(&channel).client_streaming(many)).await.expect("together they may be larger");

    // Two are with the server before the one that is too large comes.
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let messages = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut answers = in_time(echo(&channel).bidirectional(messages)).await.unwrap().into_inner();
    for _ in 0..2 {
        sender.send(message(1000)).await.unwrap();
        in_time(answers.message()).await.unwrap().expect("an answer");
    }
    sender.send(message(1001)).await.unwrap();
    let status = in_time(answers.message()).await.unwrap_err();
    exhausted(&status, "maxRequestMessageBytes", "1001 bytes");
    until("the server is rid of the call", || server.in_flight() == 0).await;
    in_time(echo(&channel).unary(request())).await.expect("the connection and its other calls go on");
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_response_that_is_too_large_fails_the_call_when_its_length_is_known() {
    let stage = Stage::new();
    let (server, _a) = stage.server("a").await;
    // The answer has 3 bytes more: who has given it.
    let channel = under(&stage, r#""maxResponseMessageBytes": 1003"#).await;
    in_time(echo(&channel).unary(message(1000))).await.expect("as large as it may be");
    let status = in_time(echo(&channel).unary(message(1001))).await.unwrap_err();
    exhausted(&status, "maxResponseMessageBytes", "1004 bytes");

    let stream = |encoded, repeat| EchoRequest { repeat, ..message(encoded) };
    let mut fine = in_time(echo(&channel).server_streaming(stream(998, 300))).await.unwrap().into_inner();
    let mut heard = 0;
    while in_time(fine.message()).await.expect("each by itself is small enough").is_some() {
        heard += 1;
    }
    assert_eq!(heard, 300);
    let mut large = in_time(echo(&channel).server_streaming(stream(5_000_000, 300))).await.unwrap().into_inner();
    exhausted(&in_time(large.message()).await.unwrap_err(), "maxResponseMessageBytes", "bytes");
    until("the server is rid of the call", || server.in_flight() == 0).await;
    assert_eq!(server.accepted(), 1, "no other call has suffered");
}

#[tokio::test]
async fn what_is_sent_counts_after_compression() {
    let stage = Stage::new();
    let (_server, _a) = stage.server("a").await;
    let channel = under(&stage, r#""maxRequestMessageBytes": 1000"#).await;
    let mut client = echo(&channel).send_compressed(CompressionEncoding::Gzip);
    // The server takes no compressed messages, and says so: it has been sent.
    let status = in_time(client.unary(message(100_000))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "{status}");
}

#[tokio::test]
async fn no_bytes_at_all_is_a_limit_too() {
    let stage = Stage::new();
    let (_server, _a) = stage.server("a").await;
    let channel = under(&stage, r#""maxRequestMessageBytes": 0"#).await;
    in_time(echo(&channel).unary(EchoRequest::default())).await.expect("an empty message");
    exhausted(&in_time(echo(&channel).unary(request())).await.unwrap_err(), "maxRequestMessageBytes", "6 bytes");
}
