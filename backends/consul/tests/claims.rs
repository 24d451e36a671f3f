//! Which claim has an entry, after updates that fail, deaths, and claims of one incarnation.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

mod agents;

use std::time::Duration;

use agents::guarded::OURS;
use agents::{Agents, TTL, get};
use callboard_conformance::{Harness, Seen, Watcher};
use callboard_core::{ErrorKind, Incarnation, Instance, Lease, Registry, ServiceName};
use callboard_servers::Cluster;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

const SOON: Duration = Duration::from_secs(20);

fn project() -> ServiceName {
    "project-test".parse().unwrap()
}

fn instance(incarnation: u64) -> Instance {
    Instance::new("a", "10.0.0.7:1".parse().unwrap()).unwrap().with_incarnation(Incarnation::from_micros(incarnation))
}

fn weighs(weight: u32) -> impl Fn(&Seen) -> bool {
    move |seen| seen.instance("a").is_some_and(|a| a.weight() == weight) && seen.stale.is_none()
}

async fn dev() -> Agents {
    Agents::on(Cluster::consul_dev().start().await)
}

async fn is_kept(lease: &mut Box<dyn Lease>, what: &str) {
    let lost = timeout(TTL * 3 / 2, lease.lost()).await;
    assert!(lost.is_err(), "{what}: {lost:?}");
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn an_update_that_consul_cannot_hold_leaves_the_claim_as_it_is() {
    let agents = dev().await;
    let watcher = Watcher::new(agents.resolver(), &project());
    let mut lease = agents.consul().register(&project(), &instance(5).with_weight(3)).await.unwrap();
    watcher.until(SOON, "registered", weighs(3)).await;
    let many = (0..70).fold(instance(5), |instance, key| instance.with_metadata(format!("k{key}"), ""));
    for (wish, what) in [
        (instance(5).with_metadata("a.key", ""), "a key with a dot"),
        (instance(5).with_metadata("k".repeat(129), ""), "a long key"),
        (instance(5).with_metadata("k", "v".repeat(513)), "a long value"),
        (many, "too many pairs"),
        (Instance::new("b", "10.0.0.7:1".parse().unwrap()).unwrap(), "another id"),
    ] {
        let error = lease.update(&wish.with_weight(9)).await.expect_err(what);
        assert_eq!((error.kind(), error.service()), (ErrorKind::Invalid, Some(&project())), "{what}: {error:?}");
    }
    is_kept(&mut lease, "after refusals").await;
    assert!(weighs(3)(&watcher.seen()), "{:?}", watcher.seen());
    lease.update(&instance(5).with_weight(4)).await.unwrap();
    watcher.until(SOON, "the next update", weighs(4)).await;
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn an_update_while_the_agent_is_away_leaves_the_claim_and_may_be_called_again() {
    let agents = Agents::on(Cluster::consul().start().await);
    let consul = agents.builder().ttl(Duration::from_secs(15)).build().unwrap();
    let mut lease = consul.register(&project(), &instance(5).with_weight(3)).await.unwrap();
    agents.cluster.kill().await;
    let error = lease.update(&instance(5).with_weight(4)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    agents.cluster.start().await;
    let again = async {
        while let Err(error) = lease.update(&instance(5).with_weight(4)).await {
            assert_ne!(error.kind(), ErrorKind::Lost, "{error:?}");
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, again).await.expect("the update is taken once the agent is back");
    let watcher = Watcher::new(agents.resolver(), &project());
    watcher.until(SOON, "updated", weighs(4)).await;
    is_kept(&mut lease, "after the agent's return").await;
}

/// After an update that is dropped half-way either record may be there, and the claim stays.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn an_update_that_is_dropped_half_way_keeps_the_claim() {
    let agents = dev().await;
    let mut lease = agents.consul().register(&project(), &instance(5)).await.unwrap();
    for number in 0..100 {
        let wish = instance(5).with_weight(number + 2);
        let _ = timeout(Duration::from_micros(u64::from(number) * 40), lease.update(&wish)).await;
    }
    is_kept(&mut lease, "after updates that were dropped").await;
    lease.update(&instance(5).with_weight(3)).await.unwrap();
    Watcher::new(agents.resolver(), &project()).until(SOON, "the last one", weighs(3)).await;
}

/// A right that comes back within the time to live is as if it had never been away.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn an_update_without_the_right_is_denied_and_the_claim_stays() {
    let rules = |policy: &str| {
        format!(r#"service "project-test" {{ policy = "{policy}" }} node_prefix "" {{ policy = "read" }}"#)
    };
    let agents = Agents::guarded(&rules("write")).await;
    let consul = agents.builder().token(OURS).ttl(Duration::from_secs(20)).build().unwrap();
    let mut lease = consul.register(&project(), &instance(5).with_weight(3)).await.unwrap();
    agents.permit(&rules("read")).await;
    let error = lease.update(&instance(5).with_weight(4)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    let lost = timeout(Duration::from_secs(8), lease.lost()).await;
    assert!(lost.is_err(), "a pass that is denied is tried again: {lost:?}");
    agents.permit(&rules("write")).await;
    let again = async { while lease.update(&instance(5).with_weight(4)).await.is_err() {} };
    timeout(SOON, again).await.expect("the update is taken with the right");
    let watcher = Watcher::new(std::sync::Arc::new(consul), &project());
    watcher.until(SOON, "updated", weighs(4)).await;
    let lost = timeout(Duration::from_secs(16), lease.lost()).await;
    assert!(lost.is_err(), "{lost:?}");
}

/// A server whose clock was ahead is killed. Its successor waits for a time to live, and not for the clock.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_dead_newer_incarnation_is_replaced() {
    let agents = dev().await;
    let (ahead, consul) = (agents.consul(), agents.consul());
    let killed = ahead.register(&project(), &instance(1_000)).await.unwrap();
    let error = consul.register(&project(), &instance(5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "it lives: {error:?}");
    let text = error.to_string();
    for part in ["\"a\"", "10.0.0.7:1", "1000", "5"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    drop(killed);
    let since = Instant::now();
    let mut lease = loop {
        match consul.register(&project(), &instance(5)).await {
            Ok(lease) => break lease,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
        }
        assert!(since.elapsed() < TTL * 2, "still there after {:?}", since.elapsed());
        sleep(Duration::from_millis(50)).await;
    };
    println!("replaced {:?} after its last sign of life, of a time to live of {TTL:?}", since.elapsed());
    is_kept(&mut lease, "the successor").await;
}

/// Nothing keeps an entry without a check.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_newer_incarnation_without_its_check_is_replaced() {
    let agents = dev().await;
    let mut killed = agents.consul().register(&project(), &instance(1_000)).await.unwrap();
    agents.end_lease(&project(), &instance(1_000)).await;
    assert_eq!(timeout(SOON, killed.lost()).await.unwrap().kind(), ErrorKind::Lost);
    let mut lease = agents.consul().register(&project(), &instance(5)).await.unwrap();
    drop(killed);
    is_kept(&mut lease, "the successor").await;
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn of_two_equal_incarnations_the_newer_claim_stays() {
    let agents = dev().await;
    for shared in [true, false] {
        let consul = agents.consul();
        let other = if shared { consul.clone() } else { agents.consul() };
        let mut older = consul.register(&project(), &instance(5).with_weight(3)).await.unwrap();
        let mut newer = other.register(&project(), &instance(5).with_weight(4)).await.unwrap();
        let error = older.update(&instance(5).with_weight(9)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "from update: {error:?}");
        let error = timeout(SOON, older.lost()).await.expect("the older claim hears of it");
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
        older.revoke().await.unwrap();
        let listed = agents.listed("project-test").await;
        assert_eq!(listed[0]["Service"]["Weights"]["Passing"], json!(4), "{listed}");
        is_kept(&mut newer, "the newer claim").await;
        newer.revoke().await.unwrap();
    }
}

/// However the older claim's end and the newer claim's beginning fall together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Consul: make test"]
async fn the_end_of_an_older_claim_does_not_remove_the_newer_one() {
    let agents = dev().await;
    let consul = agents.consul();
    for round in 0..200 {
        let older = consul.register(&project(), &instance(5)).await.unwrap();
        let (service, wish) = (project(), instance(5).with_weight(4));
        let (ended, newer) = tokio::join!(older.revoke(), consul.register(&service, &wish));
        ended.unwrap();
        let newer = newer.unwrap();
        let held = get(agents.cluster.address(), "/v1/agent/services").await;
        assert!(held.contains("project-test:a"), "round {round}: nobody is registered: {held}");
        newer.revoke().await.unwrap();
    }
}
