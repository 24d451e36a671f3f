//! The config that a channel has itself holds while the registry gives none.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use callboard::ErrorKind;
use common::refusing::{QUICK, Refusing, unavailable};
use common::{Stage, echo, in_time, request, slow, until, until_config};
use tonic::Code;

/// Every call may take so long, and calls go to the first endpoint alone.
fn pick_first_within(seconds: &str) -> String {
    format!(
        r#"{{"loadBalancingConfig": [{{"pick_first": {{}}}}], "methodConfig": [{{"name": [{{}}], "timeout": "{seconds}"}}]}}"#
    )
}

/// How long the channel lets a call take.
async fn given(channel: &callboard::Channel) -> String {
    let status = in_time(echo(channel).unary(slow(60_000))).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    status.message().split(' ').nth(2).unwrap().to_owned()
}

#[tokio::test]
async fn there_are_retries_without_a_registry_that_has_configs() {
    let stage = Stage::new();
    let server = Refusing::start(&stage, "a", [unavailable(), unavailable()]).await;
    for obeys in [true, false] {
        *server.answers.lock().unwrap() = [unavailable(), unavailable()].into();
        let builder = stage.builder().default_service_config(QUICK.config()).service_config(obeys);
        // At once: where the registry is to be heard, the call waits for that.
        let mut asked = tonic::Request::new(request());
        asked.extensions_mut().insert(callboard::WaitForReady(true));
        let channel = builder.build().unwrap();
        in_time(echo(&channel).unary(asked)).await.unwrap_or_else(|status| panic!("obeys {obeys}: {status}"));
        assert_eq!(channel.service_config().active.as_deref(), Some(&*QUICK.config()));
    }
    assert_eq!(server.previous(), ["", "1", "2", "", "1", "2"]);
}

#[tokio::test]
async fn the_registrys_replaces_all_of_it_and_it_is_back_when_that_is_gone() {
    let stage = Stage::new();
    let (_server, _a) = stage.server("a").await;
    let own = pick_first_within("0.05s");
    let channel = stage.channel(stage.builder().default_service_config(&own), 1).await;
    until_config(&channel, Some(&own)).await;
    assert_eq!((given(&channel).await.as_str(), &*channel.service_config().balancer), ("50ms", "pick_first"));

    let theirs = r#"{"methodConfig": [{"name": [{}], "timeout": "0.1s"}]}"#;
    stage.put_service_config(Some(theirs)).await;
    until_config(&channel, Some(theirs)).await;
    assert_eq!((given(&channel).await.as_str(), &*channel.service_config().balancer), ("100ms", "round_robin"));

    stage.put_service_config(None).await;
    until_config(&channel, Some(&own)).await;
    assert_eq!((given(&channel).await.as_str(), &*channel.service_config().balancer), ("50ms", "pick_first"));

    // One that cannot be read leaves in force what is.
    stage.put_service_config(Some(r#"{"methodConfig": [{"timeout": "soon"}]}"#)).await;
    until("it is refused", || channel.service_config().rejected.is_some()).await;
    assert_eq!(channel.service_config().active.as_deref(), Some(&*own));
    assert_eq!(given(&channel).await, "50ms");

    let ignoring = stage.builder().default_service_config(&own).service_config(false);
    let ignoring = stage.channel(ignoring, 1).await;
    assert_eq!(given(&ignoring).await, "50ms");
}

#[tokio::test]
async fn one_that_cannot_be_read_builds_no_channel() {
    let stage = Stage::new();
    for (json, kind, why) in [
        ("{", ErrorKind::Invalid, "EOF"),
        (r#"{"methodConfig": [{"timeout": 1}]}"#, ErrorKind::Invalid, "methodConfig[0].timeout"),
        (r#"{"loadBalancingConfig": [{"nobodys": {}}]}"#, ErrorKind::Unsupported, "nobodys"),
    ] {
        let error = stage.builder().default_service_config(json).build().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let said = error.to_string();
        assert!(said.contains("default_service_config") && said.contains(why), "{said}");
    }
}

/// grpc-go's example of retries, as its client is given it.
#[tokio::test]
async fn the_config_of_grpc_gos_example_of_retries_is_obeyed() {
    let stage = Stage::new();
    let server = Refusing::start(&stage, "a", [unavailable(), unavailable(), unavailable()]).await;
    let config = r#"{
        "methodConfig": [{
          "name": [{"service": "callboard.echo.v1.Echo"}],
          "retryPolicy": {
              "MaxAttempts": 4,
              "InitialBackoff": ".01s",
              "MaxBackoff": ".01s",
              "BackoffMultiplier": 1.0,
              "RetryableStatusCodes": [ "UNAVAILABLE" ]
          }
        }]}"#;
    let channel = stage.channel(stage.builder().default_service_config(config), 1).await;
    in_time(echo(&channel).unary(request())).await.unwrap();
    assert_eq!(server.previous(), ["", "1", "2", "3"]);
    assert!(server.waits().iter().all(|wait| *wait >= Duration::from_millis(8)), "{:?}", server.waits());
}

#[tokio::test]
async fn what_is_not_obeyed_is_named() {
    let stage = Stage::new();
    let (_server, _a) = stage.server("a").await;
    let hedged = r#"{"methodConfig": [{"name": [{}], "hedgingPolicy": {"maxAttempts": 3}}], "healthCheckConfig": {"serviceName": ""}}"#;
    stage.put_service_config(Some(hedged)).await;
    let channel = stage.channel(stage.builder(), 1).await;
    until_config(&channel, Some(hedged)).await;
    assert_eq!(channel.service_config().not_obeyed, ["healthCheckConfig", "methodConfig[0].hedgingPolicy"]);
    stage.put_service_config(None).await;
    until_config(&channel, None).await;
    assert_eq!(channel.service_config().not_obeyed, [""; 0]);

    let both =
        QUICK.config_with("{}", "").replace("\"retryPolicy\"", r#""hedgingPolicy": {"maxAttempts": 3}, "retryPolicy""#);
    let error = stage.builder().default_service_config(both).build().unwrap_err();
    assert!(error.to_string().contains("exclude each other"), "{error}");
}
