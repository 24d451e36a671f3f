//! What load reports are for: a server whose processor is taken by a neighbour gets fewer calls, and calls stay fast.
//!
//! Three servers, each a process, do real work for each call. One is alone on a processor, the other two share another
//! one. Then a neighbour comes to the first: a process of many threads that compute. The same calls go over a channel with
//! `weighted_round_robin` and one with `round_robin`, in turns, so that neither disturbs the other.
//!
//! What makes 10 s possible: servers measure over 1 s instead of 5 s. That the blackout is 1 s and not 10 s makes only the
//! beginning shorter, as nobody's weight expires.
#![cfg(target_os = "linux")]
// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use callboard::balancer::{RoundRobin, WeightedRoundRobin, WeightedRoundRobinSettings};
use callboard::load::{LoadRecorder, LoadReportLayer};
use callboard::{Channel, ServedBy};
use callboard_echo::pb::EchoResponse;
use callboard_echo::pb::echo_server::EchoServer;
use common::scripted::Script;
use common::{PATIENCE, Stage, echo, request, until_ready};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Response;

/// What the server with the neighbour has at most, in percent. A third would be the same as for the others.
const LITTLE: f64 = 10.0;

/// What it has at least when it is alone, in percent.
const FAIR: f64 = 20.0;

/// What says to the test `another_process` what it is.
const ROLE: &str = "CALLBOARD_NEIGHBOUR_TEST";

/// How much of a processor's time a call takes.
const WORK: Duration = Duration::from_millis(2);

/// Calls per second. Their work is a small part of a processor, so there is room for whatever else runs here.
const RATE: u32 = 20;

/// Calls per second while the server's share returns: it is known to be better from its next call on.
const RATE_AFTER: u32 = 60;

/// A server beside so many busy threads gets 2 or 3 calls per second done. A third of all calls is more than that.
const NEIGHBOURS: usize = 128;

/// Another process. It is killed when this is dropped.
struct Other {
    process: Child,
    /// What it said first.
    said: String,
}

impl Other {
    /// Starts it on one processor.
    fn start(role: &str, processor: usize) -> Self {
        let before = sched_getaffinity(None).unwrap();
        // It inherits the processor.
        keep_to(processor);
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "another_process", "--ignored", "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        sched_setaffinity(None, &before).unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        let said = lines.find_map(|line| line.strip_prefix("said: ").map(str::to_owned));
        Self { process, said: said.expect("it says something before it ends") }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed then.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Keeps this thread, and what it starts, to one processor.
fn keep_to(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).unwrap();
}

/// Takes that much of the processor's time, however long that takes.
fn work() {
    let used = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
    };
    let end = used() + WORK;
    let mut hash = 0_u64;
    while used() < end {
        hash = compute(hash);
    }
}

fn compute(hash: u64) -> u64 {
    (0..1_000).fold(hash, |hash, number| std::hint::black_box((hash ^ number).wrapping_mul(0x100_0000_01B3)))
}

#[test]
#[ignore = "the other processes of the test beside it, which starts them"]
fn another_process() {
    match std::env::var(ROLE).as_deref() {
        Ok("server") => {
            // One thread: as many threads, as many shares of the processor.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.spawn(server());
            runtime.block_on(async { tokio::task::spawn_blocking(until_orphaned).await.unwrap() });
            runtime.shutdown_background();
        }
        Ok("neighbour") => {
            for _ in 0..NEIGHBOURS {
                std::thread::spawn(|| {
                    let mut hash = 0;
                    loop {
                        hash = compute(hash);
                    }
                });
            }
            println!("\nsaid: working");
            until_orphaned();
        }
        _ => {}
    }
}

/// Whoever has started it kills it; if that died first, its end of the pipe is closed.
fn until_orphaned() {
    let _ = std::io::stdin().read(&mut [0]);
}

async fn server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("\nsaid: {}", listener.local_addr().unwrap());
    let service = EchoServer::new(Script(|_| {
        work();
        Ok(Response::new(EchoResponse::default()))
    }));
    let recorder = LoadRecorder::with_window(Duration::from_secs(1));
    tonic::transport::Server::builder()
        .layer(LoadReportLayer::new(recorder))
        .add_service(service)
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
        .unwrap();
}

/// A call that was answered.
struct Answered {
    /// Counted from when the load began.
    sent: Duration,
    took: Duration,
    by: String,
}

/// Calls at the same rate for so long, whether or not answers come, and waits for all answers.
async fn load(channel: &Channel, rate: u32, length: Duration) -> Vec<Answered> {
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut calls = Vec::new();
    while begun.elapsed() < length {
        ticks.tick().await;
        let (mut client, sent) = (echo(channel), Instant::now());
        calls.push(tokio::spawn(async move {
            let response = client.unary(request()).await.unwrap();
            let ServedBy(endpoint) = response.extensions().get().unwrap();
            Answered { sent: sent - begun, took: sent.elapsed(), by: endpoint.instance().id().to_owned() }
        }));
    }
    let mut answered = Vec::new();
    for call in calls {
        answered.push(tokio::time::timeout(Duration::from_secs(120), call).await.expect("in time").unwrap());
    }
    answered
}

/// The share of the one that gets the neighbour, in percent.
fn share<'a>(calls: impl IntoIterator<Item = &'a Answered>) -> f64 {
    let calls: Vec<_> = calls.into_iter().collect();
    100.0 * calls.iter().filter(|call| call.by == "a").count() as f64 / calls.len() as f64
}

fn p99(calls: &[Answered]) -> Duration {
    let mut took: Vec<_> = calls.iter().map(|call| call.took).collect();
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

/// The shares in each second.
fn by_second(calls: &[Answered]) -> Vec<f64> {
    let last = calls.iter().map(|call| call.sent.as_secs()).max().unwrap_or(0);
    let second = |second| share(calls.iter().filter(|call| call.sent.as_secs() == second));
    (0..=last).map(second).collect()
}

fn printed(shares: &[f64]) -> String {
    shares.iter().map(|share| format!("{share:.0}")).collect::<Vec<_>>().join(" ")
}

#[test]
#[ignore = "keeps two processors busy for a minute: make test"]
fn a_server_with_a_busy_neighbour_gets_fewer_calls_until_the_neighbour_ends() {
    let all = sched_getaffinity(None).unwrap();
    let mut processors = (0..CpuSet::MAX_CPU).filter(|processor| all.is_set(*processor));
    let (Some(first), Some(second)) = (processors.next(), processors.next()) else {
        panic!("this test needs two processors: one that is taken, and one that is not");
    };
    let servers = [("a", first), ("b", second), ("c", second)].map(|(id, cpu)| (id, Other::start("server", cpu)));
    // The client is not what is measured: it stays away from the neighbour.
    keep_to(second);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(demonstrate(&servers, || Other::start("neighbour", first)));
}

async fn demonstrate(servers: &[(&str, Other)], neighbour: impl Fn() -> Other) {
    let stage = Stage::new();
    let mut signed_in = Vec::new();
    for (id, server) in servers {
        let address: SocketAddr = server.said.parse().unwrap();
        signed_in.push(stage.sign_in(id, address.try_into().unwrap(), 1).await);
    }
    let mut settings = WeightedRoundRobinSettings::default();
    settings.blackout_period = Duration::from_secs(1);
    let weighted = stage.builder().balancer(WeightedRoundRobin::with_settings(settings).unwrap()).build().unwrap();
    let plain = stage.builder().balancer(RoundRobin::new()).build().unwrap();
    for channel in [&weighted, &plain] {
        until_ready(channel, servers.len()).await;
    }

    load(&weighted, RATE, Duration::from_secs(5)).await;
    let before = share(&load(&weighted, RATE, Duration::from_secs(5)).await);
    println!("share of server a, in percent, before:   {before:.1}");

    let neighbour = neighbour();
    let first = load(&weighted, RATE, Duration::from_secs(10)).await;
    let shares = by_second(&first);
    println!("by seconds from when the neighbour came: {}", printed(&shares));
    let (mut by_weight, mut in_turn) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        by_weight.extend(load(&weighted, RATE, Duration::from_secs(5)).await);
        in_turn.extend(load(&plain, RATE, Duration::from_secs(5)).await);
    }
    let (during, plain_share, slow, fast) = (share(&by_weight), share(&in_turn), p99(&in_turn), p99(&by_weight));
    println!("after 10 s:  weighted_round_robin: share {during:.1}, p99 of all calls {fast:.1?}");
    println!("             round_robin:          share {plain_share:.1}, p99 of all calls {slow:.1?}");
    println!("             p99 relative:         {:.3} (at most 0.6)", fast.as_secs_f64() / slow.as_secs_f64());

    drop(neighbour);
    let ended = Instant::now();
    let after = loop {
        let after = share(&load(&weighted, RATE_AFTER, Duration::from_secs(2)).await);
        println!("{:.0} s after the neighbour ended: {after:.1}", ended.elapsed().as_secs_f64());
        // Other work on this machine may be its next neighbour, and rightly keeps the share low until it moves on.
        if after > FAIR || ended.elapsed() > 15 * PATIENCE {
            break after;
        }
    };

    assert!((plain_share - 33.3).abs() < 1.0, "round robin is no measure: {plain_share:.1}");
    assert!(during < LITTLE, "the share has not fallen: {during:.1}");
    assert!(fast.as_secs_f64() <= 0.6 * slow.as_secs_f64(), "p99 {fast:?} of round robin's {slow:?}");
    assert!(after > FAIR, "the share has not returned: {after:.1}");
}
