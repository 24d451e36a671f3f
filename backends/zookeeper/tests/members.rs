//! What happens when a member of the ensemble dies.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Registration, RegistrationSettings, Registry, register};
use callboard_zookeeper::ZooKeeper;
use common::{GapWatch, SOON, Zoo, instance, service, until};
use tokio::time::{Instant, timeout};

/// The default length.
const SESSION: Duration = Duration::from_secs(15);

fn backend(zoo: &Zoo) -> ZooKeeper {
    ZooKeeper::builder(zoo.hosts()).session(SESSION).build().unwrap()
}

/// A registered instance, and four watchers that look for gaps.
struct Kept {
    registration: Registration,
    watchers: Vec<GapWatch>,
}

impl Kept {
    async fn on(zoo: &Zoo) -> Self {
        let registry: Arc<dyn Registry> = Arc::new(backend(zoo));
        let registration = register(registry, &service(), instance("a"), RegistrationSettings::default());
        registration.wait_registered(SOON).await.unwrap();
        let watchers: Vec<_> = (0..4).map(|_| GapWatch::over(Arc::new(backend(zoo)), &service())).collect();
        for gap_watch in &watchers {
            gap_watch.until("before", &["a=1"]).await;
        }
        Self { registration, watchers }
    }

    /// Changes it, and waits until all have seen that.
    async fn is_changed(&self, when: &str) {
        let started = Instant::now();
        self.registration.update(|instance| instance.set_weight(7));
        for gap_watch in &self.watchers {
            gap_watch.until(when, &["a=7"]).await;
        }
        println!("{when}: written and seen in {:?}", started.elapsed());
    }

    /// No set was without it.
    async fn leaves_without_a_gap(self) {
        for gap_watch in &self.watchers {
            let seen = gap_watch.seen();
            let first = seen.sets.iter().position(|set| !set.is_empty()).unwrap();
            assert!(seen.sets[first..].iter().all(|set| set.len() == 1), "a gap: {seen:?}");
        }
        self.registration.deregister().await.unwrap();
    }
}

/// The member that a client is connected to is killed: its session and its entry stay, nothing is lost, and no
/// set is without it. The same holds for watchers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn the_member_that_we_are_connected_to_is_killed() {
    let zoo = Zoo::start(3).await;
    let leader = zoo.servers.leader().await;
    // Clients choose a member by chance: until it is a follower, as the next test kills the leader.
    let (registry, mut lease, owner, member) = loop {
        let registry = backend(&zoo);
        let lease = registry.register(&service(), &instance("a")).await.unwrap();
        let (_, owner) = zoo.node_of(&service(), "a").await;
        match zoo.server_of(owner).await {
            Some(member) if member != leader => break (registry, lease, owner, member),
            _ => lease.revoke().await.unwrap(),
        }
    };
    let watchers: Vec<_> = (0..4).map(|_| GapWatch::over(Arc::new(backend(&zoo)), &service())).collect();
    let same = GapWatch::over(Arc::new(registry.clone()), &service());
    for gap_watch in watchers.iter().chain([&same]) {
        gap_watch.until("before", &["a=1"]).await;
    }

    zoo.servers.node(member).kill().await;
    let killed = Instant::now();
    let to = until("connected to another member", async || zoo.server_of(owner).await).await;
    println!("connected to member {to} {:?} after member {member} was killed", killed.elapsed());

    assert_eq!(zoo.node_of(&service(), "a").await.1, owner, "the same session owns the entry");
    assert!(timeout(Duration::from_secs(2), lease.lost()).await.is_err(), "the lease is held");
    // The watches live on: what happens now is seen.
    let _b = registry.register(&service(), &instance("b").with_weight(2)).await.unwrap();
    for gap_watch in watchers.iter().chain([&same]) {
        gap_watch.until("after", &["a=1", "b=2"]).await;
        gap_watch.never_missed("a=1");
    }
    assert_eq!(same.seen().errors, [""; 0], "a short loss of the connection does not end a watch");
}

/// The leader is killed: the others elect another, and meanwhile no member answers. No set is without the entry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn the_leader_is_killed() {
    let zoo = Zoo::start(3).await;
    let kept = Kept::on(&zoo).await;
    zoo.servers.node(zoo.servers.leader().await).kill().await;
    kept.is_changed("the leader was killed").await;
    kept.leaves_without_a_gap().await;
}

/// The member that we are connected to falls silent, as when its host is cut off: that is noticed, another one is
/// asked, and no set is without the entry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn the_member_that_we_are_connected_to_falls_silent() {
    let zoo = Zoo::start(3).await;
    let kept = Kept::on(&zoo).await;
    let (_, owner) = zoo.node_of(&service(), "a").await;
    let member = zoo.server_of(owner).await.unwrap();
    zoo.servers.node(member).pause();
    kept.is_changed("a member fell silent").await;
    zoo.servers.node(member).resume();
    // What was left of a session that was given up ends, and takes nothing with it.
    tokio::time::sleep(SESSION + Duration::from_secs(3)).await;
    kept.leaves_without_a_gap().await;
}

/// Two of three members are gone: the last one does not answer. Clients keep their set, and all is right within five
/// seconds after another one is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn without_a_quorum_the_last_set_is_kept() {
    let zoo = Zoo::start(3).await;
    let kept = Kept::on(&zoo).await;
    let watcher = callboard_conformance::Watcher::new(Arc::new(backend(&zoo)), &service());
    watcher.until_ids(SOON, "before", &["a"]).await;
    zoo.servers.node(0).kill().await;
    zoo.servers.node(1).kill().await;
    watcher.until(SOON, "cut off, with its set kept", |s| s.stale.is_some() && s.ids() == ["a"]).await;
    zoo.servers.node(0).start().await;
    let back = Instant::now();
    kept.is_changed("the quorum is back").await;
    watcher.until(SOON, "after", |s| s.stale.is_none() && s.instance("a").is_some_and(|a| a.weight() == 7)).await;
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    kept.leaves_without_a_gap().await;
}
