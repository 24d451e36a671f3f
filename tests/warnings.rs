//! What is warned of: a bad service config, and external balancers. One test alone in its process: whether an event is wanted
//! is remembered for all threads.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use callboard::lookaside::v1::Server;
use callboard::{Address, CONFIG_NAME, Serve};
use callboard_conformance::Log;
use common::lookaside::{Balancer, until_listed};
use common::{Stage, in_time, until, until_config, until_ready, until_refused};

/// The warnings since the last call.
fn warnings(log: &Log) -> Vec<String> {
    log.take().lines().filter(|line| line.contains("WARN")).map(str::to_owned).collect()
}

#[tokio::test]
async fn who_may_be_wrong_is_warned_of_once() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _default = tracing::subscriber::set_default(subscriber);
    a_bad_config(&log).await;
    a_balancer_that_takes_over(&log).await;
    a_balancer_that_is_not_asked(&log).await;
    a_server_that_forgets_its_shutdown(&log).await;
    weights_that_make_no_difference(&log).await;
    a_channel_without_a_server_and_its_return(&log).await;
}

async fn a_bad_config(log: &Log) {
    let stage = Stage::new();
    let (_server, _a) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    warnings(log);
    stage.board.put(&stage.service, CONFIG_NAME, Some(b"{"));
    until_refused(&channel, "EOF").await;
    // Once more, and beside it something else that is new.
    stage.board.put(&stage.service, CONFIG_NAME, Some(b"{"));
    let (_other, _b) = stage.server("b").await;
    until_ready(&channel, 2).await;
    assert_one(&warnings(log), &["the service config is rejected", "project/test", "EOF while parsing an object"]);
    stage.put_service_config(Some("{}")).await;
    until_config(&channel, Some("{}")).await;
    assert!(warnings(log).is_empty());
    // Obeyed, and no call comes back from it.
    let hopeless = r#"{"methodConfig": [{"name": [{"service": "a.B"}]}, {"name": [{}], "timeout": "0s"}]}"#;
    stage.board.put(&stage.service, CONFIG_NAME, Some(hopeless.as_bytes()));
    until_config(&channel, Some(hopeless)).await;
    assert_one(&warnings(log), &["fails every call", "project/test", "methodConfig[1].timeout"]);
    let misspelt = r#"{"methodConfg": [{"name": [{}]}]}"#;
    stage.board.put(&stage.service, CONFIG_NAME, Some(misspelt.as_bytes()));
    until_config(&channel, Some(misspelt)).await;
    assert_one(&warnings(log), &["fields that mean nothing", "project/test", "methodConfg (methodConfig?)"]);
}

async fn weights_that_make_no_difference(log: &Log) {
    let stage = Stage::new();
    let (_a, _a2) = stage.weighted("a", 3).await;
    let (_b, b_registered) = stage.weighted("b", 3).await;
    let channel = stage.channel(stage.builder(), 2).await;
    assert_eq!(warnings(log), [""; 0], "equal weights are as none");
    for weight in [0, 1, 2] {
        b_registered.update(|instance| instance.set_weight(weight));
        until("it is known", || common::endpoint(&channel, "b").endpoint.weight() == weight).await;
    }
    assert_one(&warnings(log), &["does not look at weights", "\"b\"", "weight=0", "\"round_robin\""]);
    let weighted = stage.builder().balancer(callboard::balancer::Weighted::new());
    let _channel = stage.channel(weighted, 2).await;
    assert_eq!(warnings(log), [""; 0]);
}

/// One line when no endpoint works, and one when one does again, whatever is tried meanwhile.
async fn a_channel_without_a_server_and_its_return(log: &Log) {
    let stage = Stage::new();
    let (a, _a) = stage.server("a").await;
    let (address, builder) = (a.address(), stage.builder().backoff(common::quick()));
    let channel = stage.channel(builder, 1).await;
    log.take();
    a.kill().await;
    let failing = || channel.state() == callboard::ConnectivityState::TransientFailure;
    until("no endpoint works", failing).await;
    until("it is dialled again", || common::endpoint(&channel, "a").connection_error.is_some()).await;
    assert_one(&warnings(log), &["no endpoint works", "project/test", "1 TRANSIENT_FAILURE"]);
    let _again = callboard_echo::EchoServer::start_at("a", address).await.unwrap();
    until_ready(&channel, 1).await;
    let lines = log.take();
    let again: Vec<_> = lines.lines().filter(|line| line.contains("an endpoint works again")).collect();
    assert!(again.len() == 1 && again[0].contains("INFO") && again[0].contains("after="), "{lines}");
}

async fn a_server_that_forgets_its_shutdown(log: &Log) {
    let stage = Stage::new();
    warnings(log);
    for forgets in [true, false] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let serve = Serve::new(Arc::new(stage.board.clone()), stage.service.clone()).signals(false);
        let serving = serve.start(listener, |listener, shutdown| {
            let shutdown = (!forgets).then_some(shutdown);
            async move {
                let _held = (listener, shutdown);
                std::future::pending::<Result<(), std::io::Error>>().await
            }
        });
        let _serving = serving.unwrap();
        match forgets {
            true => assert_one(&warnings(log), &["dropped its `Shutdown`", "serve_with_incoming_shutdown"]),
            false => assert_eq!(warnings(log), [""; 0]),
        }
    }
}

async fn a_balancer_that_takes_over(log: &Log) {
    let stage = Stage::new();
    let (server, _a) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    let balancer = Balancer::listing([Server::at(server.address(), "")]).await;
    let record = stage.balancer("zz", balancer.address()).await;
    until_listed(&channel, 1).await;
    // Another list, and another time.
    balancer.list([Server::at(server.address(), "token")]);
    in_time(record.deregister()).await.unwrap();
    until("it is gone", || channel.lookaside().is_none()).await;
    let _again = stage.balancer("zz", balancer.address()).await;
    until_listed(&channel, 1).await;
    assert_one(&warnings(log), &["an external balancer has taken over", "\"zz\"", &balancer.address().to_string()]);
}

async fn a_balancer_that_is_not_asked(log: &Log) {
    let stage = Stage::new();
    let _record = stage.balancer("zz", "127.0.0.1:9".parse::<Address>().unwrap()).await;
    let (_server, _a) = stage.server("a").await;
    let channel = stage.channel(stage.builder().external_balancers(false), 1).await;
    let (_other, _b) = stage.server("b").await;
    until_ready(&channel, 2).await;
    assert_one(&warnings(log), &["an external balancer, which is not asked", "\"zz\"", "127.0.0.1:9"]);
}

fn assert_one(warnings: &[String], parts: &[&str]) {
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    for part in parts {
        assert!(warnings[0].contains(part), "{part} is not in {}", warnings[0]);
    }
}
