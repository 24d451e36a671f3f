//! One client that several tokio runtimes use, of which one ends.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use callboard_conformance::Watcher;
use callboard_core::{ErrorKind, RegistrationSettings, RegistrationState, Registry, Resolver, register};
use common::{GapWatch, SESSION, SOON, Zoo, instance, service};
use futures_util::StreamExt;
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// What is registered and watched in one runtime goes on, without an interruption, when another one ends that has used
/// the same client before it.
#[test]
#[ignore = "needs ZooKeeper: make test"]
fn the_end_of_one_runtime_is_nothing_to_another() {
    let (theirs, ours) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let zoo = ours.block_on(Zoo::start(1));
    let zookeeper = zoo.zookeeper();
    let other = theirs.block_on(zookeeper.register(&"project/other".parse().unwrap(), &instance("b"))).unwrap();
    let (registration, watch, gap_watch) = ours.block_on(async {
        let registration =
            register(Arc::new(zookeeper.clone()), &service(), instance("a"), RegistrationSettings::default());
        registration.wait_registered(SOON).await.unwrap();
        let watch = GapWatch::over(Arc::new(zookeeper.clone()), &service());
        watch.until("at first", &["a=1"]).await;
        (registration, watch, GapWatch::over(Arc::new(zoo.zookeeper()), &service()))
    });
    drop(theirs);
    ours.block_on(async {
        drop(other);
        let mut states = registration.watch_state();
        states.mark_unchanged();
        tokio::time::sleep(SESSION + Duration::from_secs(2)).await; // long enough for what has ended to be noticed
        assert!(!states.has_changed().unwrap(), "{:?}", states.borrow());
        assert!(matches!(*states.borrow(), RegistrationState::Registered { .. }), "{:?}", states.borrow());
        assert_eq!(watch.seen().errors, [""; 0]);
        gap_watch.never_missed("a=1");
        registration.update(|instance| instance.set_weight(2));
        watch.until("it goes on", &["a=2"]).await;
        registration.deregister().await.unwrap();
        drop(zoo);
    });
}

/// A worker that is started again, each time on a runtime of its own, over one client that is kept.
#[test]
#[ignore = "needs ZooKeeper: make test"]
fn one_client_serves_one_runtime_after_another() {
    let keeper = Runtime::new().unwrap();
    let zoo = keeper.block_on(Zoo::start(1));
    let zookeeper = zoo.zookeeper();
    for round in 1..4 {
        let worker = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        worker.block_on(async {
            let weight = instance("a").with_weight(round);
            let registration =
                register(Arc::new(zookeeper.clone()), &service(), weight, RegistrationSettings::default());
            registration.wait_registered(SOON).await.unwrap();
            let watcher = Watcher::new(Arc::new(zookeeper.clone()), &service());
            let seen = |seen: &callboard_conformance::Seen| seen.instance("a").is_some_and(|a| a.weight() == round);
            watcher.until(SOON, "this round's", seen).await;
        });
    }
    keeper.block_on(async { drop(zoo) });
}

/// What was made on a runtime and outlives it, because another runtime holds it, is over: its holder gets an error.
#[test]
#[ignore = "needs ZooKeeper: make test"]
fn what_outlives_its_runtime_is_over() {
    let (theirs, ours) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let zoo = ours.block_on(Zoo::start(1));
    let zookeeper = zoo.zookeeper();
    let mut watch = zookeeper.watch(&service());
    let (mut lease, first) = theirs.block_on(async {
        let lease = zookeeper.register(&service(), &instance("a")).await.unwrap();
        (lease, timeout(SOON, watch.next()).await.unwrap())
    });
    assert_eq!(first.unwrap().unwrap().instances.len(), 1);
    let held = ours.block_on(async { timeout(Duration::from_millis(200), lease.lost()).await });
    assert!(held.is_err(), "the lease is held: {held:?}");
    drop(theirs);
    let failed = ours.block_on(async { timeout(SOON, watch.next()).await }).unwrap().unwrap();
    assert!(failed.is_err(), "the watch fails: {failed:?}");
    let lost = ours.block_on(async { timeout(SOON, lease.lost()).await }).unwrap();
    assert_eq!(lost.kind(), ErrorKind::Lost, "{lost:?}");
    let again = ours.block_on(zookeeper.register(&service(), &instance("a"))).unwrap();
    ours.block_on(again.revoke()).unwrap();
    // The rest has to be dropped within a runtime, as everything of tokio has.
    let _within = ours.enter();
    drop((lease, watch, zoo));
}
