//! Retries stop while too many calls fail, and come back when calls succeed.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use callboard::Channel;
use callboard_raw::Peer;
use common::refusing::{Policy, QUICK, Refusing, pushback, unavailable};
use common::{Stage, echo, in_time, request, until_config};
use tonic::Status;

const TWICE: Policy = Policy { attempts: 2, ..QUICK };

fn throttled(most: u32, ratio: f64) -> String {
    TWICE.config_with("{}", &format!(r#", "retryThrottling": {{"maxTokens": {most}, "tokenRatio": {ratio}}}"#))
}

/// How many attempts a call makes that is answered so as long as it is made.
async fn attempts(channel: &Channel, server: &Refusing, status: Status) -> usize {
    let before = server.attempts().len();
    *server.answers.lock().unwrap() = std::iter::repeat_n(status, 10).collect();
    in_time(echo(channel).unary(request())).await.unwrap_err();
    server.attempts().len() - before
}

async fn succeed(channel: &Channel, server: &Refusing, calls: usize) {
    server.answers.lock().unwrap().clear();
    for _ in 0..calls {
        in_time(echo(channel).unary(request())).await.unwrap();
    }
}

#[tokio::test]
async fn retries_stop_when_half_of_the_tokens_are_gone_and_come_back_with_successes() {
    let stage = Stage::new();
    let server = Refusing::start(&stage, "a", []).await;
    stage.put_service_config(Some(&throttled(4, 0.5))).await;
    let channel = stage.channel(stage.builder(), 1).await;
    assert_eq!(attempts(&channel, &server, unavailable()).await, 2, "3 of 4 are left, then 2");
    assert_eq!(attempts(&channel, &server, unavailable()).await, 1, "1 is left");
    assert_eq!(attempts(&channel, &server, unavailable()).await, 1, "none is left");
    assert_eq!(attempts(&channel, &server, unavailable()).await, 1, "and it is no less");
    succeed(&channel, &server, 6).await;
    assert_eq!(attempts(&channel, &server, unavailable()).await, 1, "3 less 1 are left, which is half");
    succeed(&channel, &server, 100).await;
    assert_eq!(attempts(&channel, &server, unavailable()).await, 2, "4 less 1: no more than there can be");
    assert_eq!(attempts(&channel, &server, unavailable()).await, 1);
}

#[tokio::test]
async fn a_no_of_the_server_counts_and_a_code_that_is_not_listed_does_not() {
    let stage = Stage::new();
    let server = Refusing::start(&stage, "a", []).await;
    stage.put_service_config(Some(&throttled(4, 0.5))).await;
    let channel = stage.channel(stage.builder(), 1).await;
    for _ in 0..10 {
        assert_eq!(attempts(&channel, &server, Status::internal("no")).await, 1);
    }
    assert_eq!(attempts(&channel, &server, unavailable()).await, 2, "3 of 4 are left, then 2");
    succeed(&channel, &server, 4).await;
    for _ in 0..2 {
        assert_eq!(attempts(&channel, &server, pushback(&["-1"])).await, 1);
    }
    assert_eq!(attempts(&channel, &server, unavailable()).await, 1, "2 of 4 are left, less 1");
}

#[tokio::test]
async fn all_calls_of_a_channel_and_its_clones_share_the_tokens_and_another_channel_has_its_own() {
    let stage = Stage::new();
    let server = Refusing::start(&stage, "a", []).await;
    stage.put_service_config(Some(&throttled(4, 0.5))).await;
    let channel = stage.channel(stage.builder(), 1).await;
    assert_eq!(attempts(&channel, &server, unavailable()).await, 2);
    assert_eq!(attempts(&channel.clone(), &server, unavailable()).await, 1);
    let other = stage.channel(stage.builder(), 1).await;
    assert_eq!(attempts(&other, &server, unavailable()).await, 2);
}

#[tokio::test]
async fn a_new_config_with_the_same_numbers_keeps_the_tokens_and_others_begin_anew() {
    let stage = Stage::new();
    let server = Refusing::start(&stage, "a", []).await;
    stage.put_service_config(Some(&throttled(4, 0.5))).await;
    let channel = stage.channel(stage.builder(), 1).await;
    assert_eq!(attempts(&channel, &server, unavailable()).await, 2);
    assert_eq!(attempts(&channel, &server, unavailable()).await, 1, "1 is left");
    let other = Policy { attempts: 3, ..QUICK };
    let with = |most: u32| {
        other.config_with("{}", &format!(r#", "retryThrottling": {{"maxTokens": {most}, "tokenRatio": 0.5}}"#))
    };
    for (config, expected) in [(with(4), 1), (with(40), 3), (other.config(), 3)] {
        stage.put_service_config(Some(&config)).await;
        until_config(&channel, Some(&config)).await;
        assert_eq!(attempts(&channel, &server, unavailable()).await, expected, "{config}");
    }
    // There are none now: nothing stops retries.
    for _ in 0..40 {
        attempts(&channel, &server, unavailable()).await;
    }
    assert_eq!(attempts(&channel, &server, unavailable()).await, 3);
}

#[tokio::test]
async fn successes_of_calls_without_a_policy_put_tokens_back_too() {
    let stage = Stage::new();
    let failing = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&failing);
    let script = move |mut peer: Peer| {
        let failing = Arc::clone(&told);
        async move {
            peer.settings(&[]);
            while let Some(request) = peer.request().await {
                match failing.load(Ordering::SeqCst) {
                    true => peer.refuse(request.stream, "14"),
                    false => peer.answer(request.stream, "a"),
                }
            }
        }
    };
    let (server, _registration) = stage.raw("a", script).await;
    let unary = r#"{"service": "callboard.echo.v1.Echo", "method": "Unary"}"#;
    stage
        .put_service_config(Some(
            &TWICE.config_with(unary, r#", "retryThrottling": {"maxTokens": 4, "tokenRatio": 1}"#),
        ))
        .await;
    let channel = stage.channel(stage.builder(), 1).await;
    let fail = async || {
        let before = server.stats().requests;
        in_time(echo(&channel).unary(request())).await.unwrap_err();
        server.stats().requests - before
    };
    assert_eq!((fail().await, fail().await), (2, 1));
    failing.store(false, Ordering::SeqCst);
    for _ in 0..3 {
        let mut answers = in_time(echo(&channel).server_streaming(request())).await.unwrap().into_inner();
        while in_time(answers.message()).await.unwrap().is_some() {}
    }
    failing.store(true, Ordering::SeqCst);
    assert_eq!((fail().await, fail().await), (2, 1));
}
