//! The registry cannot be heard, or says things that are not to be believed at once.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use callboard::{Channel, ConnectivityState, Error, ErrorKind};
use callboard_echo::EchoServer;
use callboard_echo::pb::{EchoRequest, EchoResponse};
use common::{
    Stage, echo, in_time, request, shares, slow, tasks, until, until_config, until_endpoints, until_ready, waiting,
    within,
};
use tokio::time::{advance, pause, resume};
use tonic::{Code, Streaming};

/// A config that says nothing. What a registry says later has come when it has.
const CONFIG: &str = "{}";

fn down() -> Option<Error> {
    Some(Error::new(ErrorKind::Unavailable, "registry: connection refused"))
}

/// Lets so much time pass at once.
async fn pass(time: Duration) {
    pause();
    advance(time).await;
    resume();
}

#[tokio::test]
async fn calls_go_on_while_the_registry_is_down_and_its_error_and_age_are_told() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    stage.board.faults(|faults| faults.down = down());
    assert_eq!(shares(&channel, 100).await["a"], 100);
    // A channel that had much to do with a set leaves itself time before it hears the next.
    until("the outage is known", || channel.stale().is_some()).await;
    pass(Duration::from_secs(60)).await;
    assert_eq!(shares(&channel, 100).await["a"], 100);
    assert_eq!((channel.state(), channel.endpoints().len()), (ConnectivityState::Ready, 1));
    assert_eq!(server.accepted(), 1);
    let stale = channel.stale().expect("the registry is down");
    assert!(stale.error.to_string().contains("connection refused"), "{}", stale.error);
    let age = stale.as_of.expect("it was heard once").elapsed();
    assert!((Duration::from_secs(60)..Duration::from_secs(90)).contains(&age), "{age:?}");
    server.kill().await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    for part in ["project/test", "1 endpoint", "registry: connection refused"] {
        assert!(status.message().contains(part), "{part:?} is not in {:?}", status.message());
    }
    let age = status.message().split("the set is ").nth(1).and_then(|rest| rest.split('s').next());
    let age: f64 = age.and_then(|age| age.parse().ok()).unwrap_or_else(|| panic!("no age in {:?}", status.message()));
    assert!((60.0..90.0).contains(&age), "{age}");
}

/// A response that has begun and has no end.
async fn answers_without_end(channel: &Channel) -> Streaming<EchoResponse> {
    let endless = EchoRequest { repeat: u32::MAX, ..slow(5) };
    let mut answers = echo(channel).server_streaming(endless).await.unwrap().into_inner();
    assert!(in_time(answers.message()).await.unwrap().is_some());
    answers
}

/// How a response that is on its way ends when its server dies.
async fn lost(mut answers: Streaming<EchoResponse>, server: EchoServer) -> String {
    let address = server.address().to_string();
    server.kill().await;
    let status = loop {
        match in_time(answers.message()).await {
            Ok(answer) => assert!(answer.is_some(), "it has come to no good end"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with(&format!("service project/test, endpoint {address}: ")), "{status:?}");
    status.message().to_owned()
}

#[tokio::test]
async fn what_ends_a_response_on_its_way_is_told_with_the_registrys_error() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    let answers = answers_without_end(&channel).await;
    stage.board.faults(|faults| faults.down = down());
    until("the outage is known", || channel.stale().is_some()).await;
    let message = lost(answers, server).await;
    for part in ["; registry out of reach: ", "registry: connection refused", "; the set is "] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[tokio::test]
async fn what_ends_a_response_after_its_channel_does_not_claim_to_know_the_registry() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    let mut answers = answers_without_end(&channel).await;
    let before = tasks();
    drop(channel);
    until("the channel's task has ended", || tasks() < before).await;
    assert!(in_time(answers.message()).await.unwrap().is_some());
    let message = lost(answers, server).await;
    assert!(message.ends_with("; registry in reach, when the channel ended"), "{message:?}");
}

#[tokio::test]
async fn changes_during_an_outage_are_learnt_after_it() {
    let stage = Stage::new();
    let (a, leaver) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    let (_b, _b2) = stage.server("b").await;
    until_endpoints(&channel, &["a", "b"]).await;
    stage.board.faults(|faults| faults.down = down());
    shares(&channel, 10).await;
    stage.board.put(&stage.service, "a", None);
    shares(&channel, 10).await;
    assert_eq!(channel.endpoints().len(), 2, "what was believed is kept");
    drop(leaver);
    stage.board.faults(|faults| faults.down = None);
    until_endpoints(&channel, &["b"]).await;
    assert_eq!(shares(&channel, 10).await, BTreeMap::from([("b".to_owned(), 10)]));
    until("the connection is closed", || a.connections() == 0).await;
}

#[tokio::test]
async fn a_registry_that_is_down_from_the_start_fails_calls_with_its_error_until_it_is_up() {
    let stage = Stage::new();
    let (_server, _registration) = stage.server("a").await;
    stage.board.faults(|faults| faults.down = down());
    let channel = stage.builder().build().unwrap();
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    for part in ["project/test", "has not answered", "registry: connection refused"] {
        assert!(status.message().contains(part), "{part:?} is not in {:?}", status.message());
    }
    let mut client = echo(&channel);
    let waits = tokio::spawn(async move { client.unary(waiting(request())).await });
    stage.board.faults(|faults| faults.down = None);
    in_time(waits).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_registry_that_says_nothing_is_waited_for_within_the_deadline() {
    let stage = Stage::new();
    let (_server, _registration) = stage.server("a").await;
    stage.board.faults(|faults| faults.hold = true);
    let channel = stage.builder().build().unwrap();
    let status = echo(&channel).unary(within(Duration::from_millis(100), request())).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("the registry has not answered yet"), "{status:?}");
    stage.board.faults(|faults| faults.hold = false);
    in_time(echo(&channel).unary(request())).await.unwrap();
}

#[tokio::test]
async fn a_set_that_becomes_empty_is_held_for_the_grace_period_and_then_believed() {
    let stage = Stage::new();
    let (server, registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    registration.deregister().await.unwrap();
    assert_eq!(shares(&channel, 50).await["a"], 50);
    pass(Duration::from_secs(28)).await;
    assert_eq!(shares(&channel, 50).await["a"], 50);
    assert_eq!(channel.endpoints().len(), 1);
    pass(Duration::from_secs(3)).await;
    until_endpoints(&channel, &[]).await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("no instances are registered"), "{status:?}");
    assert_eq!(channel.state(), ConnectivityState::TransientFailure);
    until("the connection is closed", || server.connections() == 0).await;
}

#[tokio::test]
async fn a_set_that_was_empty_for_a_moment_costs_no_connection() {
    let stage = Stage::new();
    let (server, registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    registration.deregister().await.unwrap();
    shares(&channel, 20).await;
    let _again = stage.sign_in("a", server.address().try_into().unwrap(), 5).await;
    until("it is known", || channel.endpoints()[0].endpoint.weight() == 5).await;
    pass(Duration::from_secs(60)).await;
    assert_eq!(shares(&channel, 20).await["a"], 20);
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn records_that_cannot_be_read_cost_nothing_and_are_counted() {
    let stage = Stage::new();
    let (server, registration) = stage.server("a").await;
    stage.board.put(&stage.service, "garbage", Some(b"\xff{"));
    let channel = stage.channel(stage.builder(), 1).await;
    shares(&channel, 10).await;
    stage.board.put(&stage.service, "more", Some(b"{}"));
    shares(&channel, 10).await;
    registration.deregister().await.unwrap();
    shares(&channel, 10).await;
    // Nobody can say whose they are, so what was known stays.
    pass(Duration::from_secs(60)).await;
    shares(&channel, 10).await;
    server.kill().await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert!(status.message().contains("2 unreadable records"), "{status:?}");
    // Without them nobody is there.
    stage.board.put(&stage.service, "garbage", None);
    stage.board.put(&stage.service, "more", None);
    stage.put_service_config(Some(CONFIG)).await;
    until_config(&channel, Some(CONFIG)).await;
    pass(Duration::from_secs(31)).await;
    until_endpoints(&channel, &[]).await;
}

#[tokio::test]
async fn many_outages_leave_the_channel_as_it_was() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    for _ in 0..20 {
        stage.board.faults(|faults| faults.down = down());
        shares(&channel, 5).await;
        stage.board.faults(|faults| faults.down = None);
        shares(&channel, 5).await;
    }
    // The waits between attempts have grown to a few seconds.
    pass(Duration::from_secs(10)).await;
    let (_b, _b2) = stage.server("b").await;
    until_ready(&channel, 2).await;
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn records_that_cannot_be_read_are_told_and_never_end_the_calls() {
    let stage = Stage::new();
    let newer = |id: &str| stage.board.put(&stage.service, id, Some(br#"{"v":9}"#));
    newer("a");
    let channel = stage.builder().build().unwrap();
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let said = "no record in the registry can be read, 1 unreadable record (written by a newer version?)";
    assert!(status.message().contains(said), "{}", status.message());
    let server = EchoServer::start("b").await.unwrap();
    let instance = callboard::Instance::new("b", server.address().try_into().unwrap()).unwrap();
    stage.board.put(&stage.service, "b", Some(callboard::encode(&instance).as_bytes()));
    until_ready(&channel, 1).await;
    // Its server is replaced by one of a newer version, and the grace of an empty set passes.
    newer("b");
    stage.put_service_config(Some(CONFIG)).await;
    until_config(&channel, Some(CONFIG)).await;
    pass(Duration::from_secs(60)).await;
    assert_eq!(shares(&channel, 100).await["b"], 100);
    assert_eq!(channel.endpoints().len(), 1);
}
