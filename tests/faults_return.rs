//! Endpoints that die and come back.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use callboard::{Backoff, ConnectivityState};
use callboard_raw::{RawServer, serve};
use common::{Stage, echo, endpoint, in_time, request, shares, until, until_ready};

#[tokio::test]
async fn an_endpoint_that_comes_back_has_its_share_within_its_backoff_and_no_call_fails_or_asks_for_it() {
    let stage = Stage::new();
    let (dead, _a) = stage.raw("a", |peer| serve("a", peer)).await;
    let _others = [stage.raw("b", |peer| serve("b", peer)).await, stage.raw("c", |peer| serve("c", peer)).await];
    let channel = stage.channel(stage.builder(), 3).await;
    let address = dead.address();
    dead.stop().await;
    until("it is failing", || endpoint(&channel, "a").endpoint.state() == ConnectivityState::TransientFailure).await;
    let calls_so_far = endpoint(&channel, "a").endpoint.calls();
    for _ in 0..30 {
        in_time(echo(&channel).unary(request())).await.unwrap();
    }
    assert_eq!(endpoint(&channel, "a").endpoint.calls(), calls_so_far, "a dead endpoint is given no call");

    let back = RawServer::start_at(address, |peer| serve("a", peer)).await.unwrap();
    let due = endpoint(&channel, "a").retry_at;
    // Nobody calls meanwhile.
    until_ready(&channel, 3).await;
    let late = due.map(|due| tokio::time::Instant::now().saturating_duration_since(due));
    assert!(late.is_none_or(|late| late < Duration::from_secs(1)), "{late:?}");
    let shares = shares(&channel, 30).await;
    assert_eq!(shares.values().copied().collect::<Vec<_>>(), [10, 10, 10]);
    assert_eq!(back.stats().accepted, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_an_idle_endpoint_dies_and_comes_back_again_and_again() {
    let stage = Stage::new();
    let (mut a, _a) = stage.raw("a", |peer| serve("a", peer)).await;
    let _b = stage.raw("b", |peer| serve("b", peer)).await;
    let channel = stage.channel(stage.builder().backoff(common::quick()), 2).await;
    for _ in 0..5 {
        let address = a.address();
        // No call is in flight when it dies.
        a.stop().await;
        until("its end is noticed", || endpoint(&channel, "a").endpoint.state() != ConnectivityState::Ready).await;
        let enough = Arc::new(AtomicBool::new(false));
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let (mut client, enough) = (echo(&channel), Arc::clone(&enough));
                tokio::spawn(async move {
                    while !enough.load(Ordering::Relaxed) {
                        client.unary(request()).await.unwrap();
                    }
                })
            })
            .collect();
        a = RawServer::start_at(address, |peer| serve("a", peer)).await.unwrap();
        in_time(a.until(|stats| stats.requests > 10)).await;
        enough.store(true, Ordering::Relaxed);
        for caller in callers {
            in_time(caller).await.unwrap();
        }
        until("no call is in flight", || endpoint(&channel, "a").endpoint.in_flight() == 0).await;
    }
}

#[tokio::test]
async fn a_new_incarnation_at_a_dead_address_is_dialled_at_once() {
    let stage = Stage::new();
    let (dead, registration) = stage.raw("a", |peer| serve("a", peer)).await;
    let patient = Backoff::new(Duration::from_secs(3_600), Duration::from_secs(3_600), 1.0, 0.0).unwrap();
    let channel = stage.channel(stage.builder().backoff(patient), 1).await;
    let address = dead.address();
    dead.stop().await;
    until("it is failing", || endpoint(&channel, "a").endpoint.state() == ConnectivityState::TransientFailure).await;

    let _back = RawServer::start_at(address, |peer| serve("back", peer)).await.unwrap();
    let begun = Instant::now();
    let _again = stage.sign_in("a", address.try_into().unwrap(), 1).await;
    until_ready(&channel, 1).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(in_time(echo(&channel).unary(request())).await.unwrap().into_inner().server, "back");
    drop(registration);
}

/// grpc-go's `ResetConnectBackoff`.
#[tokio::test]
async fn when_the_backoff_is_reset_everything_is_dialled_at_once_and_the_waits_begin_anew() {
    let stage = Stage::new();
    let (server, _registration) = stage.raw("a", |peer| serve("a", peer)).await;
    let address = server.address();
    server.stop().await;
    let hour = Duration::from_secs(3_600);
    let backoff = Backoff::new(Duration::from_secs(60), hour, 60.0, 0.0).unwrap();
    let channel = stage.builder().backoff(backoff).build().unwrap();
    let wait = || {
        let retry_at = channel.endpoints().first()?.retry_at?;
        Some(retry_at.saturating_duration_since(tokio::time::Instant::now()))
    };
    until("it waits", || wait().is_some()).await;
    // Dialled in vain, it waits the first wait again and not the second, which is an hour.
    let first = endpoint(&channel, "a").retry_at;
    channel.reset_connect_backoff();
    until("it waits again", || wait().is_some() && endpoint(&channel, "a").retry_at != first).await;
    assert!(wait().unwrap() <= Duration::from_secs(60), "{:?}", wait());
    let _back = RawServer::start_at(address, |peer| serve("a", peer)).await.unwrap();
    channel.reset_connect_backoff();
    until_ready(&channel, 1).await;
    in_time(echo(&channel).unary(request())).await.unwrap();
}
