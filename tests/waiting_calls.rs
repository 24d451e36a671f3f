//! A bound on the calls that wait.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::Ipv4Addr;
use std::time::Duration;

use callboard_echo::EchoServer;
use common::{Stage, echo, in_time, request, slow, until, waiting};
use tonic::Code;
use tower::{Service, ServiceExt};

#[tokio::test]
async fn one_call_too_many_fails_at_once_and_says_how_many_wait() {
    let stage = Stage::new();
    let channel = stage.builder().max_waiting_calls(10).build().unwrap();
    until("the registry has answered", || channel.state() == callboard::ConnectivityState::TransientFailure).await;
    let waits: Vec<_> = (0..10)
        .map(|_| {
            let mut client = echo(&channel);
            tokio::spawn(async move { client.unary(waiting(request())).await })
        })
        .collect();
    until("they wait", || channel.waiting_calls() == 10).await;
    let status = in_time(echo(&channel).unary(waiting(request()))).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    for part in ["10 calls wait", "max_waiting_calls", "project/test"] {
        assert!(status.message().contains(part), "{status:?}");
    }
    let (_server, _registration) = stage.server("a").await;
    for wait in waits {
        in_time(wait).await.unwrap().unwrap();
    }
    assert_eq!(channel.waiting_calls(), 0);
    in_time(echo(&channel).unary(request())).await.unwrap();
}

#[tokio::test]
async fn calls_that_wait_for_a_place_count_and_those_that_run_do_not() {
    let stage = Stage::new();
    let configure = |server: tonic::transport::Server| server.max_concurrent_streams(2);
    let server = EchoServer::start_with("a", (Ipv4Addr::LOCALHOST, 0).into(), configure).await.unwrap();
    let _registration = stage.sign_in("a", server.address().try_into().unwrap(), 1).await;
    let channel = stage.channel(stage.builder().max_waiting_calls(1), 1).await;
    let running: Vec<_> = (0..3)
        .map(|_| {
            let mut client = echo(&channel);
            tokio::spawn(async move { client.unary(slow(300)).await })
        })
        .collect();
    until("two run and one waits", || server.in_flight() == 2 && channel.waiting_calls() == 1).await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    for call in running {
        in_time(call).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn with_backpressure_the_channel_is_not_ready_while_too_many_wait_and_load_shed_sheds() {
    let stage = Stage::new();
    let builder = stage.builder().max_waiting_calls(1).backpressure(true);
    let mut channel = builder.build().unwrap();
    until("the registry has answered", || channel.state() == callboard::ConnectivityState::TransientFailure).await;
    assert!(futures_util::FutureExt::now_or_never(channel.ready()).is_some(), "nobody waits");
    let mut client = echo(&channel);
    let wait = tokio::spawn(async move { client.unary(waiting(request())).await });
    until("it waits", || channel.waiting_calls() == 1).await;

    let mut shedding = tower::load_shed::LoadShed::new(channel.clone());
    let call = http::Request::post("http://project.test/s/m").body(tonic::body::Body::empty()).unwrap();
    let shed = in_time(in_time(shedding.ready()).await.unwrap().call(call)).await.unwrap_err();
    assert!(shed.is::<tower::load_shed::error::Overloaded>(), "{shed:?}");

    let mut other = channel.clone();
    let ready = tokio::spawn(async move { other.ready().await.map(drop) });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!ready.is_finished());
    let (_server, _registration) = stage.server("a").await;
    in_time(wait).await.unwrap().unwrap();
    in_time(ready).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_channel_in_which_no_call_may_wait_is_ready_all_the_same() {
    let stage = Stage::new();
    let (_server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder().max_waiting_calls(0).backpressure(true), 1).await;
    in_time(echo(&channel).unary(request())).await.unwrap();
}
