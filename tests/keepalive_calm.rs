//! A server that is asked for signs of life too often says so.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use callboard::{ConnectivityState, Keepalive};
use callboard_raw::{Event, Peer, Writer, code, setting};
use common::{Stage, echo, in_time, request};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The first PING of a connection: the connection's number, and how old it was.
type Noted = (usize, Duration);

/// Answers requests and, on its first connections, does not bear a single PING.
async fn fuss(mut peer: Peer, pings: mpsc::UnboundedSender<Noted>, connections: usize) {
    let begun = Instant::now();
    peer.settings(&[]);
    while let Some(event) = peer.next().await {
        match event {
            Event::Ping(_) => {
                pings.send((peer.number(), begun.elapsed())).unwrap();
                if peer.number() <= connections {
                    too_many_pings(&peer);
                    // As grpc-go does, it closes the connection behind that.
                    return;
                }
            }
            Event::Data { stream, end: true, .. } => peer.answer(stream, "a"),
            _ => {}
        }
    }
}

/// Greets, and notes the first PING. False if the connection ends before.
async fn first_ping(peer: &mut Peer, pings: &mpsc::UnboundedSender<Noted>) -> bool {
    let begun = Instant::now();
    peer.settings(&[]);
    while let Some(event) = peer.next().await {
        if matches!(event, Event::Ping(_)) {
            pings.send((peer.number(), begun.elapsed())).unwrap();
            return true;
        }
    }
    false
}

/// GOAWAY with ENHANCE_YOUR_CALM and grpc's word for it.
fn too_many_pings(writer: &Writer) {
    calm(writer, b"too_many_pings");
}

/// GOAWAY with ENHANCE_YOUR_CALM, which has looked at the first request, and these words.
fn calm(writer: &Writer, words: &[u8]) {
    let last = 1_u32;
    let mut frame = (8 + words.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([7, 0, 0, 0, 0, 0]);
    frame.extend(last.to_be_bytes());
    frame.extend(code::ENHANCE_YOUR_CALM.to_be_bytes());
    frame.extend(words);
    writer.bytes(frame);
}

#[tokio::test]
async fn each_time_a_server_asks_for_calm_it_is_asked_half_as_often_from_then_on() {
    let stage = Stage::new();
    let (pings, mut noted) = mpsc::unbounded_channel();
    let (server, _registration) = stage.raw("a", move |peer| fuss(peer, pings.clone(), 2)).await;
    let keepalive = Keepalive::every(Duration::from_secs(1)).while_idle(true);
    let channel = stage.channel(stage.builder().keepalive(keepalive), 1).await;
    for (connection, interval) in [(1, 1_000), (2, 2_000), (3, 4_000)] {
        assert_about(in_time(noted.recv()).await.unwrap(), connection, interval);
    }
    // The last one is borne, and serves.
    in_time(echo(&channel).unary(request())).await.unwrap();
    assert_eq!((channel.state(), server.stats().accepted), (ConnectivityState::Ready, 3));
}

#[tokio::test]
async fn a_server_that_asks_for_calm_on_a_further_connection_means_the_next_ones_too() {
    let stage = Stage::new();
    let (pings, mut noted) = mpsc::unbounded_channel();
    let script = move |mut peer: Peer| {
        let pings = pings.clone();
        async move {
            let begun = Instant::now();
            peer.settings(&[(setting::MAX_CONCURRENT_STREAMS, 1)]);
            while let Some(event) = peer.next().await {
                if matches!(event, Event::Ping(_)) && peer.number() > 1 {
                    pings.send((peer.number(), begun.elapsed())).unwrap();
                    if peer.number() == 2 {
                        return too_many_pings(&peer);
                    }
                }
            }
        }
    };
    let (_server, _registration) = stage.raw("a", script).await;
    let builder = stage.builder().keepalive(Keepalive::every(Duration::from_secs(1))).max_connections(2);
    let channel = stage.channel(builder, 1).await;
    // One on each connection, and one that waits until the second connection is replaced. None is ever answered.
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let mut client = echo(&channel);
            tokio::spawn(async move { client.unary(request()).await })
        })
        .collect();
    for (connection, interval) in [(2, 1_000), (3, 2_000)] {
        assert_about(in_time(noted.recv()).await.unwrap(), connection, interval);
    }
    calls.iter().for_each(JoinHandle::abort);
}

/// Whether a connection's first PING came after so long.
fn assert_about((number, age): Noted, connection: usize, interval: u64) {
    let range = Duration::from_millis(interval - 100)..Duration::from_millis(interval * 9 / 5);
    assert!(number == connection && range.contains(&age), "connection {number}: {age:?} is not in {range:?}");
}

/// A server may ask for calm because of anything: only gRPC's word for too many PINGs is about those.
#[tokio::test]
async fn a_server_that_asks_for_calm_for_another_reason_is_asked_as_often_as_before() {
    let stage = Stage::new();
    let (pings, mut noted) = mpsc::unbounded_channel();
    let script = move |mut peer: Peer| {
        let pings = pings.clone();
        async move {
            if first_ping(&mut peer, &pings).await {
                calm(&peer, b"too_many_resets");
            }
        }
    };
    let (_server, _registration) = stage.raw("a", script).await;
    let keepalive = Keepalive::every(Duration::from_secs(1)).while_idle(true);
    let _channel = stage.channel(stage.builder().keepalive(keepalive), 1).await;
    for connection in 1..=3 {
        assert_about(in_time(noted.recv()).await.unwrap(), connection, 1_000);
    }
}

#[tokio::test]
async fn what_a_server_says_when_it_ends_a_connection_is_told_in_one_line() {
    let long = [b"x".repeat(1_000), b"\n".to_vec()].concat();
    let said: [(&[u8], &str); 4] = [
        (b"too_many_resets", "GOAWAY(ENHANCE_YOUR_CALM) and said \"too_many_resets\"; registry"),
        (b"a\nb\"\xff", "GOAWAY(ENHANCE_YOUR_CALM) and said \"a\\nb\\\"\\xff\"; registry"),
        (b"", "GOAWAY(ENHANCE_YOUR_CALM); registry"),
        (&long, "xxx...\"; registry"),
    ];
    for (words, expected) in said {
        let stage = Stage::new();
        let words = words.to_vec();
        let script = move |mut peer: Peer| {
            let words = words.clone();
            async move {
                peer.settings(&[]);
                if peer.request().await.is_some() {
                    calm(&peer, &words);
                }
            }
        };
        let (_server, _registration) = stage.raw("a", script).await;
        let channel = stage.channel(stage.builder(), 1).await;
        let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
        assert!(status.message().contains(expected), "{:?}", status.message());
        assert!(status.message().len() < 400 && !status.message().contains('\n'), "{:?}", status.message());
    }
}

/// What a server bears was said by its process. Another one at the same address may bear more; the next connection to it
/// asks as often as the settings say.
#[tokio::test]
async fn a_server_that_was_restarted_is_asked_as_often_as_its_predecessor_at_first() {
    let stage = Stage::new();
    let (pings, mut noted) = mpsc::unbounded_channel();
    let script = move |mut peer: Peer| {
        let pings = pings.clone();
        async move {
            if first_ping(&mut peer, &pings).await && peer.number() == 1 {
                too_many_pings(&peer);
            }
        }
    };
    let (server, _registration) = stage.raw("a", script).await;
    let keepalive = Keepalive::every(Duration::from_secs(1)).while_idle(true);
    let _channel = stage.channel(stage.builder().keepalive(keepalive), 1).await;
    assert_about(in_time(noted.recv()).await.unwrap(), 1, 1_000);
    in_time(server.until(|stats| stats.accepted == 2)).await;
    let _restarted = stage.sign_in("a", server.address().try_into().unwrap(), 1).await;
    assert_about(in_time(noted.recv()).await.unwrap(), 2, 2_000);
    assert_about(in_time(noted.recv()).await.unwrap(), 3, 1_000);
}
