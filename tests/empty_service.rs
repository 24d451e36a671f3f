//! No instances are registered.

mod common;

use std::time::{Duration, Instant};

use callboard::{ConnectivityState, WaitForReady};
use common::{Stage, echo, in_time, request, until, waiting, within};
use tonic::Code;

#[tokio::test]
async fn a_call_fails_fast_and_says_that_nobody_is_signed_in() {
    let stage = Stage::new();
    let mut fastest = Duration::MAX;
    // A busy machine may slow down one of them, not all.
    for _ in 0..5 {
        let channel = stage.builder().build().unwrap();
        let begun = Instant::now();
        let status = echo(&channel).unary(request()).await.unwrap_err();
        fastest = fastest.min(begun.elapsed());
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.message(), "service project/test: no instances are registered");
        assert_eq!(channel.state(), ConnectivityState::TransientFailure);
    }
    assert!(fastest < Duration::from_millis(50), "{fastest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_fast_waits_for_no_timer() {
    let stage = Stage::new();
    let channel = stage.builder().build().unwrap();
    let begun = tokio::time::Instant::now();
    echo(&channel).unary(request()).await.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_waiting_call_is_answered_when_the_first_instance_signs_in() {
    let stage = Stage::new();
    let channel = stage.builder().build().unwrap();
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.unary(waiting(request())).await });
    until("the channel knows that nobody is there", || channel.state() == ConnectivityState::TransientFailure).await;
    assert!(!call.is_finished());
    let (_server, _registration) = stage.server("first").await;
    let answer = in_time(call).await.unwrap().unwrap();
    assert_eq!(answer.into_inner().server, "first");
}

#[tokio::test]
async fn whole_channels_can_wait_and_single_calls_need_not() {
    let stage = Stage::new();
    let channel = stage.builder().wait_for_ready(true).build().unwrap();
    let mut client = echo(&channel);
    let mut hasty = tonic::Request::new(request());
    hasty.extensions_mut().insert(WaitForReady(false));
    let status = in_time(client.unary(hasty)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let call = tokio::spawn(async move { client.unary(request()).await });
    let (_server, _registration) = stage.server("first").await;
    in_time(call).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_waiting_call_and_says_what_it_waited_for() {
    let stage = Stage::new();
    let channel = stage.builder().wait_for_ready(true).build().unwrap();
    let begun = tokio::time::Instant::now();
    let status = echo(&channel).unary(within(Duration::from_millis(200), request())).await.unwrap_err();
    let elapsed = begun.elapsed();
    assert!(elapsed >= Duration::from_millis(200) && elapsed <= Duration::from_millis(202), "{elapsed:?}");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    for part in ["200ms", "waiting for a ready endpoint", "project/test", "no instances are registered"] {
        assert!(status.message().contains(part), "{part:?} is not in {:?}", status.message());
    }
}

#[tokio::test]
async fn a_deadline_of_200_ms_ends_a_waiting_call_after_200_ms_of_real_time() {
    let stage = Stage::new();
    let channel = stage.builder().build().unwrap();
    let mut nearest = Duration::MAX;
    for _ in 0..5 {
        let mut patient = within(Duration::from_millis(200), request());
        patient.extensions_mut().insert(WaitForReady(true));
        let begun = Instant::now();
        let status = echo(&channel).unary(patient).await.unwrap_err();
        let elapsed = begun.elapsed();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert!(elapsed >= Duration::from_millis(195), "{elapsed:?}");
        nearest = nearest.min(elapsed);
        if nearest < Duration::from_millis(250) {
            return;
        }
    }
    panic!("the nearest was {nearest:?}");
}
