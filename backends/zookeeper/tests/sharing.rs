//! What clones of one client share, and what one of them leaves to the others.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use callboard_conformance::Harness;
use callboard_core::{
    ErrorKind, Incarnation, RegistrationSettings, RegistrationState, Registry, Resolver, ServiceName, register,
};
use callboard_servers::ask;
use callboard_zookeeper::ZooKeeper;
use common::{GapWatch, SESSION, SOON, Zoo, directory, instance, service, until};
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout};
use zookeeper_client as zk;

impl Zoo {
    /// How many clients are connected, this question aside.
    async fn connections(&self) -> usize {
        let answer = ask::four_letters(self.servers.address(), "cons").await.unwrap();
        answer.lines().filter(|line| line.contains("sid=")).count()
    }
}

/// Any number of registrations and watches take one session, which ends with the last of them.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn everything_shares_one_session() {
    let zoo = Zoo::start(1).await;
    let zookeeper = zoo.zookeeper();
    let services: Vec<ServiceName> = (0..10).map(|n| format!("project/s{n}").parse().unwrap()).collect();
    let registered = services.iter().map(|service| {
        let zookeeper = zookeeper.clone();
        async move { zookeeper.register(service, &instance("a")).await.unwrap() }
    });
    let leases = futures_util::future::join_all(registered).await;
    let watchers: Vec<_> =
        services.iter().map(|service| GapWatch::over(Arc::new(zookeeper.clone()), service)).collect();
    for gap_watch in &watchers {
        gap_watch.until("registered", &["a=1"]).await;
    }
    assert_eq!(zoo.connections().await, 1);

    // Each lease that is dropped takes its own node with it, while the session goes on.
    let mut leases = leases.into_iter();
    let last = leases.next_back().unwrap();
    drop(leases);
    for gap_watch in &watchers[..9] {
        gap_watch.until("dropped", &[]).await;
    }
    watchers[9].until("the last is still there", &["a=1"]).await;
    assert_eq!(zoo.connections().await, 1);
    drop(watchers);
    last.revoke().await.unwrap();
    until("the session is dropped", async || (zoo.connections().await == 0).then_some(())).await;
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

/// Two claims of one incarnation on one session, as of a process that registers twice: the later one holds, the former
/// one is told whose its place is, and its end removes nothing.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn a_second_claim_on_the_same_session_replaces_the_first() {
    let zoo = Zoo::start(1).await;
    let zookeeper = zoo.zookeeper();
    is_replaced(&zoo, &zookeeper, &zookeeper).await;
}

/// The same over two clients, as of a process that makes another one for each.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn a_second_claim_on_another_session_replaces_the_first() {
    let zoo = Zoo::start(1).await;
    is_replaced(&zoo, &zoo.zookeeper(), &zoo.zookeeper()).await;
}

async fn is_replaced(zoo: &Zoo, by_first: &ZooKeeper, by_second: &ZooKeeper) {
    let gap_watch = GapWatch::over(Arc::new(zoo.zookeeper()), &service());
    let mut first = by_first.register(&service(), &instance("a")).await.unwrap();
    gap_watch.until("first", &["a=1"]).await;
    let mut second = by_second.register(&service(), &instance("a").with_weight(2)).await.unwrap();
    gap_watch.until("second", &["a=2"]).await;
    let incarnation = Incarnation::of_this_process();
    let said = format!(
        "the id \"a\" is taken by 127.0.0.1:50051, of incarnation {incarnation}; this one is of incarnation {incarnation}"
    );
    for error in [first.update(&instance("a").with_weight(9)).await.unwrap_err(), first.lost().await] {
        assert_eq!((error.kind(), error.message()), (ErrorKind::Conflict, said.as_str()), "{error:?}");
    }
    drop(first);
    assert!(timeout(SESSION + Duration::from_secs(2), second.lost()).await.is_err(), "the second is held");
    gap_watch.never_missed_a_member();
    second.revoke().await.unwrap();
    gap_watch.until("revoked", &[]).await;
}

/// A process whose clock was ahead is followed by one that has the right time: it learns which instance is there, does
/// not affect watchers, and registers as soon as the other's session has expired.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn an_older_incarnation_waits_for_the_end_of_a_newer_one() {
    let zoo = Zoo::start(1).await;
    let ahead = Incarnation::from_micros(Incarnation::fresh().as_micros() + 3_600_000_000);
    let dead = zoo.zookeeper().register(&service(), &instance("a").with_incarnation(ahead)).await.unwrap();
    let gap_watch = GapWatch::over(Arc::new(zoo.zookeeper()), &service());
    gap_watch.until("before", &["a=1"]).await;
    let successor = register(zoo.registry(), &service(), instance("a").with_weight(2), RegistrationSettings::default());
    let conflict = |state: &RegistrationState| match state {
        RegistrationState::Registering { error: Some(error), failures: 3.., .. } => Some(error.clone()),
        _ => None,
    };
    let mut states = successor.watch_state();
    let state = timeout(SOON, states.wait_for(|state| conflict(state).is_some())).await.unwrap().unwrap().clone();
    let error = conflict(&state).unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    for part in ["\"a\"", "127.0.0.1:50051", &ahead.to_string(), &Incarnation::of_this_process().to_string()] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    assert_eq!(gap_watch.seen().sets.iter().filter(|set| !set.is_empty()).count(), 1, "{:?}", gap_watch.seen());
    // Its owner is gone and does not remove it.
    zoo.end_session(zoo.node_of(&service(), "a").await.1).await;
    successor.wait_registered(SOON).await.unwrap();
    gap_watch.until("after", &["a=2"]).await;
    drop(dead);
    successor.deregister().await.unwrap();
}

/// A lease notices a newer incarnation at once, and not only by its next check.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn a_lease_that_is_held_learns_of_a_newer_incarnation_at_once() {
    let zoo = Zoo::start(1).await;
    let mut old = zoo.zookeeper().register(&service(), &instance("a")).await.unwrap();
    let lost = tokio::spawn(async move { old.lost().await });
    until("it is watched", async || (zoo.watches().await == 1).then_some(())).await;
    let newer = instance("a").with_incarnation(Incarnation::fresh());
    let _new = zoo.zookeeper().register(&service(), &newer).await.unwrap();
    let error = timeout(SOON, lost).await.unwrap().unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert_eq!(zoo.nodes_of(&service(), "a").await.len(), 1, "the older node is gone");
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
        callboard_core::encode(&instance("a").with_weight(5).with_incarnation(newer)),
    );
    let node = zk::CreateMode::Ephemeral.with_acls(zk::Acls::anyone_all());
    let hand = zoo.hand().await;
    hand.create(&path, data.as_bytes(), &node).await.unwrap();
    let watcher = callboard_conformance::Watcher::new(zoo.resolver(), &service());
    watcher.until(SOON, "the newer", |seen| seen.instance("a").is_some_and(|a| a.weight() == 5)).await;
    let refused = lease.update(&instance("a").with_weight(9)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused:?}");
    assert_eq!(lease.lost().await.kind(), ErrorKind::Conflict);
}

/// Whose a record is, and of which incarnation, is said by its node's name alone.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn records_of_one_id_under_other_names_are_others() {
    let zoo = Zoo::start(1).await;
    let (hand, directory) = (zoo.hand().await, directory(&service()));
    let node = zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all());
    hand.mkdir(&directory, &node).await.unwrap();
    for (name, weight) in [("m--2", 1), ("z--3", 2), ("a--1", 3)] {
        let record = callboard_core::encode(&instance("a").with_weight(weight));
        hand.create(&format!("{directory}/{name}"), record.as_bytes(), &node).await.unwrap();
    }
    let watcher = callboard_conformance::Watcher::new(zoo.resolver(), &service());
    let seen = watcher.until_ids(SOON, "three of them", &["a", "m", "z"]).await;
    let read =
        ["a", "m", "z"].map(|id| seen.instance(id).unwrap()).map(|one| (one.weight(), one.incarnation().as_micros()));
    assert_eq!(read, [(3, 1), (1, 2), (2, 3)]);
}

/// A service of a longer name stands among the instances of the shorter one, and counts for nothing there.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn a_service_among_instances_is_no_record() {
    let zoo = Zoo::start(1).await;
    let zookeeper = zoo.zookeeper();
    let project: ServiceName = "project".parse().unwrap();
    let _long = zookeeper.register(&service(), &instance("long")).await.unwrap();
    let _short = zookeeper.register(&project, &instance("short")).await.unwrap();
    let set = zookeeper.watch(&project).next().await.unwrap().unwrap();
    assert_eq!((set.instances[0].id(), set.instances.len(), set.skipped), ("short", 1, 0));
    // What looks like an instance is no service.
    let refused = zookeeper.register(&"project/short--1".parse().unwrap(), &instance("a")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused:?}");
}

/// A node that another client has written is made again by its owner.
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
    let _again = zoo.zookeeper().register(&service(), &instance("a").with_weight(2)).await.unwrap();
    GapWatch::over(zoo.resolver(), &service()).until("as its owner wants it", &["a=2"]).await;
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
        let instance = callboard_core::Instance::at(address).unwrap().with_metadata("note", "x".repeat(100));
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
