//! Servers that allow few calls at once.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use callboard::{Balancer, Call, Member, Members, Pick, Picker};
use common::{Stage, echo, endpoint, in_time, request, slow, until, within};
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_share_few_places_and_all_are_answered() {
    let stage = Stage::new();
    let (server, _registration) = stage.limited("a", 4).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let most = Arc::new(AtomicUsize::new(0));
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let mut client = echo(&channel);
            tokio::spawn(async move { client.unary(slow(5)).await })
        })
        .collect();
    let watching = async {
        for call in calls {
            call.await.unwrap().unwrap();
            most.fetch_max(server.in_flight() as usize, Ordering::SeqCst);
        }
    };
    in_time(watching).await;
    assert!(most.load(Ordering::SeqCst) <= 4);
    assert_eq!((server.calls(), server.accepted()), (100, 1));
    assert_eq!(endpoint(&channel, "a").endpoint.in_flight(), 0);
}

#[tokio::test]
async fn a_call_that_is_cancelled_gives_its_place_to_one_that_waits() {
    let stage = Stage::new();
    let (server, _registration) = stage.limited("a", 1).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let mut client = echo(&channel);
    let hog = tokio::spawn(async move { client.unary(slow(15_000)).await });
    until("the only place is taken", || server.in_flight() == 1).await;
    let mut client = echo(&channel);
    let next = tokio::spawn(async move { client.unary(request()).await });
    let begun = Instant::now();
    hog.abort();
    in_time(next).await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_call_goes_where_there_is_a_place() {
    let stage = Stage::new();
    let (full, _a) = stage.limited("a", 1).await;
    let (_free, _b) = stage.limited("b", 1).await;
    let channel = stage.channel(stage.builder(), 2).await;
    let mut client = echo(&channel);
    let hog =
        tokio::spawn(async move { while client.unary(slow(15_000)).await.unwrap().into_inner().server != "a" {} });
    // Round robin may begin with the other one, which is as good.
    until("one place is taken", || {
        endpoint(&channel, "a").endpoint.in_flight() + endpoint(&channel, "b").endpoint.in_flight() == 1
    })
    .await;
    let taken = if endpoint(&channel, "a").endpoint.in_flight() == 1 { "a" } else { "b" };
    for _ in 0..20 {
        let answer = in_time(echo(&channel).unary(request())).await.unwrap();
        assert_ne!(answer.into_inner().server, taken);
    }
    drop(full);
    hog.abort();
}

#[tokio::test]
async fn a_deadline_ends_a_call_that_waits_for_a_place() {
    let stage = Stage::new();
    let (server, _registration) = stage.limited("a", 1).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let mut client = echo(&channel);
    let hog = tokio::spawn(async move { client.unary(slow(15_000)).await });
    until("the only place is taken", || server.in_flight() == 1).await;
    let status = echo(&channel).unary(within(Duration::from_millis(100), request())).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(server.calls(), 1);
    hog.abort();
}

#[tokio::test]
async fn calls_that_wait_for_a_place_go_elsewhere_when_the_server_dies() {
    let stage = Stage::new();
    let (server, registration) = stage.limited("a", 1).await;
    let channel = stage.channel(stage.builder().wait_for_ready(true), 1).await;
    let mut client = echo(&channel);
    let hog = tokio::spawn(async move { client.unary(slow(15_000)).await });
    until("the only place is taken", || server.in_flight() == 1).await;
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let mut client = echo(&channel);
            tokio::spawn(async move { client.unary(request()).await })
        })
        .collect();
    tokio::task::yield_now().await;
    server.kill().await;
    assert_eq!(in_time(hog).await.unwrap().unwrap_err().code(), Code::Unavailable);
    drop(registration);
    let (_other, _b) = stage.server("b").await;
    for call in waiting {
        assert_eq!(in_time(call).await.unwrap().unwrap().into_inner().server, "b");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_given_up_while_they_wait_hold_up_nobody() {
    let stage = Stage::new();
    let (_a, _a2) = stage.limited("a", 2).await;
    let (_b, _b2) = stage.limited("b", 1).await;
    let channel = stage.channel(stage.builder(), 2).await;
    let calls: Vec<_> = (0..300u64)
        .map(|call| {
            let mut client = echo(&channel);
            tokio::spawn(async move {
                let answer = client.unary(slow(1));
                if call % 2 == 0 {
                    drop(tokio::time::timeout(Duration::from_micros(call * 200), answer).await);
                } else {
                    answer.await.unwrap();
                }
            })
        })
        .collect();
    for call in calls {
        in_time(call).await.unwrap();
    }
    until("all places are free", || channel.endpoints().iter().all(|status| status.endpoint.in_flight() == 0)).await;
}

/// Sends calls to the endpoint whose id stands in the call, or to the other one once it is told to.
#[derive(Clone, Debug, Default)]
struct Directed {
    diverted: Arc<AtomicUsize>,
}

/// Which endpoint a call wants, and whether it can be diverted.
#[derive(Clone, Copy)]
struct Wanted(&'static str, bool);

impl Balancer for Directed {
    fn name(&self) -> &str {
        "directed"
    }

    fn picker(&self, members: &Members) -> Box<dyn Picker> {
        Box::new(DirectedPicker {
            ready: members.ready().iter().map(|m| (*m, members[*m].instance().id().to_owned())).collect(),
            told: self.clone(),
        })
    }
}

#[derive(Debug)]
struct DirectedPicker {
    ready: Vec<(Member, String)>,
    told: Directed,
}

impl Picker for DirectedPicker {
    fn pick(&self, call: &Call<'_>) -> Pick {
        let Some(Wanted(id, movable)) = call.extension() else { return Pick::Wait };
        let diverted = *movable && self.told.diverted.load(Ordering::SeqCst) > 0;
        let chosen = self.ready.iter().find(|(_, known)| (known == id) != diverted);
        chosen.map_or(Pick::Wait, |(member, _)| Pick::To(*member))
    }
}

fn wanting(id: &'static str, movable: bool, delay_ms: u32) -> tonic::Request<callboard_echo::pb::EchoRequest> {
    let mut request = tonic::Request::new(slow(delay_ms));
    request.extensions_mut().insert(Wanted(id, movable));
    request
}

#[tokio::test]
async fn a_place_goes_to_the_calls_that_wait_for_it_whatever_the_picker_would_say_meanwhile() {
    let stage = Stage::new();
    let (a, _a) = stage.limited("a", 1).await;
    let (_b, _b2) = stage.limited("b", 1).await;
    let balancer = Directed::default();
    let channel = stage.channel(stage.builder().balancer(balancer.clone()), 2).await;
    let spawn = |request| {
        let mut client = echo(&channel);
        tokio::spawn(async move { client.unary(request).await })
    };
    let hog = spawn(wanting("a", false, 300));
    until("the only place is taken", || a.in_flight() == 1).await;
    // Both wait for that place by what the picker said when they came.
    let first = spawn(wanting("a", true, 0));
    tokio::task::yield_now().await;
    let second = spawn(wanting("a", false, 0));
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    balancer.diverted.store(1, Ordering::SeqCst);
    in_time(hog).await.unwrap().unwrap();
    assert_eq!(in_time(first).await.unwrap().unwrap().into_inner().server, "a");
    assert_eq!(in_time(second).await.unwrap().unwrap().into_inner().server, "a");
}
