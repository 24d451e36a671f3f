//! Signals reach a whole process: this test has one of its own.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::io;
use std::sync::Arc;

use callboard::{AnnouncementState, ErrorKind, Serve};
use callboard_echo::EchoServer;
use common::{Stage, echo, endpoint, in_time, slow, until};
use rustix::process::{Signal, getpid, kill_process};
use tokio::net::TcpListener;

#[tokio::test]
async fn the_first_signal_drains_and_the_second_ends_at_once() {
    let stage = Stage::new();
    let start = async |id: &'static str| {
        Serve::new(Arc::new(stage.board.clone()), stage.service.clone())
            .id(id)
            .propagation_delay(std::time::Duration::ZERO)
            .start(TcpListener::bind("127.0.0.1:0").await.unwrap(), move |listener, shutdown| async move {
                let server = EchoServer::start_on(id, listener, |tonic| tonic)?;
                shutdown.await;
                server.stop().await;
                io::Result::Ok(())
            })
            .await
            .unwrap()
    };
    for (first, second, name) in [(Signal::TERM, Signal::INT, "SIGINT"), (Signal::INT, Signal::TERM, "SIGTERM")] {
        let serving = start("a").await;
        let channel = stage.channel(stage.builder(), 1).await;
        let mut client = echo(&channel);
        let call = tokio::spawn(async move { client.unary(slow(600_000)).await });
        until("it is in flight", || endpoint(&channel, "a").endpoint.in_flight() == 1).await;
        let signals = async {
            kill_process(getpid(), first).unwrap();
            let mut state = serving.watch();
            state.wait_for(|state| matches!(state, AnnouncementState::Left { error: None, .. })).await.unwrap();
            // The call is what it waits for now.
            assert!(!call.is_finished());
            kill_process(getpid(), second).unwrap();
        };
        let (ended, ()) = in_time(async { tokio::join!(serving.ended(), signals) }).await;
        let error = ended.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        assert!(error.to_string().contains(name), "{error}");
        in_time(call).await.unwrap().unwrap_err();
    }

    // A newer one takes its id, and then it is told to stop: that is the first signal that it hears.
    let serving = start("b").await;
    let channel = stage.channel(stage.builder(), 1).await;
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.unary(slow(500)).await });
    until("it is in flight", || endpoint(&channel, "b").endpoint.in_flight() == 1).await;
    let taken = async {
        let _newer = stage.server("b").await;
        let mut state = serving.watch();
        state.wait_for(|state| matches!(state, AnnouncementState::Left { error: Some(_), .. })).await.unwrap();
        kill_process(getpid(), Signal::TERM).unwrap();
    };
    let (ended, ()) = in_time(async { tokio::join!(serving.ended(), taken) }).await;
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Conflict, "that is why it has ended");
    in_time(call).await.unwrap().expect("the call has been waited for");

    // It is told to stop before anybody waits for its end.
    let serving = start("c").await;
    kill_process(getpid(), Signal::TERM).unwrap();
    in_time(serving.ended()).await.unwrap();
}
