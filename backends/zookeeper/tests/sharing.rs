//! What clones of one client share, and what one of them leaves to the others.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use callboard_conformance::Harness;
use callboard_core::{ErrorKind, Incarnation, Registry, Resolver, Service};
use callboard_servers::ask;
use common::{SOON, Vigil, Zoo, directory, instance, service, until};
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout};
use zookeeper_client as zk;

impl Zoo {
    /// How many clients are connected, this question aside.
    async fn connections(&self) -> usize {
        let answer = ask::four_letters(self.0.address(), "cons").await.unwrap();
        answer.lines().filter(|line| line.contains("sid=")).count()
    }
}

/// Any number of registrations and watches take one session, which ends with the last of them.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn everything_shares_one_session() {
    let zoo = Zoo::start(1).await;
    let zookeeper = zoo.zookeeper();
    let services: Vec<Service> = (0..10).map(|n| format!("project/s{n}").parse().unwrap()).collect();
    let registered = services.iter().map(|service| {
        let zookeeper = zookeeper.clone();
        async move { zookeeper.register(service, &instance("a")).await.unwrap() }
    });
    let leases = futures_util::future::join_all(registered).await;
    let vigils: Vec<_> = services.iter().map(|service| Vigil::over(Arc::new(zookeeper.clone()), service)).collect();
    for vigil in &vigils {
        vigil.until("registered", &["a=1"]).await;
    }
    assert_eq!(zoo.connections().await, 1);

    // Each lease that is dropped takes its own node with it, while the session goes on.
    let mut leases = leases.into_iter();
    let last = leases.next_back().unwrap();
    drop(leases);
    for vigil in &vigils[..9] {
        vigil.until("dropped", &[]).await;
    }
    vigils[9].until("the last is still there", &["a=1"]).await;
    assert_eq!(zoo.connections().await, 1);
    drop(vigils);
    last.revoke().await.unwrap();
    until("the session is let go of", async || (zoo.connections().await == 0).then_some(())).await;
    // And the next use makes another.
    zookeeper.register(&service(), &instance("a")).await.unwrap().revoke().await.unwrap();
}

/// A watch that is dropped takes its watches at the server with it, although the session stays.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn a_dropped_watch_leaves_nothing_on_a_session_that_stays() {
    let zoo = Zoo::start(1).await;
    let zookeeper = zoo.zookeeper();
    let leases = stream::iter(0..50).map(|n| {
        let zookeeper = &zookeeper;
        async move { zookeeper.register(&service(), &instance(&format!("i{n}"))).await.unwrap() }
    });
    let leases: Vec<_> = leases.buffer_unordered(16).collect().await;
    let before = zoo.watches().await;
    for _ in 0..3 {
        let mut watches: Vec<_> = (0..5).map(|_| zookeeper.watch(&service())).collect();
        for watch in &mut watches {
            assert_eq!(watch.next().await.unwrap().unwrap().instances.len(), 50);
        }
        assert_eq!(zoo.watches().await - before, 51, "watches of one session are shared");
        drop(watches);
        until("no watch is left", async || (zoo.watches().await == before).then_some(())).await;
    }
    drop(leases);
}

/// Two claims of one incarnation on one session: the later one holds, and the end of the former one does not remove it.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn a_second_claim_on_the_same_session_replaces_the_first() {
    let zoo = Zoo::start(1).await;
    let zookeeper = zoo.zookeeper();
    let vigil = Vigil::over(Arc::new(zoo.zookeeper()), &service());
    let mut first = zookeeper.register(&service(), &instance("a")).await.unwrap();
    vigil.until("first", &["a=1"]).await;
    let mut second = zookeeper.register(&service(), &instance("a").weight(2)).await.unwrap();
    vigil.until("second", &["a=2"]).await;
    assert_eq!(first.lost().await.kind(), ErrorKind::Lost);
    assert_eq!(first.update(&instance("a").weight(9)).await.unwrap_err().kind(), ErrorKind::Lost);
    drop(first);
    assert!(timeout(Duration::from_secs(1), second.lost()).await.is_err(), "the second is held");
    let seen = vigil.seen();
    let since = seen.sets.iter().position(|set| !set.is_empty()).unwrap();
    assert!(seen.sets[since..].iter().all(|set| set.len() == 1), "a gap: {seen:?}");
    second.revoke().await.unwrap();
    vigil.until("revoked", &[]).await;
}

/// Of two nodes of one instance, the newer incarnation's is believed, whichever was made later; and who holds the older
/// one learns of it although nobody has removed it.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn a_newer_node_that_somebody_else_made_displaces_ours() {
    let zoo = Zoo::start(1).await;
    let mut lease = zoo.zookeeper().register(&service(), &instance("a")).await.unwrap();
    let newer = Incarnation::fresh();
    let (path, data) = (
        format!("{}/a--{newer}", directory(&service())),
        callboard_core::encode(&instance("a").weight(5).incarnation(newer)),
    );
    let node = zk::CreateMode::Ephemeral.with_acls(zk::Acls::anyone_all());
    let hand = zoo.hand().await;
    hand.create(&path, data.as_bytes(), &node).await.unwrap();
    let watcher = callboard_conformance::Watcher::new(zoo.resolver(), &service());
    watcher.until(SOON, "the newer", |seen| seen.instance("a").is_some_and(|a| a.weight == 5)).await;
    let refused = lease.update(&instance("a").weight(9)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused:?}");
    assert_eq!(lease.lost().await.kind(), ErrorKind::Conflict);
}

/// A node that somebody else has written is made again as its owner wants it.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn a_node_that_was_written_by_hand_is_lost() {
    let zoo = Zoo::start(1).await;
    let mut lease = zoo.zookeeper().register(&service(), &instance("a")).await.unwrap();
    let (path, _) = zoo.node_of(&service(), "a").await;
    zoo.hand().await.set_data(&path, b"nonsense", None).await.unwrap();
    let error = lease.lost().await;
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert!(error.to_string().contains("written by somebody else"), "{error}");
    let _again = zoo.zookeeper().register(&service(), &instance("a").weight(2)).await.unwrap();
    Vigil::over(zoo.resolver(), &service()).until("as its owner wants it", &["a=2"]).await;
}

/// The first set of a service with 1,000 instances is there in less than a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn a_thousand_instances_are_seen_at_once() {
    let zoo = Zoo::start(1).await;
    let zookeeper = zoo.zookeeper();
    let started = Instant::now();
    let leases = stream::iter(1..=1000u16).map(|port| {
        let zookeeper = &zookeeper;
        let address = format!("10.0.0.7:{port}").parse().unwrap();
        let instance = callboard_core::Instance::at(address).unwrap().metadata("note", "x".repeat(100));
        async move { zookeeper.register(&service(), &instance).await.unwrap() }
    });
    let mut leases: Vec<_> = leases.buffer_unordered(64).collect().await;
    println!("1,000 registered in {:?}", started.elapsed());

    let (other, started) = (zoo.zookeeper(), Instant::now());
    let mut watch = other.watch(&service());
    let first = watch.next().await.unwrap().unwrap();
    let took = started.elapsed();
    println!("first set of {} instances after {took:?}, connection included", first.instances.len());
    assert_eq!(first.instances.len(), 1000);
    assert!(took < Duration::from_secs(1), "{took:?}");

    let started = Instant::now();
    leases.pop().unwrap().revoke().await.unwrap();
    let next = timeout(SOON, watch.next()).await.unwrap().unwrap().unwrap();
    println!("one that left was missed {:?} later", started.elapsed());
    assert_eq!(next.instances.len(), 999);
}
