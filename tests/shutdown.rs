//! When the last clone of a channel is dropped, nothing of it goes on.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use callboard::balancer::RoundRobin;
use callboard::{Balancer, Channel, ConnectivityState, EndpointStatus, Members, Picker};
use callboard_echo::pb::EchoRequest;
use common::silent::{Deaf, Odd, Refusing};
use common::{Stage, echo, in_time, request, shares, slow, tasks, until, until_ready, waiting};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

/// Waits until there are no more tasks than before.
async fn until_all_ended(before: usize) {
    until("all tasks have ended", || tasks() <= before).await;
}

#[tokio::test]
async fn all_tasks_end_and_all_sockets_close_with_the_last_clone() {
    let stage = Stage::new();
    let (a, _a) = stage.server("a").await;
    let (b, _b) = stage.server("b").await;
    let before = tasks();
    let channel = stage.channel(stage.builder(), 2).await;
    assert!(tasks() > before);
    shares(&channel, 20).await;
    let (clone, client) = (channel.clone(), echo(&channel));
    drop(channel);
    drop(client);
    shares(&clone, 20).await;
    assert_eq!((a.connections(), b.connections()), (1, 1), "a clone is left");
    drop(clone);
    until("the sockets are closed", || a.connections() + b.connections() == 0).await;
    until_all_ended(before).await;
}

#[tokio::test]
async fn a_channel_that_connects_to_nobody_ends() {
    let stage = Stage::new();
    let (hole, deaf) = (Odd::silent().await, Deaf::new());
    let _registrations =
        [stage.sign_in("a", hole.address.clone(), 1).await, stage.sign_in("b", deaf.address.clone(), 1).await];
    let before = tasks();
    let channel = stage.builder().connect_timeout(Duration::from_secs(3600)).build().unwrap();
    let connecting = |status: &EndpointStatus| status.endpoint.state() == ConnectivityState::Connecting;
    until("both are dialled", || channel.endpoints().iter().filter(|status| connecting(status)).count() == 2).await;
    until("one is connected", || hole.accepted() == 1).await;
    drop(channel);
    until_all_ended(before).await;
}

#[tokio::test]
async fn a_channel_that_waits_to_dial_again_ends() {
    let stage = Stage::new();
    let refusing = Refusing::new();
    let _registration = stage.sign_in("a", refusing.address.clone(), 1).await;
    let before = tasks();
    let channel = stage.builder().build().unwrap();
    until("it has failed", || channel.endpoints().iter().any(|status| status.retry_at.is_some())).await;
    drop(channel);
    until_all_ended(before).await;
}

#[tokio::test]
async fn a_channel_whose_registry_is_silent_or_down_ends() {
    let stage = Stage::new();
    stage.board.faults(|faults| faults.hold = true);
    let before = tasks();
    let silent = stage.builder().build().unwrap();
    tokio::task::yield_now().await;
    drop(silent);
    until_all_ended(before).await;
    stage.board.faults(|faults| faults.down = Some(callboard::Error::invalid("down")));
    let down = stage.builder().build().unwrap();
    in_time(echo(&down).unary(request())).await.unwrap_err();
    drop(down);
    until_all_ended(before).await;
}

#[tokio::test]
async fn a_channel_that_is_dropped_before_its_task_has_begun_ends() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let before = tasks();
    drop(stage.builder().build().unwrap());
    until_all_ended(before).await;
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn a_call_in_flight_outlives_the_channel_and_then_all_ends() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let before = tasks();
    let channel = stage.channel(stage.builder(), 1).await;
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.unary(slow(300)).await });
    until("it has arrived", || server.in_flight() == 1).await;
    drop(channel);
    assert_eq!(in_time(call).await.unwrap().unwrap().into_inner().payload, b"ping");
    until("the socket is closed", || server.connections() == 0).await;
    until_all_ended(before).await;
}

#[tokio::test]
async fn streams_in_flight_outlive_the_channel_and_then_all_ends() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let before = tasks();
    let channel = stage.channel(stage.builder(), 1).await;
    let (requests, body) = mpsc::channel(1);
    let mut both = echo(&channel).bidirectional(ReceiverStream::new(body)).await.unwrap().into_inner();
    let message = EchoRequest { repeat: 5, ..slow(20) };
    let mut down = echo(&channel).server_streaming(message).await.unwrap().into_inner();
    drop(channel);
    for _ in 0..3 {
        requests.send(request()).await.unwrap();
        assert_eq!(in_time(both.message()).await.unwrap().expect("an answer").payload, b"ping");
    }
    for _ in 0..5 {
        in_time(down.message()).await.unwrap().expect("an answer");
    }
    assert!(in_time(down.message()).await.unwrap().is_none());
    assert_eq!(server.connections(), 1);
    drop(requests);
    assert!(in_time(both.message()).await.unwrap().is_none());
    until("the socket is closed", || server.connections() == 0).await;
    until_all_ended(before).await;
}

#[tokio::test]
async fn a_call_that_waits_keeps_the_channel_and_is_answered() {
    let stage = Stage::new();
    let before = tasks();
    let channel = stage.builder().build().unwrap();
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.unary(waiting(request())).await });
    until("nobody is there", || channel.state() == ConnectivityState::TransientFailure).await;
    drop(channel);
    {
        let (server, registration) = stage.server("a").await;
        assert_eq!(in_time(call).await.unwrap().unwrap().into_inner().server, "a");
        until("the socket is closed", || server.connections() == 0).await;
        registration.deregister().await.unwrap();
        server.stop().await;
    }
    until_all_ended(before).await;
}

#[tokio::test]
async fn a_call_that_waits_and_is_dropped_ends_the_channel() {
    let stage = Stage::new();
    let before = tasks();
    let channel = stage.builder().build().unwrap();
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.unary(waiting(request())).await });
    until("nobody is there", || channel.state() == ConnectivityState::TransientFailure).await;
    drop(channel);
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert!(tasks() > before + 1, "the call has kept the channel");
    call.abort();
    until_all_ended(before).await;
}

#[tokio::test]
async fn a_response_that_nobody_reads_on_ends_with_its_reader() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let before = tasks();
    let channel = stage.channel(stage.builder(), 1).await;
    let endless = EchoRequest { repeat: u32::MAX, ..request() };
    let unread = echo(&channel).server_streaming(endless).await.unwrap();
    drop(channel);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(server.connections(), 1);
    drop(unread);
    until("the socket is closed", || server.connections() == 0).await;
    until_all_ended(before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_that_come_and_go_leave_nothing() {
    let stage = Stage::new();
    let (a, _a) = stage.server("a").await;
    let (b, _b) = stage.server("b").await;
    let before = tasks();
    for round in 0..30 {
        let channel = stage.builder().build().unwrap();
        if round % 3 > 0 {
            in_time(echo(&channel).unary(request())).await.unwrap();
        }
        if round % 3 > 1 {
            until_ready(&channel, 2).await;
        }
    }
    until("the sockets are closed", || a.connections() + b.connections() == 0).await;
    until_all_ended(before).await;
}

/// Makes one picker and then panics.
#[derive(Debug, Default)]
struct Fragile(AtomicBool);

impl Balancer for Fragile {
    fn name(&self) -> &str {
        "fragile"
    }

    fn picker(&self, ready: &Members) -> Box<dyn Picker> {
        assert!(!self.0.swap(true, Ordering::SeqCst), "on purpose");
        RoundRobin::new().picker(ready)
    }
}

/// Calls fail and say that the channel has ended, whether or not they would wait.
async fn assert_ended(channel: &Channel) {
    for request in [tonic::Request::new(request()), waiting(request())] {
        let status = in_time(echo(channel).unary(request)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        for part in ["project/test", "task has ended"] {
            assert!(status.message().contains(part), "{part:?} is not in {:?}", status.message());
        }
    }
    assert_eq!(channel.state(), ConnectivityState::Shutdown);
}

#[tokio::test]
async fn a_balancer_that_panics_leaves_no_call_waiting() {
    let stage = Stage::new();
    let (_a, leaver) = stage.server("a").await;
    let channel = stage.channel(stage.builder().balancer(Fragile::default()), 1).await;
    shares(&channel, 5).await;
    let (_b, _b2) = stage.server("b").await;
    leaver.deregister().await.unwrap();
    until("the task has ended", || channel.state() == ConnectivityState::Shutdown).await;
    assert_ended(&channel).await;
}

#[tokio::test]
async fn a_runtime_that_ends_leaves_no_call_waiting() {
    let stage = Stage::new();
    let (_a, _a2) = stage.server("a").await;
    let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let entered = other.enter();
    let channel = stage.builder().build().unwrap();
    drop(entered);
    until_ready(&channel, 1).await;
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.unary(slow(15_000)).await });
    until("it is sent", || channel.endpoints()[0].endpoint.in_flight() == 1).await;
    other.shutdown_background();
    in_time(call).await.unwrap().unwrap_err();
    until("the task has ended", || channel.state() == ConnectivityState::Shutdown).await;
    assert_ended(&channel).await;
}
