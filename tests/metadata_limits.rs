//! Request metadata that a server does not take ends its own call, and no other.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use callboard::{CallError, Channel, ConnectivityState, Phase};
use callboard_echo::pb::{EchoRequest, EchoResponse};
use callboard_raw::{Peer, Writer};
use common::{Stage, echo, endpoint, in_time, request, slow, until};
use tokio::sync::mpsc;
use tonic::{Code, Request, Response, Status};

/// SETTINGS_MAX_HEADER_LIST_SIZE.
const MAX_HEADER_LIST_SIZE: u16 = 6;

/// A request with so many bytes of metadata.
fn with_metadata(bytes: usize) -> Request<EchoRequest> {
    let mut request = Request::new(request());
    request.metadata_mut().insert("big", "x".repeat(bytes).parse().unwrap());
    request
}

async fn call(channel: &Channel, bytes: usize) -> Result<Response<EchoResponse>, Status> {
    in_time(echo(channel).unary(with_metadata(bytes))).await
}

/// How large the header list was and how large it may be, as the status says.
fn told(status: &Status) -> (usize, usize) {
    assert_eq!(status.code(), Code::Internal, "{status:?}");
    assert_eq!(CallError::of(status).map(CallError::phase), Some(Phase::Request), "nothing was sent");
    let message = status.message();
    assert!(message.starts_with("service project/test, endpoint 127.0.0.1:"), "{message}");
    assert!(message.contains("the request's metadata is too large"), "{message}");
    assert!(message.ends_with("; registry in reach"), "{message}");
    let number = |after: &str| message.split(after).nth(1)?.split(' ').next()?.parse().ok();
    let numbers = number("headers have ").zip(number("at most "));
    numbers.unwrap_or_else(|| panic!("no numbers in {message:?}"))
}

#[tokio::test]
async fn a_call_with_more_metadata_than_tonics_server_takes_fails_and_those_beside_it_go_on() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    let endless = EchoRequest { repeat: u32::MAX, ..slow(5) };
    let mut stream = echo(&channel).server_streaming(endless).await.unwrap().into_inner();
    let mut client = echo(&channel);
    let bystander = tokio::spawn(async move { client.unary(slow(300)).await });
    until("both have arrived", || server.in_flight() == 2).await;

    let (size, limit) = told(&call(&channel, 100 << 10).await.unwrap_err());
    assert!(size > 100 << 10 && limit == 16 << 10, "{size}, {limit}");
    let streamed = in_time(echo(&channel).server_streaming(with_metadata(100 << 10))).await;
    told(&streamed.unwrap_err());
    let messages = tokio_stream::iter([request()]);
    let mut sent = Request::new(messages);
    *sent.metadata_mut() = with_metadata(100 << 10).metadata().clone();
    told(&in_time(echo(&channel).bidirectional(sent)).await.unwrap_err());

    in_time(bystander).await.unwrap().unwrap();
    assert!(in_time(stream.message()).await.unwrap().is_some());
    in_time(echo(&channel).unary(request())).await.unwrap();
    assert_eq!((server.accepted(), server.calls()), (1, 3), "one connection, and nothing else has arrived");
    let a = endpoint(&channel, "a").endpoint;
    assert_eq!((a.state(), a.in_flight()), (ConnectivityState::Ready, 1));
}

/// How much metadata makes the header list as large as the server says it may be, and how large that is.
async fn room(channel: &Channel) -> (usize, usize) {
    let (size, limit) = told(&call(channel, 20_000).await.unwrap_err());
    (20_000 - (size - limit), limit)
}

#[tokio::test]
async fn what_fits_to_the_byte_is_sent_and_one_byte_more_is_not() {
    let stage = Stage::new();
    let script = |mut peer: Peer| async move {
        peer.settings(&[(MAX_HEADER_LIST_SIZE, 10_000)]);
        while let Some(request) = peer.request().await {
            peer.answer(request.stream, "a");
        }
    };
    let (server, _registration) = stage.raw("a", script).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let (room, limit) = room(&channel).await;
    call(&channel, room).await.unwrap();
    assert_eq!(told(&call(&channel, room + 1).await.unwrap_err()), (limit + 1, limit));
    assert_eq!((server.stats().accepted, server.stats().requests), (1, 1));
}

/// The list is counted as tonic's server counts it. That takes what is smaller than it says, and answers HTTP 431 to
/// what is as large.
#[tokio::test]
async fn what_just_fits_is_taken_by_tonics_server() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    let (room, _) = room(&channel).await;
    call(&channel, room - 1).await.unwrap();
    let status = call(&channel, room).await.unwrap_err();
    assert!(status.message().contains("HTTP 431"), "{status:?}");
    assert_eq!((server.accepted(), server.calls()), (1, 1));
}

/// Answers requests, and changes its limit when it is told to.
async fn changing(mut peer: Peer, first: [(u16, u32); 2], writers: mpsc::UnboundedSender<Writer>) {
    peer.settings(&first);
    writers.send(peer.writer()).unwrap();
    while let Some(request) = peer.request().await {
        peer.answer(request.stream, "a");
    }
}

#[tokio::test]
async fn the_limit_is_what_the_server_said_last() {
    let stage = Stage::new();
    let (writers, mut given) = mpsc::unbounded_channel();
    // The value of another setting looks like the id.
    let first = [(4, 0x0006_0006), (MAX_HEADER_LIST_SIZE, 5_000)];
    let (server, _registration) = stage.raw("a", move |peer| changing(peer, first, writers.clone())).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let writer = given.recv().await.unwrap();
    assert_eq!(told(&call(&channel, 5_000).await.unwrap_err()).1, 5_000);
    call(&channel, 4_000).await.unwrap();
    // The answer to a call comes after the settings that were sent before it.
    writer.settings(&[(MAX_HEADER_LIST_SIZE, 200_000)]);
    call(&channel, 4_000).await.unwrap();
    call(&channel, 100 << 10).await.unwrap();
    writer.settings(&[(MAX_HEADER_LIST_SIZE, 100)]);
    call(&channel, 4_000).await.unwrap();
    assert_eq!(told(&call(&channel, 0).await.unwrap_err()).1, 100);
    assert_eq!((server.stats().accepted, server.stats().requests), (1, 4));
}

#[tokio::test]
async fn without_a_limit_as_much_is_sent_as_there_is() {
    let stage = Stage::new();
    let (server, _registration) = stage.raw("a", |peer| callboard_raw::serve("a", peer)).await;
    let channel = stage.channel(stage.builder(), 1).await;
    call(&channel, 1 << 20).await.unwrap();
    assert_eq!((server.stats().accepted, server.stats().requests), (1, 1));
}
