//! Servers that change their minds about how many streams they take.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use callboard::ConnectivityState;
use callboard_raw::{Event, Peer, setting::MAX_CONCURRENT_STREAMS};
use common::{PATIENCE, Stage, echo, endpoint, in_time, request, until_ready, within};
use tokio::sync::mpsc;
use tonic::Code;

/// Answers requests only when there are as many as it allows.
async fn in_batches(mut peer: Peer, limit: u32) {
    peer.settings(&[(MAX_CONCURRENT_STREAMS, limit)]);
    let mut held = Vec::new();
    while let Some(request) = peer.request().await {
        held.push(request.stream);
        if held.len() == limit as usize {
            held.drain(..).for_each(|stream| peer.answer(stream, "a"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_500_calls_at_once_all_are_answered_and_never_more_than_10_are_open() {
    let stage = Stage::new();
    let (server, _registration) = stage.raw("a", |peer| in_batches(peer, 10)).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let calls: Vec<_> = (0..500)
        .map(|_| {
            let mut client = echo(&channel);
            tokio::spawn(async move { client.unary(request()).await })
        })
        .collect();
    for call in calls {
        in_time(call).await.unwrap().unwrap();
    }
    let stats = server.stats();
    assert_eq!((stats.requests, stats.peak, stats.accepted), (500, 10, 1), "all ten places are used, and no more");
    assert_eq!(endpoint(&channel, "a").endpoint.in_flight(), 0);
}

/// Changes its limit again and again while it is called. Each time, once the client has agreed, it tells the most
/// streams that were open at once while it answered `batches` times as many as it allows.
async fn changing(mut peer: Peer, limits: &[u32], batches: usize, told: mpsc::UnboundedSender<(u32, usize)>) {
    let mut held: Vec<u32> = Vec::new();
    for limit in limits {
        peer.settings(&[(MAX_CONCURRENT_STREAMS, *limit)]);
        let (mut agreed, mut answered, mut most) = (false, 0, 0);
        while answered < batches {
            match peer.next().await {
                Some(Event::SettingsAck) => {
                    agreed = true;
                    // What was sent under the former limit is not counted.
                    held.drain(..).for_each(|stream| peer.answer(stream, "a"));
                }
                Some(Event::Request { stream, .. }) => held.push(stream),
                Some(_) => {}
                None => return,
            }
            if agreed {
                most = most.max(held.len());
                if held.len() >= *limit as usize {
                    held.drain(..).for_each(|stream| peer.answer(stream, "a"));
                    answered += 1;
                }
            }
        }
        told.send((*limit, most)).unwrap();
    }
    while let Some(event) = peer.next().await {
        if let Event::Request { stream, .. } = event {
            peer.answer(stream, "a");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_kept_and_used_up_while_it_is_lowered_and_raised() {
    let stage = Stage::new();
    let (told, mut hear) = mpsc::unbounded_channel();
    let limits: &[u32] = &[10, 3, 20, 1, 40, 10];
    let (server, _registration) = stage.raw("a", move |peer| changing(peer, limits, 20, told.clone())).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let enough = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..64)
        .map(|_| {
            let (mut client, enough) = (echo(&channel), Arc::clone(&enough));
            tokio::spawn(async move {
                while !enough.load(Ordering::Relaxed) {
                    client.unary(request()).await.unwrap();
                }
            })
        })
        .collect();
    for limit in limits {
        assert_eq!(in_time(hear.recv()).await, Some((*limit, *limit as usize)));
    }
    enough.store(true, Ordering::Relaxed);
    for caller in callers {
        in_time(caller).await.unwrap();
    }
    assert_eq!(server.stats().accepted, 1);
}

#[tokio::test]
async fn with_no_place_at_all_calls_wait_until_there_is_one() {
    let stage = Stage::new();
    let (writers, mut given) = mpsc::unbounded_channel();
    let (server, _registration) = stage
        .raw("a", move |mut peer: Peer| {
            let writers = writers.clone();
            async move {
                peer.settings(&[(MAX_CONCURRENT_STREAMS, 1)]);
                let mut agreed = 0;
                while let Some(event) = peer.next().await {
                    match event {
                        Event::SettingsAck => {
                            agreed += 1;
                            match agreed {
                                1 => peer.settings(&[(MAX_CONCURRENT_STREAMS, 0)]),
                                2 => writers.send(peer.writer()).unwrap(),
                                _ => {}
                            }
                        }
                        Event::Data { stream, end: true, .. } => peer.answer(stream, "a"),
                        _ => {}
                    }
                }
            }
        })
        .await;
    let channel = stage.builder().build().unwrap();
    let writer = in_time(given.recv()).await.unwrap();
    until_ready(&channel, 1).await;
    let status = in_time(echo(&channel).unary(within(Duration::from_millis(100), request()))).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(server.stats().requests, 0);
    let mut client = echo(&channel);
    let waiting = tokio::spawn(async move { client.unary(request()).await });
    tokio::task::yield_now().await;
    writer.settings(&[(MAX_CONCURRENT_STREAMS, 1)]);
    in_time(waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_begins_with_no_place_is_used_once_it_has_one() {
    let stage = Stage::new();
    let (writers, mut given) = mpsc::unbounded_channel();
    let (server, _registration) = stage
        .raw("a", move |mut peer: Peer| {
            writers.send(peer.writer()).unwrap();
            async move {
                peer.settings(&[(MAX_CONCURRENT_STREAMS, 0)]);
                while let Some(request) = peer.request().await {
                    peer.answer(request.stream, "a");
                }
            }
        })
        .await;
    let channel = stage.builder().build().unwrap();
    let writer = in_time(given.recv()).await.unwrap();
    let mut client = echo(&channel);
    let waiting = tokio::spawn(async move { client.unary(request()).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(server.stats().requests, 0);
    writer.settings(&[(MAX_CONCURRENT_STREAMS, 1)]);
    in_time(waiting).await.unwrap().unwrap();
    assert_eq!((channel.state(), server.stats().accepted), (ConnectivityState::Ready, 1));
}

#[tokio::test]
async fn no_call_queues_behind_a_stuck_server_while_another_one_has_a_place() {
    let stage = Stage::new();
    let (stuck, _a) = stage
        .raw("stuck", |mut peer: Peer| async move {
            peer.settings(&[(MAX_CONCURRENT_STREAMS, 1)]);
            peer.ignore().await;
        })
        .await;
    let (_serving, _b) = stage.raw("b", |peer| in_batches(peer, 1)).await;
    let channel = stage.channel(stage.builder().timeout(PATIENCE), 2).await;
    // Round robin may begin with the other one.
    let _hogs: Vec<_> = (0..2)
        .map(|_| {
            let mut client = echo(&channel);
            tokio::spawn(async move { client.unary(request()).await })
        })
        .collect();
    in_time(stuck.until(|stats| stats.open == 1)).await;
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let mut client = echo(&channel);
            tokio::spawn(async move { client.unary(request()).await })
        })
        .collect();
    let begun = Instant::now();
    let mut answers: HashMap<String, usize> = HashMap::new();
    for call in calls {
        *answers.entry(call.await.unwrap().unwrap().into_inner().server).or_default() += 1;
    }
    assert_eq!(answers, HashMap::from([("a".to_owned(), 50)]));
    assert!(begun.elapsed() < PATIENCE / 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_on_several_servers_are_all_used_until_the_last_call_is_answered() {
    let stage = Stage::new();
    let servers = [
        stage.raw("a", |peer| in_batches(peer, 1)).await,
        stage.raw("b", |peer| in_batches(peer, 1)).await,
        stage.raw("c", |peer| in_batches(peer, 1)).await,
    ];
    let channel = stage.channel(stage.builder(), 3).await;
    for _ in 0..10 {
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let mut client = echo(&channel);
                tokio::spawn(async move { client.unary(request()).await })
            })
            .collect();
        for call in calls {
            in_time(call).await.unwrap().unwrap();
        }
    }
    assert_eq!(servers.iter().map(|(server, _)| server.stats().requests).sum::<usize>(), 1_000);
    assert!(servers.iter().all(|(server, _)| server.stats().peak == 1));
}
