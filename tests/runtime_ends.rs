//! A channel's runtime that is shut down under calls that are polled on another one: each ends, and none panics.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use callboard::{CallCredentials, Channel, ChannelBuilder, RequestInfo};
use callboard_raw::{Event, Peer};
use common::refusing::{Policy, QUICK, Refusing, unavailable};
use common::{Stage, echo, in_time, poll_once, request, until, until_ready, within};
use tokio::runtime::Runtime;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

const LATER: Duration = Duration::from_secs(10);

fn other() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

async fn on(runtime: &Runtime, builder: ChannelBuilder) -> Channel {
    let channel = {
        let _entered = runtime.enter();
        builder.build().unwrap()
    };
    until_ready(&channel, 1).await;
    channel
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_between_two_attempts_ends() {
    let stage = Stage::new();
    let server = Refusing::always(&stage, "a", unavailable()).await;
    let runtime = other();
    let policy = Policy { initial: LATER, max: LATER, ..QUICK };
    let channel = on(&runtime, stage.under(&policy).await).await;
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.unary(request()).await });
    until("it was tried", || server.previous().len() == 1).await;
    runtime.shutdown_background();
    let status = in_time(call).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_answer_has_come_and_was_not_looked_at_ends() {
    let stage = Stage::new();
    let (server, _registration) = stage
        .raw("a", |mut peer: Peer| async move {
            peer.settings(&[]);
            while let Some(event) = peer.next().await {
                let (Event::Request { stream, end: true } | Event::Data { stream, end: true, .. }) = event else {
                    continue;
                };
                peer.head(stream);
            }
        })
        .await;
    let runtime = other();
    let channel = on(&runtime, stage.builder()).await;
    let mut client = echo(&channel);
    let mut call = Box::pin(async move { client.unary(within(LATER, request())).await });
    assert!(poll_once(&mut call).await.is_pending());
    in_time(server.until(|stats| stats.requests == 1)).await;
    runtime.shutdown_background();
    in_time(tokio::spawn(call)).await.unwrap().unwrap_err();
}

struct Never;

#[async_trait::async_trait]
impl CallCredentials for Never {
    fn requires_tls(&self) -> bool {
        false
    }

    async fn metadata(&self, _: &RequestInfo<'_>) -> Result<MetadataMap, Status> {
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_for_its_credentials_ends() {
    let stage = Stage::new();
    let (_server, _registration) = stage.server("a").await;
    let runtime = other();
    let channel = on(&runtime, stage.builder().call_credentials(Never)).await;
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.unary(within(LATER, request())).await });
    until("it has its place", || channel.endpoints()[0].endpoint.in_flight() == 1).await;
    runtime.shutdown_background();
    let status = in_time(call).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}
