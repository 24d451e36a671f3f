//! Peers that say nothing, or nothing that makes sense.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use callboard::{Backoff, ConnectivityState, Keepalive};
use callboard_echo::EchoServer;
use callboard_raw::{Event, Mode, Peer, Proxy, RawServer, serve};
use common::{Stage, echo, endpoint, in_time, quick, request, until, until_ready};
use tonic::Code;

/// How a server leaves a connection.
type End = fn(Peer);

/// A channel that asks for a sign of life as often as it may.
fn anxious() -> Keepalive {
    Keepalive::every(Duration::from_secs(1)).timeout(Duration::from_secs(1)).while_idle(true)
}

/// Interval and timeout of that, and some time for a busy machine.
const NOTICED: Duration = Duration::from_millis(2_900);

#[tokio::test]
async fn a_listener_that_never_speaks_is_never_ready() {
    let stage = Stage::new();
    let (server, _registration) = stage.raw("a", |mut peer: Peer| async move { peer.ignore().await }).await;
    let builder = stage.builder().connect_timeout(Duration::from_millis(200)).backoff(quick());
    let channel = builder.build().unwrap();
    let mut states = channel.watch_state();
    let watcher = tokio::spawn(async move {
        let mut seen = vec![*states.borrow_and_update()];
        while states.changed().await.is_ok() {
            seen.push(*states.borrow_and_update());
        }
        seen
    });
    in_time(server.until(|stats| stats.accepted == 3)).await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    for part in ["project/test", &server.address().to_string(), "SETTINGS", "200ms"] {
        assert!(status.message().contains(part), "{part} in {status:?}");
    }
    assert_eq!(server.stats().requests, 0);
    drop(channel);
    let seen = in_time(watcher).await.unwrap();
    assert!(!seen.contains(&ConnectivityState::Ready), "{seen:?}");
}

#[tokio::test]
async fn settings_that_come_late_but_in_time_are_waited_for() {
    let stage = Stage::new();
    let (_server, _registration) = stage
        .raw("a", |peer: Peer| async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            serve("a", peer).await;
        })
        .await;
    let channel = stage.builder().build().unwrap();
    until("it is dialled", || endpoint_state(&channel) == Some(ConnectivityState::Connecting)).await;
    in_time(echo(&channel).unary(request())).await.unwrap();
}

fn endpoint_state(channel: &callboard::Channel) -> Option<ConnectivityState> {
    channel.endpoints().first().map(|status| status.endpoint.state())
}

#[tokio::test]
async fn servers_that_hang_up_or_talk_nonsense_are_dialled_with_backoff_and_named() {
    let scripts: [(&str, End); 4] = [
        ("garbage", |peer| peer.bytes(vec![0xAB; 100])),
        ("HTTP/1", |peer| peer.bytes(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n".to_vec())),
        ("hang up", Peer::cut),
        // Ready for a moment.
        ("SETTINGS and garbage", |peer| {
            peer.settings(&[]);
            peer.bytes(vec![0xAB; 100]);
        }),
    ];
    for (what, script) in scripts {
        let stage = Stage::new();
        let (server, _registration) = stage
            .raw("a", move |mut peer: Peer| async move {
                peer.next().await;
                script(peer);
            })
            .await;
        let (_serving, _b) = stage.raw("b", |peer| serve("b", peer)).await;
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(100), 1.0, 0.0).unwrap();
        let begun = Instant::now();
        let channel = stage.builder().backoff(backoff).build().unwrap();
        in_time(server.until(|stats| stats.accepted == 4)).await;
        // One that was ready, if only for a moment, is dialled again at once the first time.
        let waits = if what.starts_with("SETTINGS") { 2 } else { 3 };
        assert!(begun.elapsed() >= Duration::from_millis(100 * waits - 10), "{what}: {:?}", begun.elapsed());
        until("the failure is shown", || endpoint(&channel, "a").connection_error.is_some()).await;
        for _ in 0..20 {
            assert_eq!(in_time(echo(&channel).unary(request())).await.unwrap().into_inner().server, "b", "{what}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_in_any_way_ends_its_calls_with_unavailable_and_is_dialled_again() {
    let ends: [(&str, End); 4] = [
        ("cut", Peer::cut),
        ("close", drop),
        ("garbage", |peer| peer.bytes(vec![0xAB; 100])),
        // A frame that HTTP/2 forbids: DATA on stream 0.
        ("forbidden", |peer| peer.data(0, b"x", false)),
    ];
    for (what, end) in ends {
        let stage = Stage::new();
        let (server, _registration) = stage
            .raw("a", move |mut peer: Peer| async move {
                if peer.number() > 1 {
                    return serve("again", peer).await;
                }
                peer.settings(&[]);
                peer.request().await.unwrap();
                // With a response begun on one stream and none on the other.
                let second = peer.request().await.unwrap();
                peer.head(second.stream);
                end(peer);
            })
            .await;
        let channel = stage.channel(stage.builder().backoff(quick()), 1).await;
        let (mut one, mut two) = (echo(&channel), echo(&channel));
        let (first, second) = in_time(async { tokio::join!(one.unary(request()), two.unary(request())) }).await;
        for status in [first.unwrap_err(), second.unwrap_err()] {
            assert_eq!(status.code(), Code::Unavailable, "{what}: {status:?}");
            for part in ["project/test", &server.address().to_string()] {
                assert!(status.message().contains(part), "{what}: {part} in {status:?}");
            }
        }
        assert_eq!(server.stats().requests, 2, "{what}: they may have been processed");
        until_ready(&channel, 1).await;
        let answer = in_time(echo(&channel).unary(request())).await.unwrap();
        assert_eq!(answer.into_inner().server, "again");
        assert_eq!(endpoint(&channel, "a").endpoint.in_flight(), 0);
    }
}

#[tokio::test]
async fn a_server_that_closes_its_half_is_left() {
    let stage = Stage::new();
    let (server, _registration) = stage
        .raw("a", |mut peer: Peer| async move {
            if peer.number() > 1 {
                return serve("again", peer).await;
            }
            peer.settings(&[]);
            peer.request().await.unwrap();
            peer.half_close();
            // It would read on for ever.
            peer.ignore().await;
        })
        .await;
    let channel = stage.channel(stage.builder().backoff(quick()), 1).await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    in_time(server.until(|stats| stats.accepted == 2 && stats.connections == 1)).await;
    until_ready(&channel, 1).await;
    in_time(echo(&channel).unary(request())).await.unwrap();
}

#[tokio::test]
async fn a_black_hole_is_noticed_in_time_and_its_calls_end_with_unavailable() {
    let stage = Stage::new();
    let (hidden, _b) = (EchoServer::start("a").await.unwrap(), stage.server("b").await);
    let proxy = Proxy::to(hidden.address()).await;
    let _a = stage.sign_in("a", proxy.address().try_into().unwrap(), 1).await;
    let channel = stage.channel(stage.builder().keepalive(anxious()), 2).await;
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let mut client = echo(&channel);
            tokio::spawn(async move { client.unary(common::slow(3_600_000)).await })
        })
        .collect();
    until("calls are with both", || hidden.in_flight() == 5).await;
    proxy.set(Mode::BlackHole).await;
    let begun = Instant::now();
    until("the endpoint is left", || endpoint(&channel, "a").endpoint.state() != ConnectivityState::Ready).await;
    assert!(begun.elapsed() < NOTICED, "{:?}", begun.elapsed());
    until("its calls are over", || endpoint(&channel, "a").endpoint.in_flight() == 0).await;
    for call in calls {
        if call.is_finished() {
            let status = call.await.unwrap().unwrap_err();
            assert_eq!(status.code(), Code::Unavailable);
            for part in ["project/test", &proxy.address().to_string(), "PING"] {
                assert!(status.message().contains(part), "{part} in {status:?}");
            }
        } else {
            call.abort();
        }
    }
    // The other one serves on, and the black hole is not given anything.
    for _ in 0..20 {
        let answer = in_time(echo(&channel).unary(request())).await.unwrap();
        assert_eq!(answer.into_inner().server, "b");
    }
    proxy.set(Mode::Pass).await;
}

#[tokio::test]
async fn a_black_hole_is_noticed_while_nobody_calls() {
    let stage = Stage::new();
    let hidden = EchoServer::start("a").await.unwrap();
    let proxy = Proxy::to(hidden.address()).await;
    let _a = stage.sign_in("a", proxy.address().try_into().unwrap(), 1).await;
    let channel = stage.channel(stage.builder().keepalive(anxious()), 1).await;
    // Answered PINGs keep the connection.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!((channel.state(), hidden.accepted()), (ConnectivityState::Ready, 1));
    proxy.set(Mode::BlackHole).await;
    let begun = Instant::now();
    until("the endpoint is left", || channel.state() != ConnectivityState::Ready).await;
    assert!(begun.elapsed() < NOTICED, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_server_that_falls_silent_between_a_ping_and_its_answer_is_noticed() {
    let stage = Stage::new();
    // It sends something when it is asked, but never the answer, and then nothing at all.
    let server = RawServer::start(|mut peer: Peer| async move {
        peer.settings(&[]);
        peer.without_pongs();
        let mut asked = false;
        while let Some(event) = peer.next().await {
            if let Event::Ping(_) = event
                && !asked
            {
                asked = true;
                peer.window(0, 1);
            }
        }
    })
    .await
    .unwrap();
    let _registration = stage.sign_in("a", server.address().try_into().unwrap(), 1).await;
    let channel = stage.channel(stage.builder().keepalive(anxious()).backoff(quick()), 1).await;
    let begun = Instant::now();
    in_time(server.until(|stats| stats.accepted == 2)).await;
    // A PING, a sign of life, another interval, and a wait in vain.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(channel);
}
