//! What happens to a client that is cut off from etcd.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they call")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use callboard_conformance::Watcher;
use callboard_core::{ErrorKind, RegistrationSettings, RegistrationState, Registry, Resolver, encode, register};
use callboard_servers::{Mode, Port, Proxy};
use common::{SOON, Servers, TTL, builder, instance, key, service};
use etcd_client::{Client, CompactionOptions};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep, timeout};

const HEAL: Duration = Duration::from_secs(10);
/// A connection with streams on it is probed every ten seconds.
const FOUR_PROBES: Duration = Duration::from_secs(45);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn what_happens_before_a_compaction_while_a_watch_is_cut_off_is_seen() {
    let (servers, service) = (Servers::one().await, service("project/test"));
    let proxy = Proxy::to(servers.cluster.address()).await;
    let (near, far) = (servers.etcd(), builder([proxy.address()]).build().unwrap());
    let watcher = Watcher::new(Arc::new(far), &service);
    let mut leases = Vec::new();
    for (port, id) in (1..).zip(["a", "b", "c"]) {
        leases.push(near.register(&service, &instance(id, port)).await.unwrap());
    }
    watcher.until_ids(SOON, "before", &["a", "b", "c"]).await;
    for cut in [Duration::ZERO, Duration::from_secs(5)] {
        // Short enough for the watch itself to go on, and so long that it is opened anew.
        proxy.set(Mode::Refuse).await;
        leases.pop().unwrap().revoke().await.unwrap();
        let changed = instance("a", 1).with_weight(50 + leases.len() as u32);
        leases[0].update(&changed).await.unwrap();
        let mut client = servers.client().await;
        let now = client.get("x", None).await.unwrap().header().unwrap().revision();
        client.compact(now, Some(CompactionOptions::new().with_physical())).await.unwrap();
        if !cut.is_zero() {
            watcher.until(SOON, "it is known that etcd does not answer", |seen| seen.stale.is_some()).await;
            assert_eq!(watcher.seen().ids(), ["a", "b"]);
        }
        proxy.set(Mode::Pass).await;
        let expected = &["a", "b"][..leases.len()];
        let right = |seen: &callboard_conformance::Seen| {
            seen.ids() == expected && seen.stale.is_none() && seen.instance("a").is_some_and(|a| **a == changed)
        };
        watcher.until(HEAL, "everything that happened is seen", right).await;
        assert_eq!(watcher.seen().emptied, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn an_etcd_that_was_wiped_and_has_come_further_than_was_heard_is_listed_anew() {
    let (servers, service) = (Servers::one().await, service("project/test"));
    let proxy = Proxy::to(servers.cluster.address()).await;
    let write = async |id: &str| {
        let mut client = servers.client().await;
        client.put(key(&service, id), encode(&instance(id, 1)), None).await.unwrap();
        client
    };
    let mut watch = builder([proxy.address()]).build().unwrap().watch(&service);
    let mut ids = async || {
        let set = timeout(SOON, watch.next()).await.expect("in time").expect("not the end").expect("a set");
        set.instances.iter().map(|instance| instance.id().to_owned()).collect::<Vec<_>>()
    };
    write("a").await;
    assert_eq!(ids().await, ["a"]);
    write("b").await;
    assert_eq!(ids().await, ["a", "b"]);
    // The watch does not learn that its connection is gone before all this has happened.
    proxy.set(Mode::BlackHole).await;
    servers.cluster.wipe().await;
    let mut client = write("c").await;
    for _ in 0..20 {
        client.put("elsewhere", "", None).await.unwrap();
    }
    proxy.set(Mode::Pass).await;
    assert_eq!(ids().await, ["c"], "the watch goes on, with what is there now");
}

/// Whoever watches has asked for the first set, and asks for the next one only when all this has happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn an_etcd_that_was_wiped_between_the_first_set_and_the_next_is_listed_anew() {
    let (servers, service) = (Servers::one().await, service("project/test"));
    let go_on = async |client: &mut Client| {
        for _ in 0..20 {
            client.put("elsewhere", "", None).await.unwrap();
        }
    };
    go_on(&mut servers.client().await).await;
    let mut watch = servers.etcd().watch(&service);
    let mut ids = async || {
        let set = timeout(SOON, watch.next()).await.expect("in time").expect("not the end").expect("a set");
        set.instances.iter().map(|instance| instance.id().to_owned()).collect::<Vec<_>>()
    };
    assert!(ids().await.is_empty());
    let listed = Instant::now();
    servers.cluster.wipe().await;
    let mut client = servers.client().await;
    client.put(key(&service, "c"), encode(&instance("c", 1)), None).await.unwrap();
    go_on(&mut client).await;
    // No etcd comes so far again within a second, but this one may have.
    tokio::time::sleep_until(listed + Duration::from_secs(1)).await;
    assert_eq!(ids().await, ["c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn a_network_that_swallows_everything_is_noticed_and_healed() {
    let (servers, service) = (Servers::one().await, service("project/test"));
    let proxy = Proxy::to(servers.cluster.address()).await;
    let far = Arc::new(builder([proxy.address()]).build().unwrap());
    let watcher = Watcher::new(far.clone(), &service);
    let registration = register(far, &service, instance("a", 1), RegistrationSettings::default());
    watcher.until_ids(SOON, "before", &["a"]).await;
    // The watcher may see the entry before the answer to its server has come.
    registration.wait_registered(SOON).await.unwrap();
    proxy.set(Mode::BlackHole).await;
    let begun = Instant::now();
    let mut state = registration.watch_state();
    let lost = |state: &RegistrationState| matches!(state, RegistrationState::Lost { .. });
    let noticed = timeout(SOON, state.wait_for(lost)).await.map(|state| state.map(drop));
    assert!(matches!(noticed, Ok(Ok(()))), "its server knows that the entry is lost: {:?}", registration.state());
    println!("the server knows after {:?}", begun.elapsed());
    watcher.until(SOON, "it is known that etcd does not answer", |seen| seen.stale.is_some()).await;
    println!("the watcher knows after {:?}", begun.elapsed());
    assert_eq!(watcher.seen().ids(), ["a"], "the last set is kept");
    proxy.set(Mode::Pass).await;
    let healed = Instant::now();
    watcher.until(HEAL, "healed", |seen| seen.ids() == ["a"] && seen.stale.is_none()).await;
    registration.wait_registered(HEAL).await.unwrap();
    println!("healed after {:?}", healed.elapsed());
    registration.deregister().await.unwrap();
    // The empty set is believed later.
    let there = servers.client().await.get(key(&service, "a"), None).await.unwrap();
    assert!(there.kvs().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn a_short_cut_is_survived_by_the_lease() {
    let (servers, service) = (Servers::one().await, service("project/test"));
    let proxy = Proxy::to(servers.cluster.address()).await;
    let far = builder([proxy.address()]).build().unwrap();
    let mut lease = far.register(&service, &instance("a", 1)).await.unwrap();
    let mut client = servers.client().await;
    let mut version = async || client.get(key(&service, "a"), None).await.unwrap().kvs()[0].create_revision();
    let before = version().await;
    for _ in 0..3 {
        let lost = timeout(TTL / 2, lease.lost()).await;
        assert!(lost.is_err(), "{lost:?}");
        proxy.set(Mode::Refuse).await;
        proxy.set(Mode::Pass).await;
    }
    let lost = timeout(TTL * 2, lease.lost()).await;
    assert!(lost.is_err(), "{lost:?}");
    assert_eq!(version().await, before, "it is the same entry");
    // And it still notices what happens to its entry.
    client_deletes(&servers, &service).await;
    assert_eq!(timeout(SOON, lease.lost()).await.expect("noticed").kind(), ErrorKind::Lost);
}

async fn client_deletes(servers: &Servers, service: &callboard_core::ServiceName) {
    servers.client().await.delete(key(service, "a"), None).await.unwrap();
}

/// etcd ends a connection that is probed while there is no stream on it, at the third probe, and with it the call that
/// has just been sent.
#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn a_connection_without_streams_is_not_probed_and_stays() {
    let (servers, service) = (Servers::one().await, service("project/test"));
    let (address, made) = (servers.cluster.address(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&made);
    let route = move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Some(address)
    };
    let proxy = Proxy::switch(Port::free().unwrap(), route).unwrap();
    let etcd = builder([proxy.address()]).build().unwrap();
    etcd.put_service_config(&service, None).await.unwrap();
    let before = made.load(Ordering::Relaxed);
    sleep(FOUR_PROBES).await;
    etcd.put_service_config(&service, None).await.unwrap();
    assert_eq!(made.load(Ordering::Relaxed), before, "no other connection has been made");
}
