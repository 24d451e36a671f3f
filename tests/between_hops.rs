//! What one server says to its client is not handed on to the client's own caller, nor the other way round.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use callboard::{Channel, Peer};
use callboard_echo::pb::EchoResponse;
use callboard_raw::Peer as Raw;
use common::refusing::{Policy, QUICK, Refusing};
use common::scripted::Scripted;
use common::{Stage, echo, endpoint, in_time, request};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};

const LOAD: &str = "endpoint-load-metrics-bin";
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// `application_utilization: 0.5`, as it stands in a trailer.
const HALF: &str = "SQAAAAAAAOA/";

/// What a server says of itself, and what it says to the caller.
fn told() -> MetadataMap {
    let mut metadata = MetadataMap::new();
    metadata.insert_bin(LOAD, tonic::metadata::MetadataValue::from_bytes(&[0x49, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f]));
    metadata.insert(PUSHBACK, "1500".parse().unwrap());
    metadata.insert("x-why", "because".parse().unwrap());
    metadata
}

/// Nothing of the hop is in it, and all that is for the caller.
fn handed_on(metadata: &MetadataMap) {
    assert!(metadata.get_bin(LOAD).is_none() && metadata.get(PUSHBACK).is_none(), "{metadata:?}");
    assert_eq!(metadata.get("x-why").unwrap(), "because");
}

fn noted(channel: &Channel) {
    let load = endpoint(channel, "a").endpoint.load().expect("the channel has read the report");
    assert_eq!(load.report().application_utilization, 0.5);
}

#[tokio::test]
async fn a_failure_that_is_all_head_says_nothing_of_the_hop() {
    let stage = Stage::new();
    let status = Status::with_metadata(Code::NotFound, "no such thing", told());
    let _server = Refusing::always(&stage, "a", status).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    handed_on(status.metadata());
    noted(&channel);
}

#[tokio::test]
async fn nor_does_the_last_failure_of_a_call_that_was_retried() {
    let stage = Stage::new();
    let mut metadata = told();
    metadata.insert(PUSHBACK, "1".parse().unwrap());
    let _server = Refusing::always(&stage, "a", Status::with_metadata(Code::Unavailable, "no", metadata)).await;
    let channel = stage.channel(stage.under(&Policy { attempts: 2, ..QUICK }).await, 1).await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    handed_on(status.metadata());
    noted(&channel);
}

/// A channel to a server that answers with one message and says this of itself in the trailers, and what keeps that.
async fn with_trailers(status: &'static str) -> (Channel, impl Sized) {
    let stage = Stage::new();
    let script = move |mut peer: Raw| async move {
        peer.settings(&[]);
        while let Some(request) = peer.request().await {
            let fields = [("grpc-status", status), (LOAD, HALF), (PUSHBACK, "1500"), ("x-why", "because")];
            peer.head(request.stream);
            peer.message(request.stream, "");
            peer.headers(request.stream, &fields, true);
        }
    };
    let server = stage.raw("a", script).await;
    (stage.channel(stage.builder(), 1).await, server)
}

#[tokio::test]
async fn trailers_say_nothing_of_the_hop_in_success_and_failure() {
    let (channel, _server) = with_trailers("0").await;
    let (mut asked, peer) = (Request::new(request()), Peer::new());
    asked.extensions_mut().insert(peer.clone());
    let answer = in_time(echo(&channel).unary(asked)).await.unwrap();
    handed_on(answer.metadata());
    // Who wants the report of this call still has it.
    assert_eq!(peer.load().expect("a report").report().application_utilization, 0.5);
    let mut answers = in_time(echo(&channel).server_streaming(request())).await.unwrap().into_inner();
    while in_time(answers.message()).await.unwrap().is_some() {}
    handed_on(&in_time(answers.trailers()).await.unwrap().expect("trailers"));
    noted(&channel);

    let (channel, _server) = with_trailers("5").await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    handed_on(status.metadata());
    noted(&channel);
}

/// A gateway that hands the failures of the server behind it on to its caller.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_caller_takes_nothing_of_the_server_behind_for_the_gateways() {
    let (back, front) = (Stage::new(), Stage::new());
    let _server = Refusing::always(&back, "a", Status::with_metadata(Code::Unavailable, "no", told())).await;
    let behind = back.channel(back.builder(), 1).await;
    let handle = tokio::runtime::Handle::current();
    let gateway = Scripted::start(move |asked| {
        let behind = behind.clone();
        let call = async move { echo(&behind).unary(asked.into_inner()).await };
        Ok(Response::new(tokio::task::block_in_place(|| handle.block_on(call))?.into_inner()))
    });
    let gateway = gateway.await;
    let _g = front.sign_in("gateway", gateway.address.try_into().unwrap(), 1).await;
    let channel = front.channel(front.under(&Policy { attempts: 2, ..QUICK }).await, 1).await;
    let begun = Instant::now();
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    handed_on(status.metadata());
    assert!(endpoint(&channel, "gateway").endpoint.load().is_none(), "it has not reported any");
    assert!(begun.elapsed() < Duration::from_millis(1_400), "the wait is not the gateway's: {:?}", begun.elapsed());
}

/// A gateway that hands its caller's metadata on to the server behind it.
#[tokio::test]
async fn a_server_behind_a_gateway_takes_nothing_of_its_caller_for_the_gateways() {
    let back = Stage::new();
    let seen = Arc::<Mutex<Vec<MetadataMap>>>::default();
    let notes = Arc::clone(&seen);
    let server = Scripted::start(move |request| {
        notes.lock().unwrap().push(request.metadata().clone());
        Ok(Response::new(EchoResponse::default()))
    })
    .await;
    let _a = back.sign_in("a", server.address.try_into().unwrap(), 1).await;
    let channel = back.channel(back.builder(), 1).await;

    // As it stands in what a gateway was asked.
    let mut asked = Request::new(request());
    for (name, value) in [("grpc-previous-rpc-attempts", "3"), ("lb-token", "of-the-gateway"), ("x-user", "anna")] {
        asked.metadata_mut().insert(name, value.parse().unwrap());
    }
    in_time(echo(&channel).unary(asked)).await.unwrap();
    let seen = seen.lock().unwrap().remove(0);
    assert!(seen.get("grpc-previous-rpc-attempts").is_none(), "this is the first attempt: {seen:?}");
    assert!(seen.get("lb-token").is_none(), "it is for another server: {seen:?}");
    assert_eq!(seen.get("x-user").unwrap(), "anna");
}

#[tokio::test]
async fn a_requests_own_user_agent_stands_before_the_channels() {
    let stage = Stage::new();
    let server = Scripted::start(move |request| {
        let agent = request.metadata().get("user-agent").unwrap().to_str().unwrap().to_owned();
        Ok(Response::new(EchoResponse { server: agent, payload: Vec::new() }))
    })
    .await;
    let _a = stage.sign_in("a", server.address.try_into().unwrap(), 1).await;
    let channel = stage.channel(stage.builder().user_agent("app/1"), 1).await;
    let ours = concat!("app/1 callboard/", env!("CARGO_PKG_VERSION"));
    for (own, expected) in [(None, ours.to_owned()), (Some("call/2"), format!("call/2 {ours}"))] {
        let mut asked = Request::new(request());
        if let Some(own) = own {
            asked.metadata_mut().insert("user-agent", own.parse().unwrap());
        }
        assert_eq!(in_time(echo(&channel).unary(asked)).await.unwrap().into_inner().server, expected);
    }
}
