//! Signals reach a whole process: these tests have one of their own, and take turns in it.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use callboard::{Channel, ErrorKind, LaterSignal, RegistrationState, Result, Serve, Serving};
use callboard_echo::EchoServer;
use callboard_echo::pb::EchoResponse;
use common::{Stage, echo, endpoint, in_time, slow, until};
use rustix::process::{Signal, getpid, kill_process};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Held by the test whose signals they are.
static TURN: Mutex<()> = Mutex::const_new(());

fn send(signal: Signal) {
    kill_process(getpid(), signal).unwrap();
}

/// A server of this id, with these settings.
async fn start(stage: &Stage, id: &'static str, set: impl FnOnce(Serve) -> Serve) -> Serving {
    let serve = Serve::new(Arc::new(stage.board.clone()), stage.service.clone());
    set(serve.id(id).deregister_delay(Duration::ZERO))
        .start(TcpListener::bind("127.0.0.1:0").await.unwrap(), move |listener, shutdown| async move {
            let server = EchoServer::start_on(id, listener, |tonic| tonic)?;
            shutdown.await;
            server.stop().await;
            io::Result::Ok(())
        })
        .unwrap()
}

/// A call to that server which takes so long, once it is in flight.
async fn call(stage: &Stage, id: &str, takes_ms: u32) -> (Channel, JoinHandle<tonic::Result<EchoResponse>>) {
    let channel = stage.channel(stage.builder(), 1).await;
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.unary(slow(takes_ms)).await.map(tonic::Response::into_inner) });
    until("it is in flight", || endpoint(&channel, id).endpoint.in_flight() == 1).await;
    (channel, call)
}

/// Waits for the end, and sends these signals, one after the other: each at once, or so many milliseconds after the one
/// before, counted from when the first has been heard.
async fn ended_by(serving: &Serving, signals: &[(u64, Signal)]) -> Result<()> {
    let sending = async {
        let mut state = serving.watch_state();
        for (after, signal) in signals {
            if *after > 0 {
                state.wait_for(|state| matches!(state, RegistrationState::Deregistered { .. })).await.unwrap();
                sleep(Duration::from_millis(*after)).await;
            }
            send(*signal);
        }
    };
    in_time(async { tokio::join!(serving.ended(), sending) }).await.0
}

#[tokio::test]
async fn the_first_signal_drains_and_a_later_one_ends_at_once() {
    let _turn = TURN.lock().await;
    for (first, second, name) in [(Signal::TERM, Signal::INT, "SIGINT"), (Signal::INT, Signal::TERM, "SIGTERM")] {
        let stage = Stage::new();
        let serving = start(&stage, "a", |serve| serve).await;
        let (_channel, call) = call(&stage, "a", 600_000).await;
        let error = ended_by(&serving, &[(0, first), (1_000, second)]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(
            matches!(serving.state(), RegistrationState::Deregistered { error: None, .. }),
            "{:?}",
            serving.state()
        );
        in_time(call).await.unwrap().unwrap_err();
    }
}

/// `timeout -s TERM`, and a shell that hands on what its group has been sent, send twice what is meant once.
#[tokio::test]
async fn signals_within_a_second_of_the_first_are_one_wish() {
    let _turn = TURN.lock().await;
    let (int, term) = (Signal::INT, Signal::TERM);
    for signals in
        [vec![(0, term), (0, term)], vec![(0, int), (0, term)], vec![(0, term), (5, int), (200, term), (200, term)]]
    {
        let stage = Stage::new();
        let serving = start(&stage, "a", |serve| serve).await;
        let (_channel, call) = call(&stage, "a", 1_500).await;
        ended_by(&serving, &signals).await.unwrap();
        assert_eq!(in_time(call).await.unwrap().expect("it has been waited for").server, "a");
    }
}

#[tokio::test]
async fn later_signals_are_ignored_where_that_is_set() {
    let _turn = TURN.lock().await;
    let stage = Stage::new();
    let serving = start(&stage, "a", |serve| serve.later_signal(LaterSignal::Ignored)).await;
    let (_channel, call) = call(&stage, "a", 2_500).await;
    ended_by(&serving, &[(0, Signal::TERM), (1_000, Signal::TERM), (300, Signal::INT)]).await.unwrap();
    assert_eq!(in_time(call).await.unwrap().expect("it has been waited for").server, "a");
}

/// Who sends it does not know that the way out has begun for another reason.
#[tokio::test]
async fn the_first_signal_of_a_server_that_is_stopping_already_is_no_second_wish() {
    let _turn = TURN.lock().await;
    let stage = Stage::new();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = start(&stage, "b", |serve| serve.shutdown_signal(async { drop(stopped.await) })).await;
    let (_channel, call) = call(&stage, "b", 500).await;
    stop.send(()).unwrap();
    let stopping = async {
        let mut state = serving.watch_state();
        state.wait_for(|state| matches!(state, RegistrationState::Deregistered { .. })).await.unwrap();
        send(Signal::TERM);
    };
    let (ended, ()) = in_time(async { tokio::join!(serving.ended(), stopping) }).await;
    ended.unwrap();
    in_time(call).await.unwrap().expect("the call has been waited for");
}

#[tokio::test]
async fn a_signal_before_anybody_waits_for_the_end_is_heard() {
    let _turn = TURN.lock().await;
    let stage = Stage::new();
    let serving = start(&stage, "c", |serve| serve).await;
    send(Signal::TERM);
    in_time(serving.ended()).await.unwrap();
}
