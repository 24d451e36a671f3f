//! Where a call has failed, and where there is no place: pickers are told, and told what became of each pick.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use callboard::balancer::{RoundRobin, Weighted};
use callboard::{Balancer, Call, Channel, Member, Members, Outcome, Pick, Picker};
use callboard_raw::{Peer, code, serve};
use common::{Stage, echo, in_time, request, slow, until, within};
use tonic::Code;

const RETRIES: &str = r#"{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.001s",
    "maxBackoff": "0.01s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}"#;

/// Refuses each request unprocessed.
async fn refuse(mut peer: Peer) {
    peer.settings(&[]);
    while let Some(request) = peer.request().await {
        peer.reset(request.stream, code::REFUSED_STREAM);
    }
}

/// Answers each request with UNAVAILABLE.
async fn unavailable(mut peer: Peer) {
    peer.settings(&[]);
    while let Some(request) = peer.request().await {
        peer.refuse(request.stream, "14");
    }
}

/// How many of a hundred calls fail, with a bad server of weight 100 and a good one of weight 1.
async fn failures(stage: &Stage, bad: &callboard_raw::RawServer, balancer: impl Balancer) -> usize {
    let _bad = stage.sign_in("bad", bad.address().try_into().unwrap(), 100).await;
    let (_good, _g) = stage.raw("good", |peer| serve("good", peer)).await;
    let channel = stage.channel(stage.builder().balancer(balancer), 2).await;
    let mut failed = 0;
    for _ in 0..100 {
        failed += usize::from(in_time(echo(&channel).unary(request())).await.is_err());
    }
    failed
}

#[tokio::test]
async fn an_attempt_goes_elsewhere_whatever_the_weights() {
    for (what, config) in [("refused", None), ("unavailable", Some(RETRIES))] {
        for weighted in [true, false] {
            let stage = Stage::new();
            stage.put_service_config(config).await;
            let bad = match config {
                None => callboard_raw::RawServer::start(refuse).await.unwrap(),
                Some(_) => callboard_raw::RawServer::start(unavailable).await.unwrap(),
            };
            let failed = match weighted {
                true => failures(&stage, &bad, Weighted::new()).await,
                false => failures(&stage, &bad, RoundRobin::new()).await,
            };
            println!("{what}, weighted {weighted}: {failed} of 100 failed");
            assert_eq!(failed, 0, "{what}, weighted {weighted}");
        }
    }
}

#[tokio::test]
async fn a_call_goes_where_there_is_a_place_whatever_the_weights() {
    let stage = Stage::new();
    let (_heavy, _h) = stage.limited_and_weighted("heavy", 1, 1_000).await;
    let (_light, _l) = stage.limited_and_weighted("light", 100, 1).await;
    let channel = stage.channel(stage.builder().balancer(Weighted::new()), 2).await;
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let mut client = echo(&channel);
            tokio::spawn(async move { client.unary(slow(200)).await })
        })
        .collect();
    until("all are on their way", || in_flight(&channel) == 20).await;
    for call in calls {
        in_time(call).await.unwrap().unwrap();
    }
}

fn in_flight(channel: &Channel) -> u64 {
    channel.endpoints().iter().map(|status| status.endpoint.in_flight()).sum()
}

/// Counts what it picks in one method, and what it is told of in the other.
#[derive(Clone, Debug, Default)]
struct Counting(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    outstanding: AtomicI64,
    picked: AtomicUsize,
    unsent: AtomicUsize,
}

impl Balancer for Counting {
    fn name(&self) -> &str {
        "counting"
    }

    fn picker(&self, members: &Members) -> Box<dyn Picker> {
        Box::new(CountingPicker { ready: Arc::clone(members.ready()), counts: Arc::clone(&self.0) })
    }
}

#[derive(Debug)]
struct CountingPicker {
    ready: Arc<[Member]>,
    counts: Arc<Counts>,
}

impl Picker for CountingPicker {
    fn pick(&self, _: &Call<'_>) -> Pick {
        self.counts.outstanding.fetch_add(1, Ordering::SeqCst);
        Pick::To(self.ready[self.counts.picked.fetch_add(1, Ordering::SeqCst) % self.ready.len()])
    }

    fn done(&self, _: Member, outcome: &Outcome) {
        self.counts.outstanding.fetch_sub(1, Ordering::SeqCst);
        self.counts.unsent.fetch_add(usize::from(!outcome.sent), Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pick_is_told_of_acted_on_or_not() {
    let stage = Stage::new();
    let _servers = [stage.limited_and_weighted("a", 2, 1).await, stage.limited_and_weighted("b", 2, 1).await];
    let balancer = Counting::default();
    let channel = stage.channel(stage.builder().balancer(balancer.clone()), 2).await;
    let calls: Vec<_> = (0..50)
        .map(|number| {
            let mut client = echo(&channel);
            // Some run out of time in line.
            let call = if number % 5 == 0 {
                within(Duration::from_millis(20), slow(10))
            } else {
                tonic::Request::new(slow(10))
            };
            tokio::spawn(async move { client.unary(call).await })
        })
        .collect();
    for call in calls {
        let ended = in_time(call).await.unwrap();
        assert!(ended.as_ref().err().is_none_or(|status| status.code() == Code::DeadlineExceeded), "{ended:?}");
    }
    let counts = &balancer.0;
    until("the picker was told of all", || counts.outstanding.load(Ordering::SeqCst) == 0).await;
    let (picked, unsent) = (counts.picked.load(Ordering::SeqCst), counts.unsent.load(Ordering::SeqCst));
    println!("50 calls at full servers: {picked} picks, {unsent} of them not acted on, 0 left");
    assert!(unsent > 0);
}
