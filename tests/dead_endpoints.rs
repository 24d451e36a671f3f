//! Endpoints that are signed in and do not answer cost no call.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use callboard::{Address, Announcement, Channel, ConnectivityState};
use callboard_echo::EchoServer;
use common::silent::{Deaf, Odd, Refusing, SETTINGS};
use common::{Stage, echo, endpoint, in_time, quick, request, shares, until};
use tonic::Code;

/// Far above what a call to a live server takes, also on a busy machine, and far below the time to connect.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Three live servers, and one endpoint that is not.
async fn three_and(dead: Address) -> (Stage, Vec<(EchoServer, Announcement)>, Announcement) {
    let stage = Stage::new();
    let live = vec![stage.server("a").await, stage.server("b").await, stage.server("c").await];
    let dead = stage.sign_in("dead", dead, 1).await;
    (stage, live, dead)
}

/// Calls from the first moment on, before anything is connected: none may fail, none may take long.
async fn all_succeed_at_once(channel: &Channel, calls: usize) {
    let mut client = echo(channel);
    for call in 0..calls {
        let begun = Instant::now();
        let answer = client.unary(request()).await.unwrap_or_else(|status| panic!("call {call}: {status:?}"));
        assert_ne!(answer.into_inner().server, "dead");
        assert!(begun.elapsed() < AT_ONCE, "call {call} took {:?}", begun.elapsed());
        assert_ne!(dead_state(channel), Some(ConnectivityState::Ready));
    }
}

/// None until the channel knows of it.
fn dead_state(channel: &Channel) -> Option<ConnectivityState> {
    let endpoints = channel.endpoints();
    endpoints.iter().find(|status| status.endpoint.instance().id == "dead").map(|status| status.endpoint.state())
}

#[tokio::test]
async fn of_two_thousand_calls_none_fails_because_one_of_four_refuses() {
    let refusing = Refusing::new();
    let (stage, live, _dead) = three_and(refusing.address.clone()).await;
    let channel = stage.builder().backoff(quick()).build().unwrap();
    let shares = shares(&channel, 2_000).await;
    assert_eq!(shares.values().sum::<usize>(), 2_000);
    for (server, _) in &live {
        // Not a third each: the first calls went to whoever was connected first.
        assert!(shares[server.id()] > 500, "{shares:?}");
    }
    let dead = endpoint(&channel, "dead");
    assert_eq!(dead.endpoint.calls(), 0);
    let error = dead.connection_error.expect("it was dialled").chain();
    assert!(error.contains("refused"), "{error}");
}

#[tokio::test]
async fn no_call_waits_on_an_endpoint_that_accepts_and_never_speaks() {
    let hole = Odd::silent().await;
    let (stage, _live, _dead) = three_and(hole.address.clone()).await;
    let channel = stage.builder().build().unwrap();
    all_succeed_at_once(&channel, 500).await;
    until("it was dialled", || hole.accepted() == 1).await;
    assert_eq!(endpoint(&channel, "dead").endpoint.state(), ConnectivityState::Connecting);
}

#[tokio::test]
async fn no_call_waits_on_an_endpoint_whose_queue_is_full() {
    let deaf = Deaf::new();
    let (stage, _live, _dead) = three_and(deaf.address.clone()).await;
    let channel = stage.builder().build().unwrap();
    all_succeed_at_once(&channel, 500).await;
    assert_eq!(endpoint(&channel, "dead").endpoint.state(), ConnectivityState::Connecting);
}

/// Its status says why it is not connected, once the time to connect has passed, and when it is dialled again.
async fn tells_why(dead: Address) {
    let (stage, _live, _dead) = three_and(dead).await;
    let channel = stage.builder().connect_timeout(Duration::from_millis(200)).build().unwrap();
    until("the attempt has failed", || dead_state(&channel) == Some(ConnectivityState::TransientFailure)).await;
    let dead = endpoint(&channel, "dead");
    let error = dead.connection_error.expect("it has failed").chain();
    assert!(error.contains("SETTINGS") && error.contains("200ms"), "{error}");
    let retry_at = dead.retry_at.expect("it is dialled again");
    assert!(retry_at > tokio::time::Instant::now() && retry_at < tokio::time::Instant::now() + Duration::from_secs(2));
    all_succeed_at_once(&channel, 100).await;
}

#[tokio::test]
async fn the_status_of_an_endpoint_that_never_speaks_says_so() {
    let hole = Odd::silent().await;
    tells_why(hole.address.clone()).await;
}

#[tokio::test]
async fn the_status_of_an_endpoint_whose_queue_is_full_says_so() {
    let deaf = Deaf::new();
    tells_why(deaf.address.clone()).await;
}

#[tokio::test]
async fn when_all_refuse_the_error_says_who_and_why() {
    let refusing = Refusing::new();
    let stage = Stage::new();
    let _announcement = stage.sign_in("dead", refusing.address.clone(), 1).await;
    let channel = stage.builder().build().unwrap();
    // The first attempt to connect is waited for.
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    for part in ["project/test", "1 endpoint", "TRANSIENT_FAILURE", &refusing.address.to_string(), "refused"] {
        assert!(status.message().contains(part), "{part:?} is not in {:?}", status.message());
    }
    assert_eq!(channel.state(), ConnectivityState::TransientFailure);
}

/// Dialled with backoff, not in a loop, and calls go elsewhere meanwhile.
async fn is_dialled_with_backoff(odd: Odd) {
    let (stage, _live, _dead) = three_and(odd.address.clone()).await;
    let backoff = callboard::Backoff::new(Duration::from_millis(100), Duration::from_millis(100), 1.0, 0.0).unwrap();
    let channel = stage.builder().backoff(backoff).build().unwrap();
    let begun = Instant::now();
    let mut client = echo(&channel);
    while begun.elapsed() < Duration::from_millis(500) {
        client.unary(request()).await.unwrap();
    }
    until("it was dialled again", || odd.accepted() >= 3).await;
    let accepted = odd.accepted();
    let most = begun.elapsed().as_millis() as usize / 100 + 1;
    assert!(accepted <= most, "{accepted} connections in {:?}", begun.elapsed());
    assert!(endpoint(&channel, "dead").connection_error.is_some());
}

#[tokio::test]
async fn a_server_that_hangs_up_at_once_is_dialled_with_backoff() {
    is_dialled_with_backoff(Odd::hanging_up(b"").await).await;
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_dialled_with_backoff() {
    is_dialled_with_backoff(Odd::hanging_up(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await).await;
}

#[tokio::test]
async fn a_server_that_hangs_up_after_its_settings_is_dialled_with_backoff() {
    is_dialled_with_backoff(Odd::hanging_up(SETTINGS).await).await;
}
