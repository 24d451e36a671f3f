//! Outages longer and shorter than a session, and processes that stand still.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use callboard_conformance::Watcher;
use callboard_core::{ErrorKind, RegistrationSettings, RegistrationState, Registry, register};
use callboard_raw::{Mode, Proxy};
use callboard_servers::Program;
use callboard_zookeeper::ZooKeeper;
use common::{GapWatch, SESSION, SOON, Zoo, instance, service, until};
use tokio::time::{Instant, sleep, timeout};

/// The bound for everything to be right after an outage.
const HEALED: Duration = Duration::from_secs(5);

fn on_board(state: &RegistrationState) -> bool {
    matches!(state, RegistrationState::Registered { .. })
}

/// A network that swallows everything until the session has expired at the server: the entry is gone then, and there
/// again, for everybody, within five seconds after the network has healed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn a_session_that_expires_in_a_black_hole_is_replaced() {
    let zoo = Zoo::start(1).await;
    let proxy = Proxy::to(zoo.servers.address()).await;
    let behind = ZooKeeper::builder([proxy.address().to_string()]).session(SESSION).build().unwrap();
    let registration = register(Arc::new(behind.clone()), &service(), instance("a"), RegistrationSettings::default());
    registration.wait_registered(SOON).await.unwrap();
    let watchers = [Watcher::new(Arc::new(behind), &service()), Watcher::new(Arc::new(zoo.zookeeper()), &service())];
    for watcher in &watchers {
        watcher.until_ids(SOON, "before", &["a"]).await;
    }
    let (_, owner) = zoo.node_of(&service(), "a").await;

    proxy.set(Mode::BlackHole).await;
    let gone = async || zoo.nodes_of(&service(), "a").await.is_empty().then_some(());
    until("the server has expired the session", gone).await;
    watchers[0].until(SOON, "cut off, with its set kept", |s| s.stale.is_some() && s.ids() == ["a"]).await;
    assert!(!on_board(&registration.state()), "{:?}", registration.state());
    proxy.set(Mode::Pass).await;

    let healed = Instant::now();
    let again = async || zoo.nodes_of(&service(), "a").await.first().filter(|(_, now)| *now != owner).map(drop);
    until("the entry is made again, by another session", again).await;
    timeout(SOON, registration.watch_state().wait_for(on_board)).await.unwrap().unwrap();
    for watcher in &watchers {
        watcher.until(SOON, "after", |seen| seen.ids() == ["a"] && seen.stale.is_none()).await;
    }
    println!("right {:?} after the network has healed", healed.elapsed());
    assert!(healed.elapsed() < HEALED, "{:?}", healed.elapsed());
}

/// A server that is away for a good part of a session: everything is right within five seconds of its return, and
/// nobody sees a set without the entry, as that outlives the outage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn after_an_outage_that_the_session_outlives_nothing_was_missing() {
    let zoo = Zoo::start(1).await;
    let proxy = Proxy::to(zoo.servers.address()).await;
    let backend = ZooKeeper::builder([proxy.address().to_string()]).build().unwrap();
    let registration = register(Arc::new(backend.clone()), &service(), instance("a"), RegistrationSettings::default());
    registration.wait_registered(SOON).await.unwrap();
    let watcher = Watcher::new(Arc::new(backend), &service());
    watcher.until_ids(SOON, "before", &["a"]).await;
    let gap_watch = GapWatch::over(Arc::new(zoo.zookeeper()), &service());
    gap_watch.until("before", &["a=1"]).await;

    // After 7 s without a server, the client library alone would wait for some 6 s more.
    for (mode, outage) in [(Mode::Refuse, 7), (Mode::BlackHole, 7), (Mode::Refuse, 1)] {
        proxy.set(mode).await;
        sleep(Duration::from_secs(outage)).await; // it is the length of the outage that is tried
        proxy.set(Mode::Pass).await;
        let healed = Instant::now();
        let weight = outage as u32 * 10 + u32::from(mode == Mode::Refuse);
        registration.update(|instance| instance.set_weight(weight));
        let right = |seen: &callboard_conformance::Seen| {
            seen.stale.is_none() && seen.instance("a").is_some_and(|instance| instance.weight() == weight)
        };
        watcher.until(SOON, "after", right).await;
        timeout(SOON, registration.watch_state().wait_for(on_board)).await.unwrap().unwrap();
        gap_watch.until("after", &[&format!("a={weight}")]).await;
        println!("right {:?} after {outage} s of {mode:?}", healed.elapsed());
        assert!(healed.elapsed() < HEALED, "{:?}", healed.elapsed());
    }
    // What is left of a session that was given up ends, and takes nothing with it.
    sleep(Duration::from_secs(17)).await;
    let seen = gap_watch.seen();
    assert!(seen.sets.iter().all(|set| set.len() == 1), "a gap: {seen:?}");
    assert!(seen.errors.is_empty(), "{seen:?}");
}

/// A session that was given up in an outage leaves its entry where it is when the outage is over, for as long as it
/// lasts, so that there is time to replace it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn a_session_that_was_given_up_does_not_close_itself() {
    let zoo = Zoo::start(1).await;
    let proxy = Proxy::to(zoo.servers.address()).await;
    let backend = ZooKeeper::builder([proxy.address().to_string()]).session(Duration::from_secs(30)).build().unwrap();
    let mut lease = backend.register(&service(), &instance("a")).await.unwrap();
    let node = zoo.node_of(&service(), "a").await;

    proxy.set(Mode::Refuse).await;
    let error = timeout(SOON, lease.lost()).await.unwrap();
    assert_eq!(error.kind(), ErrorKind::Lost, "{error:?}");
    drop(lease);
    proxy.set(Mode::Pass).await;
    // By then the client library has connected it anew, which it does behind our back.
    sleep(Duration::from_secs(10)).await;
    assert_eq!(zoo.node_of(&service(), "a").await, node);
    // It is replaced, rather than taken for the new one, which would go with the old session.
    let _again = backend.register(&service(), &instance("a")).await.unwrap();
    assert_ne!(zoo.node_of(&service(), "a").await.1, node.1);
}

/// A process that stands still for longer than its session: its entry is removed meanwhile. When it goes on, it notices
/// that, and is registered again within five seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn a_process_that_stands_still_beyond_its_session_comes_back() {
    let zoo = Zoo::start(1).await;
    let url = format!("zookeeper://{}/{}?session=6s", zoo.servers.address(), service());
    let process = Program::example("register_in_zookeeper").args([&url, "127.0.0.1:50051"]).start();
    let (lines, _) = process.line_after(0, "Registered").await;
    let watcher = Watcher::new(Arc::new(zoo.zookeeper()), &service());
    watcher.until_ids(SOON, "before", &["127.0.0.1:50051"]).await;

    process.pause();
    let gone = async || zoo.nodes_of(&service(), "127.0.0.1:50051").await.is_empty().then_some(());
    until("the server has expired the session", gone).await;
    process.resume();

    let resumed = Instant::now();
    let (lines, lost) = process.line_after(lines, "Lost").await;
    process.line_after(lines, "Registered").await;
    watcher.until_ids(SOON, "after", &["127.0.0.1:50051"]).await;
    println!("back {:?} after it went on: {lost}", resumed.elapsed());
    assert!(resumed.elapsed() < HEALED, "{:?}", resumed.elapsed());
    process.interrupt();
    assert!(process.wait().await.success());
    until("it has left", gone).await;
}

/// A process that is killed and started again at once is registered again at once: the node of the killed one, which
/// lasts until its session expires, is not in its way, and is not taken for the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn a_restart_does_not_meet_its_own_ghost() {
    let zoo = Zoo::start(1).await;
    let id = "127.0.0.1:50051";
    let url = format!("zookeeper://{}/{}?session=60s", zoo.servers.address(), service());
    let start = || Program::example("register_in_zookeeper").args([&url, id]).start();
    let killed = start();
    killed.line("Registered").await;
    let watcher = Watcher::new(Arc::new(zoo.zookeeper()), &service());
    let old = watcher.until_ids(SOON, "before", &[id]).await.instance(id).unwrap().incarnation();
    let (ghost, _) = zoo.node_of(&service(), id).await;
    killed.kill().await;
    assert_eq!(zoo.node_of(&service(), id).await.0, ghost, "the ghost is there");

    let again = start();
    again.line("Registered").await;
    let newer = |seen: &callboard_conformance::Seen| seen.instance(id).is_some_and(|a| a.incarnation() > old);
    let seen = watcher.until(SOON, "the new one", newer).await;
    assert_eq!(seen.emptied, 0, "{seen:?}");
    assert_ne!(zoo.node_of(&service(), id).await.0, ghost, "the ghost is gone, and the new one is there");
    again.terminate();
    again.wait().await;
}
