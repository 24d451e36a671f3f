//! Callers that go away in the middle of calls, and what must be left of them: nothing.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use callboard::Channel;
use callboard_raw::{Event, Peer, serve, setting::MAX_CONCURRENT_STREAMS};
use common::{Stage, echo, endpoint, in_time, request, tasks, until};
use futures_util::stream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

const CALLERS: usize = 1_000;

/// Has a call of one of four kinds end at one of several stages: with nothing answered, with a head, with a message.
fn call(channel: &Channel, number: usize) -> JoinHandle<()> {
    let mut client = echo(channel);
    tokio::spawn(async move {
        match number % 4 {
            0 => drop(client.unary(request()).await),
            1 => {
                if let Ok(answer) = client.server_streaming(request()).await {
                    let mut answers = answer.into_inner();
                    while let Ok(Some(_)) = answers.message().await {}
                }
            }
            2 => drop(client.client_streaming(stream::pending()).await),
            _ => {
                let messages = stream::unfold((), |()| async {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    Some((request(), ()))
                });
                if let Ok(answer) = client.bidirectional(messages).await {
                    let mut answers = answer.into_inner();
                    while let Ok(Some(_)) = answers.message().await {}
                }
            }
        }
    })
}

/// Leaves each call at some stage: no answer, a head, a message, half a message.
async fn never_done(mut peer: Peer) {
    peer.settings(&[]);
    while let Some(stream) = peer.opened().await {
        let stage = (stream / 2) % 5;
        if stage > 0 {
            peer.head(stream);
        }
        if stage > 1 {
            peer.message(stream, "a");
        }
        if stage > 2 {
            peer.data(stream, &[0, 0, 0], false);
        }
    }
}

fn in_flight(channel: &Channel) -> u64 {
    channel.endpoints().iter().map(|status| status.endpoint.in_flight()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_callers_that_go_away_in_the_middle_of_calls_leave_nothing() {
    let stage = Stage::new();
    let servers = [stage.raw("a", never_done).await, stage.raw("b", never_done).await];
    let channel = stage.channel(stage.builder(), 2).await;
    let open = || servers.iter().map(|(server, _)| server.stats().open).sum::<usize>();
    let before = tasks();
    for _ in 0..3 {
        let calls: Vec<_> = (0..CALLERS).map(|number| call(&channel, number)).collect();
        until("all calls are with the servers", || open() == CALLERS).await;
        assert_eq!(in_flight(&channel), CALLERS as u64);
        for call in calls {
            call.abort();
        }
        until("no call is in flight", || in_flight(&channel) == 0).await;
        until("no stream is open", || open() == 0).await;
        until("no task is left", || tasks() <= before).await;
    }
    assert!(servers.iter().all(|(server, _)| server.stats().accepted == 1), "the connections have outlived it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_go_away_while_they_wait_for_a_place_leave_nothing() {
    let stage = Stage::new();
    let release = Arc::new(Notify::new());
    let told = Arc::clone(&release);
    let (server, _registration) = stage
        .raw("a", move |mut peer: Peer| {
            let told = Arc::clone(&told);
            async move {
                peer.settings(&[(MAX_CONCURRENT_STREAMS, 1)]);
                let first = peer.request().await.unwrap();
                told.notified().await;
                peer.answer(first.stream, "a");
                while let Some(request) = peer.request().await {
                    peer.answer(request.stream, "a");
                }
            }
        })
        .await;
    let channel = stage.channel(stage.builder(), 1).await;
    let before = tasks();
    let spawn = || {
        let mut client = echo(&channel);
        tokio::spawn(async move { client.unary(request()).await })
    };
    let first = spawn();
    in_time(server.until(|stats| stats.open == 1)).await;
    let mut calls: Vec<_> = (0..CALLERS).map(|_| spawn()).collect();
    until("all of them run", || tasks() > before + CALLERS).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let staying = calls.split_off(CALLERS - 10);
    release.notify_one();
    for call in calls {
        call.abort();
    }
    // Those who stay are answered, whoever among the others was woken in vain.
    in_time(first).await.unwrap().unwrap();
    for call in staying {
        in_time(call).await.unwrap().unwrap();
    }
    until("no task is left", || tasks() <= before).await;
    assert_eq!((server.stats().open, in_flight(&channel)), (0, 0));
    in_time(echo(&channel).unary(request())).await.unwrap();
}

#[tokio::test]
async fn answers_to_calls_that_were_given_up_do_not_end_the_connection() {
    // More than `h2` forgives by itself in the life of a connection, and more than it remembers.
    const GIVEN_UP: usize = 3_000;
    let stage = Stage::new();
    let (writers, mut given) = mpsc::unbounded_channel();
    let (server, _registration) = stage
        .raw("a", move |mut peer: Peer| {
            let writers = writers.clone();
            async move {
                peer.settings(&[]);
                let mut kept = None;
                while let Some(event) = peer.next().await {
                    match event {
                        Event::Request { stream, .. } if kept.is_none() => {
                            kept = Some(stream);
                            writers.send((peer.writer(), stream)).unwrap();
                        }
                        // The answer was on its way when the caller gave up.
                        Event::Reset { stream, .. } => peer.answer(stream, "a"),
                        _ => {}
                    }
                }
            }
        })
        .await;
    let channel = stage.channel(stage.builder(), 1).await;
    let mut client = echo(&channel);
    let bystander = tokio::spawn(async move { client.unary(request()).await });
    let (writer, stream) = in_time(given.recv()).await.unwrap();
    for round in 1..=GIVEN_UP / 500 {
        let calls: Vec<_> = (0..500)
            .map(|_| {
                let mut client = echo(&channel);
                tokio::spawn(async move { client.unary(request()).await })
            })
            .collect();
        in_time(server.until(|stats| stats.requests == 1 + round * 500)).await;
        for call in calls {
            call.abort();
        }
        in_time(server.until(|stats| stats.resets >= round * 500)).await;
    }
    writer.answer(stream, "kept");
    assert_eq!(in_time(bystander).await.unwrap().unwrap().into_inner().server, "kept");
    assert_eq!((server.stats().accepted, server.stats().connections), (1, 1));
    assert_eq!(endpoint(&channel, "a").endpoint.in_flight(), 0);
}

#[tokio::test]
async fn a_channel_that_is_dropped_finishes_its_calls_and_leaves_nothing() {
    let stage = Stage::new();
    let release = Arc::new(Notify::new());
    let told = Arc::clone(&release);
    let (server, _registration) = stage
        .raw("a", move |mut peer: Peer| {
            let told = Arc::clone(&told);
            async move {
                peer.settings(&[]);
                let stream = peer.opened().await.unwrap();
                peer.head(stream);
                peer.message(stream, "a");
                told.notified().await;
                peer.trailers(stream, "0");
                peer.ignore().await;
            }
        })
        .await;
    let _silent = stage.raw("silent", |mut peer: Peer| async move { peer.ignore().await }).await;
    let before = tasks();
    let channel = stage.channel(stage.builder(), 1).await;
    let mut answers = in_time(echo(&channel).server_streaming(request())).await.unwrap().into_inner();
    assert_eq!(in_time(answers.message()).await.unwrap().unwrap().server, "a");
    drop(channel);
    release.notify_one();
    assert_eq!(in_time(answers.message()).await.unwrap(), None);
    drop(answers);
    in_time(server.until(|stats| stats.connections == 0)).await;
    // The servers' own tasks end with their connections.
    until("no task is left", || tasks() <= before).await;
}

#[tokio::test]
async fn connections_that_come_and_go_leave_nothing() {
    let stage = Stage::new();
    let (server, _registration) = stage
        .raw("a", |mut peer: Peer| async move {
            peer.settings(&[]);
            let request = peer.request().await;
            peer.answer(request.unwrap().stream, "a");
            peer.cut();
        })
        .await;
    let (_other, _b) = stage.raw("b", |peer| serve("b", peer)).await;
    let channel = stage.channel(stage.builder().backoff(common::quick()), 2).await;
    let before = tasks();
    for _ in 0..10 {
        // A cut may overtake the answer; what matters is what is left of it.
        for _ in 0..2 {
            drop(in_time(echo(&channel).unary(request())).await);
        }
        let accepted = server.stats().accepted;
        in_time(server.until(|stats| stats.accepted > accepted || stats.connections == 1)).await;
        common::until_ready(&channel, 2).await;
    }
    until("no task is left", || tasks() <= before).await;
    assert_eq!(in_flight(&channel), 0);
}
