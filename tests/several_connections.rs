//! Endpoints that may have more than one connection.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use callboard::Channel;
use callboard_raw::{Peer, Writer, code, setting};
use common::{Stage, echo, endpoint, in_time, quick, request, slow, until};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

/// How many calls the servers here take on one connection.
const PLACES: usize = 5;
/// The largest stream id: a GOAWAY with it refuses nothing that was sent.
const NOTHING_REFUSED: u32 = (1 << 31) - 1;

/// Which server a call was answered by, or why it was not.
type Answer = Result<String, Status>;

fn calls(channel: &Channel, count: usize, delay_ms: u32) -> Vec<JoinHandle<Answer>> {
    let one = |_| {
        let mut client = echo(channel);
        tokio::spawn(async move { Ok(client.unary(slow(delay_ms)).await?.into_inner().server) })
    };
    (0..count).map(one).collect()
}

#[tokio::test]
async fn three_connections_carry_three_times_as_many_calls_and_there_is_no_fourth() {
    let stage = Stage::new();
    let (server, _registration) = stage.limited("a", PLACES as u32).await;
    let channel = stage.channel(stage.builder().max_connections(3), 1).await;
    let all = calls(&channel, 3 * PLACES, 15_000);
    in_time(server.until(|server| server.in_flight() == 3 * PLACES as u64)).await;
    assert_eq!((server.accepted(), server.connections()), (3, 3));
    // One more finds no place, and no further connection is opened for it.
    let over = calls(&channel, 1, 0);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!over[0].is_finished());
    assert_eq!((server.in_flight(), server.accepted()), (3 * PLACES as u64, 3));
    all.iter().for_each(JoinHandle::abort);
    for call in over {
        in_time(call).await.unwrap().unwrap();
    }
    until("no call is in flight", || endpoint(&channel, "a").endpoint.in_flight() == 0).await;
}

#[tokio::test]
async fn a_further_connection_is_opened_only_when_those_there_are_are_full() {
    let stage = Stage::new();
    let (server, _registration) = stage.limited("a", PLACES as u32).await;
    let channel = stage.channel(stage.builder().max_connections(3), 1).await;
    let mut held = Vec::new();
    for connections in 1..=3 {
        for _ in 0..PLACES {
            held.extend(calls(&channel, 1, 15_000));
            in_time(server.until(|server| server.in_flight() == held.len() as u64)).await;
            assert_eq!(server.accepted(), connections, "for {} calls", held.len());
        }
    }
    held.iter().for_each(JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_are_answered_when_there_are_more_calls_than_places() {
    let stage = Stage::new();
    let (server, _registration) = stage.limited("a", PLACES as u32).await;
    let channel = stage.channel(stage.builder().max_connections(3), 1).await;
    for call in calls(&channel, 60, 50) {
        in_time(call).await.unwrap().unwrap();
    }
    assert_eq!((server.calls(), server.accepted()), (60, 3));
    assert_eq!(endpoint(&channel, "a").endpoint.in_flight(), 0);
}

#[tokio::test]
async fn by_default_there_is_one() {
    let stage = Stage::new();
    let (server, _registration) = stage.limited("a", PLACES as u32).await;
    let channel = stage.channel(stage.builder(), 1).await;
    for call in calls(&channel, 60, 5) {
        in_time(call).await.unwrap().unwrap();
    }
    assert_eq!((server.calls(), server.accepted()), (60, 1));
}

/// What the test tells one connection to do.
type Order = Box<dyn FnOnce(&Writer, &[u32]) -> Then + Send>;

enum Then {
    GoOn,
    Cut,
}

/// A connection, as its script tells the test of it: its number, and where it takes orders.
type Line = (usize, mpsc::UnboundedSender<Order>);

/// Reports itself; holds requests, and does with them what it is told.
async fn obey(mut peer: Peer, lines: mpsc::UnboundedSender<Line>) {
    peer.settings(&[(setting::MAX_CONCURRENT_STREAMS, PLACES as u32)]);
    let (orders, mut ordered) = mpsc::unbounded_channel::<Order>();
    lines.send((peer.number(), orders)).unwrap();
    let (writer, mut held) = (peer.writer(), Vec::new());
    loop {
        // Orders come when no frame is on its way, so that none is lost half read.
        tokio::select! {
            request = peer.request() => match request {
                Some(request) => held.push(request.stream),
                None => return,
            },
            Some(order) = ordered.recv() => match order(&writer, &held) {
                Then::GoOn => {}
                Then::Cut => return peer.cut(),
            }
        }
    }
}

fn answer_as(name: &'static str) -> Order {
    Box::new(move |writer, held| {
        held.iter().for_each(|stream| writer.answer(*stream, name));
        Then::GoOn
    })
}

#[tokio::test]
async fn calls_on_the_other_connections_go_on_when_one_is_lost() {
    // The first one, and one of those that were opened because it was full.
    for lost in [1, 2] {
        let stage = Stage::new();
        let (lines, mut opened) = mpsc::unbounded_channel();
        let (server, _registration) = stage.raw("a", move |peer| obey(peer, lines.clone())).await;
        let builder = stage.builder().max_connections(3).backoff(quick());
        let channel = stage.channel(builder, 1).await;
        let mut lines = Vec::new();
        let mut all = Vec::new();
        for connection in 1..=3 {
            all.extend(calls(&channel, PLACES, 0));
            in_time(server.until(|stats| stats.open == connection * PLACES)).await;
            lines.push(in_time(opened.recv()).await.unwrap());
        }
        let (_, cut) = lines.iter().find(|(number, _)| *number == lost).unwrap();
        assert!(cut.send(Box::new(|_, _| Then::Cut)).is_ok());
        in_time(server.until(|stats| stats.open == 2 * PLACES)).await;
        until("its calls are over", || endpoint(&channel, "a").endpoint.in_flight() == 2 * PLACES as u64).await;
        // A call is sent by another connection, which is opened for it: those there are are full.
        let later = calls(&channel, 1, 0);
        let (_, another) = in_time(opened.recv()).await.unwrap();
        in_time(server.until(|stats| stats.open == 2 * PLACES + 1)).await;
        assert!(another.send(answer_as("another")).is_ok());
        for call in later {
            assert_eq!(in_time(call).await.unwrap().unwrap(), "another");
        }
        for (number, line) in &lines {
            assert!(*number == lost || line.send(answer_as("kept")).is_ok());
        }
        let (mut kept, mut failed) = (0, 0);
        for call in all {
            match in_time(call).await.unwrap() {
                Ok(answer) => kept += usize::from(answer == "kept"),
                Err(status) => {
                    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                    failed += 1;
                }
            }
        }
        assert_eq!((kept, failed), (2 * PLACES, PLACES), "with connection {lost} lost");
        assert_eq!(endpoint(&channel, "a").endpoint.in_flight(), 0);
    }
}

#[tokio::test]
async fn no_call_fails_when_one_connection_ends_gracefully() {
    for ending in [1, 2] {
        let stage = Stage::new();
        let (lines, mut opened) = mpsc::unbounded_channel();
        let (server, _registration) = stage.raw("a", move |peer| obey(peer, lines.clone())).await;
        let channel = stage.channel(stage.builder().max_connections(2), 1).await;
        let all = calls(&channel, 2 * PLACES, 0);
        in_time(server.until(|stats| stats.open == 2 * PLACES)).await;
        let lines = [in_time(opened.recv()).await.unwrap(), in_time(opened.recv()).await.unwrap()];
        let (_, line) = lines.iter().find(|(number, _)| *number == ending).unwrap();
        let go_away = Box::new(|writer: &Writer, _: &[u32]| {
            writer.go_away(NOTHING_REFUSED, code::NO_ERROR);
            Then::GoOn
        });
        assert!(line.send(go_away).is_ok());
        // What comes now goes to a third connection: the ending one takes none, and the other one is full.
        let later = calls(&channel, PLACES, 0);
        let (_, third) = in_time(opened.recv()).await.unwrap();
        in_time(server.until(|stats| stats.open == 3 * PLACES)).await;
        assert!(third.send(answer_as("third")).is_ok());
        for call in later {
            assert_eq!(in_time(call).await.unwrap().unwrap(), "third");
        }
        for (_, line) in &lines {
            assert!(line.send(answer_as("kept")).is_ok());
        }
        for call in all {
            assert_eq!(in_time(call).await.unwrap().unwrap(), "kept", "with connection {ending} ending");
        }
        // The ending one is closed once it has nothing to do.
        in_time(server.until(|stats| stats.connections == 2)).await;
        assert_eq!((server.stats().accepted, server.stats().requests), (3, 3 * PLACES));
    }
}

#[tokio::test]
async fn a_further_connection_that_fails_is_tried_again_although_nobody_asks_once_more() {
    let stage = Stage::new();
    let (lines, mut opened) = mpsc::unbounded_channel();
    let script = move |peer: Peer| {
        let lines = lines.clone();
        async move { if peer.number() == 2 { peer.cut() } else { obey(peer, lines).await } }
    };
    let (server, _registration) = stage.raw("a", script).await;
    let channel = stage.channel(stage.builder().max_connections(2), 1).await;
    // The last of these waits, and all the others go on for ever.
    let all = calls(&channel, PLACES + 1, 0);
    in_time(server.until(|stats| stats.accepted == 2 && stats.open == PLACES)).await;
    in_time(server.until(|stats| stats.open == PLACES + 1)).await;
    let lines = [in_time(opened.recv()).await.unwrap(), in_time(opened.recv()).await.unwrap()];
    for (_, line) in &lines {
        assert!(line.send(answer_as("a")).is_ok());
    }
    for call in all {
        in_time(call).await.unwrap().unwrap();
    }
    assert_eq!(server.stats().accepted, 3);
}

#[tokio::test]
async fn a_further_connection_stands_in_for_the_first_one_if_it_is_open_sooner() {
    let stage = Stage::new();
    let (speak, may_speak) = watch::channel(false);
    let (lines, mut opened) = mpsc::unbounded_channel();
    let script = move |mut peer: Peer| {
        let (lines, mut may_speak) = (lines.clone(), may_speak.clone());
        async move {
            match peer.number() {
                1 => obey(peer, lines).await,
                2 => {
                    may_speak.wait_for(|may| *may).await.unwrap();
                    obey(peer, lines).await;
                }
                // Dialled again, the first one never speaks.
                _ => peer.ignore().await,
            }
        }
    };
    let (server, _registration) = stage.raw("a", script).await;
    let channel = stage.channel(stage.builder().max_connections(2), 1).await;
    let all = calls(&channel, PLACES + 1, 0);
    in_time(server.until(|stats| stats.accepted == 2 && stats.open == PLACES)).await;
    let (_, first) = in_time(opened.recv()).await.unwrap();
    assert!(first.send(Box::new(|_, _| Then::Cut)).is_ok());
    in_time(server.until(|stats| stats.accepted == 3)).await;
    speak.send_replace(true);
    let (_, second) = in_time(opened.recv()).await.unwrap();
    in_time(server.until(|stats| stats.open == 1)).await;
    assert!(second.send(answer_as("second")).is_ok());
    let (mut answered, mut failed) = (0, 0);
    for call in all {
        match in_time(call).await.unwrap() {
            Ok(answer) => answered += usize::from(answer == "second"),
            Err(_) => failed += 1,
        }
    }
    assert_eq!((answered, failed), (1, PLACES));
}

#[tokio::test]
async fn calls_that_wait_for_a_place_take_those_of_a_connection_that_was_opened_for_others() {
    let stage = Stage::new();
    let (server, _registration) = stage.limited("a", PLACES as u32).await;
    let channel = stage.channel(stage.builder().max_connections(2), 1).await;
    let hogs = calls(&channel, PLACES, 15_000);
    in_time(server.until(|server| server.in_flight() == PLACES as u64)).await;
    for _ in 0..20 {
        in_time(echo(&channel).unary(request())).await.unwrap();
    }
    assert_eq!((server.accepted(), server.calls()), (2, PLACES as u64 + 20));
    hogs.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn connections_that_a_burst_has_opened_are_closed_when_they_are_idle_and_not_before() {
    let stage = Stage::new();
    let (server, _registration) = stage.limited("a", PLACES as u32).await;
    let builder = stage.builder().max_connections(3).extra_connection_idle_timeout(Duration::from_secs(1));
    let channel = stage.channel(builder, 1).await;
    // The first and the second connection are full for a moment, and one call on the third goes on.
    let burst = calls(&channel, 2 * PLACES, 1_000);
    in_time(server.until(|server| server.in_flight() == 2 * PLACES as u64)).await;
    let long = calls(&channel, 1, 4_000);
    in_time(server.until(|server| server.connections() == 3)).await;
    for call in burst {
        in_time(call).await.unwrap().unwrap();
    }
    in_time(server.until(|server| server.connections() == 2)).await;
    assert!(!long[0].is_finished(), "what is in use is not closed");
    for call in long {
        in_time(call).await.unwrap().unwrap();
    }
    in_time(server.until(|server| server.connections() == 1)).await;
    // The first one stays, and one more is opened when it is full again.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!((server.connections(), server.accepted()), (1, 3));
    for call in calls(&channel, 2 * PLACES, 500) {
        in_time(call).await.unwrap().unwrap();
    }
    assert_eq!(server.accepted(), 4);
}
