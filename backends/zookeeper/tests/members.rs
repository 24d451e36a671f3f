//! What happens when a member of the ensemble dies.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use callboard_core::Registry;
use callboard_zookeeper::ZooKeeper;
use common::{Vigil, Zoo, instance, service, until};
use tokio::time::{Instant, timeout};

/// The default length.
const SESSION: Duration = Duration::from_secs(15);

fn backend(zoo: &Zoo) -> ZooKeeper {
    ZooKeeper::builder(zoo.hosts()).session(SESSION).build().unwrap()
}

/// The member that a client is connected to is killed: its session and its entry stay, nothing is lost, and nobody sees a
/// set without it. So it is for who watches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn the_member_that_we_are_connected_to_is_killed() {
    let zoo = Zoo::start(3).await;
    let leader = zoo.0.leader().await;
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
    let vigils: Vec<_> = (0..4).map(|_| Vigil::over(Arc::new(backend(&zoo)), &service())).collect();
    let same = Vigil::over(Arc::new(registry.clone()), &service());
    for vigil in vigils.iter().chain([&same]) {
        vigil.until("before", &["a=1"]).await;
    }

    zoo.0.node(member).kill().await;
    let killed = Instant::now();
    let to = until("connected to another member", async || zoo.server_of(owner).await).await;
    println!("connected to member {to} {:?} after member {member} was killed", killed.elapsed());

    assert_eq!(zoo.node_of(&service(), "a").await.1, owner, "the same session owns the entry");
    assert!(timeout(Duration::from_secs(2), lease.lost()).await.is_err(), "the lease is held");
    // The watches live on: what happens now is seen.
    let _b = registry.register(&service(), &instance("b").weight(2)).await.unwrap();
    for vigil in vigils.iter().chain([&same]) {
        vigil.until("after", &["a=1", "b=2"]).await;
        vigil.never_missed("a=1");
    }
    assert_eq!(same.seen().errors, [""; 0], "a short loss of the connection does not end a watch");
}

/// The leader is killed: the others elect another, and meanwhile nobody answers. Nobody sees a set without the entry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn the_leader_is_killed() {
    let zoo = Zoo::start(3).await;
    let registry: Arc<dyn Registry> = Arc::new(backend(&zoo));
    let announcement =
        callboard_core::announce(registry, &service(), instance("a"), callboard_core::AnnounceSettings::default());
    announcement.on_board(common::SOON).await.unwrap();
    let vigils: Vec<_> = (0..4).map(|_| Vigil::over(Arc::new(backend(&zoo)), &service())).collect();
    for vigil in &vigils {
        vigil.until("before", &["a=1"]).await;
    }

    let leader = zoo.0.leader().await;
    zoo.0.node(leader).kill().await;
    let killed = Instant::now();
    announcement.update(|instance| instance.weight = 7);
    for vigil in &vigils {
        vigil.until("written and seen under a new leader", &["a=7"]).await;
    }
    println!("written and seen {:?} after the leader was killed", killed.elapsed());
    for vigil in &vigils {
        let seen = vigil.seen();
        let first = seen.sets.iter().position(|set| !set.is_empty()).unwrap();
        assert!(seen.sets[first..].iter().all(|set| set.len() == 1), "a gap: {seen:?}");
    }
    announcement.leave().await.unwrap();
}
