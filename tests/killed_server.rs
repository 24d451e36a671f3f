//! A server dies without a word, and comes back.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use callboard::ConnectivityState;
use callboard_echo::EchoServer;
use callboard_echo::pb::EchoRequest;
use common::{Stage, echo, endpoint, in_time, quick, request, shares, slow, until, until_ready};
use tonic::{Code, Status};

fn assert_lost_there(status: &Status, address: &str) {
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    for part in ["project/test", address] {
        assert!(status.message().contains(part), "{part:?} is not in {:?}", status.message());
    }
}

#[tokio::test]
async fn calls_in_flight_on_a_server_that_dies_say_so() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    let address = server.address().to_string();
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let mut client = echo(&channel);
            tokio::spawn(async move { client.unary(slow(15_000)).await })
        })
        .collect();
    let endless = EchoRequest { repeat: u32::MAX, ..slow(5) };
    let mut answers = echo(&channel).server_streaming(endless).await.unwrap().into_inner();
    until("all have arrived", || server.in_flight() == 11).await;
    server.kill().await;
    for call in calls {
        let status = in_time(call).await.unwrap().unwrap_err();
        assert_lost_there(&status, &address);
        assert!(status.message().ends_with("; registry in reach"), "{status}");
    }
    let status = loop {
        match in_time(answers.message()).await {
            Ok(answer) => assert!(answer.is_some(), "it has come to no good end"),
            Err(status) => break status,
        }
    };
    assert_lost_there(&status, &address);
    assert!(status.message().ends_with("; registry in reach"), "{status}");
    assert_eq!(endpoint(&channel, "a").endpoint.in_flight(), 0);
}

/// Callers that call one after the other until they are told to stop; their failures.
struct Callers {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<(usize, Vec<Status>)>>,
}

impl Callers {
    fn start(channel: &callboard::Channel, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let one = |_| {
            let (mut client, stop) = (echo(channel), Arc::clone(&stop));
            tokio::spawn(async move {
                let (mut calls, mut failures) = (0, Vec::new());
                while !stop.load(Ordering::SeqCst) {
                    calls += 1;
                    failures.extend(client.unary(slow(1)).await.err());
                }
                (calls, failures)
            })
        };
        Self { tasks: (0..count).map(one).collect(), stop }
    }

    async fn end(self) -> (usize, Vec<Status>) {
        self.stop.store(true, Ordering::SeqCst);
        let (mut all, mut failures) = (0, Vec::new());
        for task in self.tasks {
            let (calls, failed) = in_time(task).await.unwrap();
            all += calls;
            failures.extend(failed);
        }
        (all, failures)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_calls_in_flight_on_the_server_that_dies_fail() {
    let stage = Stage::new();
    let (a, _a) = stage.server("a").await;
    let _others = [stage.server("b").await, stage.server("c").await];
    let channel = stage.channel(stage.builder().backoff(quick()), 3).await;
    let address = a.address().to_string();
    let callers = Callers::start(&channel, 16);
    until("calls are made", || a.calls() > 100).await;
    a.kill().await;
    // From here on, no call fails: what is picked for the dead one was never sent.
    let later = Callers::start(&channel, 4);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (calls, failures) = later.end().await;
    assert_eq!(failures.len(), 0, "of {calls}: {failures:?}");
    let (calls, failures) = callers.end().await;
    assert!(failures.len() <= 16, "{} of {calls}", failures.len());
    for status in &failures {
        assert_lost_there(status, &address);
    }
}

#[tokio::test]
async fn a_server_that_comes_back_is_connected_without_a_call_and_has_its_share_again() {
    let stage = Stage::new();
    let (a, _a) = stage.server("a").await;
    let (_b, _b2) = stage.server("b").await;
    let channel = stage.channel(stage.builder().backoff(quick()), 2).await;
    let address = a.address();
    a.kill().await;
    until("its loss is noticed", || endpoint(&channel, "a").endpoint.state() != ConnectivityState::Ready).await;
    assert_eq!(shares(&channel, 20).await, BTreeMap::from([("b".to_owned(), 20)]));
    until("it was dialled in vain", || endpoint(&channel, "a").connection_error.is_some()).await;
    let a = EchoServer::start_at("a", address).await.unwrap();
    until_ready(&channel, 2).await;
    assert_eq!((a.accepted(), a.calls()), (1, 0), "no call was needed");
    assert_eq!(shares(&channel, 100).await["a"], 50);
    assert!(endpoint(&channel, "a").connection_error.is_none());
}

#[tokio::test]
async fn the_loss_of_the_only_server_is_noticed_without_a_call() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    server.kill().await;
    until("it is noticed", || channel.state() == ConnectivityState::TransientFailure).await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_die_and_come_back_again_and_again_cost_only_calls_in_flight() {
    let stage = Stage::new();
    let (_steady, _s) = stage.server("steady").await;
    let (mut server, _a) = stage.server("a").await;
    let address = server.address();
    let channel = stage.channel(stage.builder().backoff(quick()), 2).await;
    let callers = Callers::start(&channel, 8);
    const DEATHS: usize = 5;
    for _ in 0..DEATHS {
        let arrived = server.calls();
        until("it gets calls", || server.calls() > arrived + 20).await;
        server.kill().await;
        server = EchoServer::start_at("a", address).await.unwrap();
    }
    until("it gets calls", || server.calls() > 20).await;
    let (calls, failures) = callers.end().await;
    assert!(failures.len() <= 8 * DEATHS, "{} of {calls}", failures.len());
    for status in &failures {
        assert_lost_there(status, &address.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_when_a_server_stops_gracefully() {
    let stage = Stage::new();
    let (a, _a) = stage.server("a").await;
    let (_b, _b2) = stage.server("b").await;
    let channel = stage.channel(stage.builder().backoff(quick()), 2).await;
    let callers = Callers::start(&channel, 8);
    until("calls are made", || a.calls() > 100).await;
    in_time(a.stop()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (calls, failures) = callers.end().await;
    assert_eq!(failures.len(), 0, "of {calls}: {failures:?}");
}
