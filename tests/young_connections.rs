//! Servers and proxies that end connections young, as nginx does after so many requests, and servers with a maximum age.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use callboard::{Channel, ConnectivityState, Incarnation, Instance};
use callboard_echo::EchoServer;
use callboard_raw::{Event, Peer, code, serve};
use common::listing::Listing;
use common::silent::{Odd, SETTINGS};
use common::{Stage, echo, endpoint, in_time, request, until};
use tokio::time::{sleep, timeout};
use tonic::Code;

const CALLERS: usize = 32;
/// A GOAWAY with this last stream refuses nothing that was sent.
const NOTHING_REFUSED: u32 = (1 << 31) - 1;

/// Answers so many requests, then closes in an orderly way: nginx's `keepalive_requests`.
async fn so_many(mut peer: Peer, most: usize) {
    peer.settings(&[]);
    let (mut begun, mut last) = (0, NOTHING_REFUSED);
    while let Some(event) = peer.next().await {
        if let Event::Request { stream, .. } = event {
            begun += 1;
            if begun == most {
                peer.go_away(stream, code::NO_ERROR);
                last = stream;
            }
        }
        let (Event::Request { stream, end: true } | Event::Data { stream, end: true, .. }) = event else { continue };
        // What was begun after the last one counts as refused.
        if stream <= last {
            peer.answer(stream, "a");
        }
    }
}

/// Calls from many at once for a while; gives how many calls there were, and which failed.
async fn load(channel: &Channel, time: Duration) -> (usize, Vec<tonic::Status>) {
    let (enough, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (mut client, enough, made) = (echo(channel), Arc::clone(&enough), Arc::clone(&made));
            tokio::spawn(async move {
                let mut failed = Vec::new();
                while !enough.load(Ordering::Relaxed) {
                    made.fetch_add(1, Ordering::Relaxed);
                    failed.extend(client.unary(request()).await.err());
                }
                failed
            })
        })
        .collect();
    sleep(time).await;
    enough.store(true, Ordering::Relaxed);
    let mut failed = Vec::new();
    for caller in callers {
        failed.extend(in_time(caller).await.unwrap());
    }
    (made.load(Ordering::Relaxed), failed)
}

fn assert_none(what: &str, (made, failed): (usize, Vec<tonic::Status>)) {
    println!("{what}: {made} calls, {} failed", failed.len());
    assert!(failed.is_empty(), "{what}: {} of {made}, the first: {:?}", failed.len(), failed[0]);
    assert!(made > 100, "{what}: {made} calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_at_servers_that_close_after_so_many_requests() {
    for servers in [1, 3] {
        let stage = Stage::new();
        let mut running = Vec::new();
        for id in ["a", "b", "c"].into_iter().take(servers) {
            running.push(stage.raw(id, |peer| so_many(peer, 100)).await);
        }
        let channel = stage.channel(stage.builder(), servers).await;
        assert_none(
            &format!("{servers} servers, 100 requests each time"),
            load(&channel, Duration::from_secs(3)).await,
        );
        let accepted: usize = running.iter().map(|(server, _)| server.stats().accepted).sum();
        assert!(accepted > 10, "the connections did end: {accepted}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_at_servers_with_a_maximum_age_be_they_busy_or_hardly_called() {
    for age in [300, 900].map(Duration::from_millis) {
        let stage = Stage::new();
        let mut running = Vec::new();
        for id in ["a", "b", "c"] {
            let address = (Ipv4Addr::LOCALHOST, 0).into();
            let configure = |server: tonic::transport::Server| server.max_connection_age(age);
            let server = EchoServer::start_with(id, address, configure).await.unwrap();
            let registration = stage.sign_in(id, server.address().try_into().unwrap(), 1).await;
            running.push((server, registration));
        }
        let channel = stage.channel(stage.builder(), 3).await;
        assert_none(&format!("age {age:?}, busy"), load(&channel, Duration::from_secs(4)).await);
        for number in 0..20 {
            sleep(Duration::from_millis(150)).await;
            in_time(echo(&channel).unary(request()))
                .await
                .unwrap_or_else(|status| panic!("{age:?}, {number}: {status:?}"));
        }
    }
}

/// Which way a connection ends that has carried nothing.
#[derive(Clone, Copy, Debug)]
enum Unused {
    Announced,
    Cut,
}

#[tokio::test]
async fn a_server_that_ends_unused_connections_is_well_and_dialled_at_most_once_a_second_until_a_call_wants_it() {
    for manner in [Unused::Announced, Unused::Cut] {
        let stage = Stage::new();
        let well = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&well);
        let script = move |mut peer: Peer| {
            let well = Arc::clone(&told);
            async move {
                if well.load(Ordering::SeqCst) {
                    return serve("a", peer).await;
                }
                peer.settings(&[]);
                // The client's SETTINGS, and what it says when it has seen these.
                let _ = timeout(Duration::from_millis(20), peer.ignore()).await;
                if matches!(manner, Unused::Announced) {
                    peer.go_away(NOTHING_REFUSED, code::NO_ERROR);
                }
            }
        };
        let (server, _registration) = stage.raw("a", script).await;
        let channel = stage.builder().build().unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(4) {
            assert_ne!(channel.state(), ConnectivityState::TransientFailure, "{manner:?}");
            sleep(Duration::from_millis(5)).await;
        }
        let accepted = server.stats().accepted;
        assert!((3..=8).contains(&accepted), "{manner:?}: {accepted} connections in 4 s");

        until("it rests", || endpoint(&channel, "a").endpoint.state() == ConnectivityState::Idle).await;
        well.store(true, Ordering::SeqCst);
        let asked = Instant::now();
        in_time(echo(&channel).unary(request())).await.unwrap();
        println!("{manner:?}: {accepted} connections in 4 s, a call waited for {:?}", asked.elapsed());
        assert!(asked.elapsed() < Duration::from_millis(900), "{manner:?}: {:?}", asked.elapsed());
    }
}

#[tokio::test]
async fn a_server_that_takes_calls_and_hangs_up_is_failing_with_backoff_and_says_so() {
    let stage = Stage::new();
    let (server, _registration) = stage
        .raw("a", |mut peer: Peer| async move {
            peer.settings(&[]);
            peer.request().await;
        })
        .await;
    let channel = stage.channel(stage.builder(), 1).await;
    let begun = Instant::now();
    let mut made = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        made += 1;
        sleep(Duration::from_millis(1)).await;
    }
    let accepted = server.stats().accepted;
    println!("{made} calls, {accepted} connections in 2 s");
    assert!((2..=5).contains(&accepted), "{accepted} connections in 2 s");
    assert!(endpoint(&channel, "a").connection_error.is_some());
}

/// Ends its first connections in good order when a request has come, which it has not processed.
async fn overtaken(stage: &Stage, connections: usize) -> (callboard_raw::RawServer, callboard::Registration) {
    let script = move |mut peer: Peer| async move {
        if peer.number() > connections {
            return serve("a", peer).await;
        }
        peer.settings(&[]);
        peer.opened().await;
        peer.go_away(0, code::NO_ERROR);
        peer.ignore().await;
    };
    stage.raw("a", script).await
}

#[tokio::test]
async fn a_call_that_is_overtaken_by_the_orderly_end_of_its_connection_is_sent_again_up_to_four_times() {
    for connections in [1, 2, 4] {
        let stage = Stage::new();
        let (server, _registration) = overtaken(&stage, connections).await;
        let channel = stage.channel(stage.builder(), 1).await;
        in_time(echo(&channel).unary(request())).await.unwrap();
        assert_eq!(server.stats().requests, connections + 1);
    }
    let stage = Stage::new();
    let (server, _registration) = overtaken(&stage, usize::MAX).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(server.stats().requests, 5, "the fifth is final");
}

/// How often a server is dialled within 3 s that hangs up at once or after its SETTINGS, while the registry says these sets
/// by turns.
async fn dials(sets: impl Fn(Instance) -> Vec<Vec<Instance>>) -> [usize; 2] {
    let mut dials = [0; 2];
    for (dials, word) in dials.iter_mut().zip([b"" as &[u8], SETTINGS]) {
        let odd = Odd::hanging_up(word).await;
        let instance = Instance::new("a", odd.address.clone()).unwrap();
        let changing = Listing::by_turns(Duration::from_millis(5), sets(instance));
        let stage = Stage::new();
        let channel = stage.builder().resolver(changing).build().unwrap();
        until("it is dialled", || odd.accepted() > 0).await;
        sleep(Duration::from_secs(3)).await;
        assert!(channel.endpoints().len() <= 2);
        *dials = odd.accepted();
    }
    println!("{dials:?} dials in 3 s");
    dials
}

#[tokio::test]
async fn a_server_that_is_said_to_restart_all_the_time_is_dialled_with_backoff() {
    let restarts = |instance: Instance| {
        let restarted = |micros| vec![instance.clone().with_incarnation(Incarnation::from_micros(micros))];
        (1..=5_000).map(restarted).collect()
    };
    // Twice for each second and once more; after SETTINGS one may have any reason, so twice as often.
    let dials = dials(restarts).await;
    assert!(dials[0] <= 9 && dials[1] <= 18, "{dials:?}");
}

#[tokio::test]
async fn an_address_that_comes_and_goes_is_dialled_with_backoff() {
    let other = Instance::new("b", "127.0.0.1:1".parse().unwrap()).unwrap();
    let comes_and_goes = |instance: Instance| vec![vec![instance, other.clone()], vec![other.clone()]];
    let dials = dials(comes_and_goes).await;
    assert!(dials[0] <= 9 && dials[1] <= 9, "{dials:?}");
}
