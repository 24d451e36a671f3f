//! Three members, of which one fails.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they call")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use callboard_conformance::Watcher;
use callboard_core::{Registration, RegistrationSettings, RegistrationState, Registry, ServiceName, register};
use common::{SOON, Servers, builder, instance, service};
use tokio::time::Instant;

const HEAL: Duration = Duration::from_secs(10);

async fn three(servers: &Servers, service: &ServiceName) -> Vec<Registration> {
    let register =
        |(port, id)| register(Arc::new(servers.etcd()), service, instance(id, port), RegistrationSettings::default());
    let all: Vec<_> = (1..).zip(["a", "b", "c"]).map(register).collect();
    for registration in &all {
        registration.wait_registered(SOON).await.unwrap();
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn the_leader_is_killed_and_nobody_is_lost() {
    let (servers, service) = (Servers::three().await, service("project/test"));
    let all = three(&servers, &service).await;
    let watcher = Watcher::new(Arc::new(servers.etcd()), &service);
    watcher.until_ids(SOON, "before", &["a", "b", "c"]).await;
    let leader = servers.cluster.leader().await;
    servers.cluster.node(leader).kill().await;
    let killed = Instant::now();
    // A new one registers while the member is dead, and all watchers see it.
    let new = servers.etcd();
    let registry: Arc<dyn Registry> = Arc::new(new);
    let late = register(registry, &service, instance("d", 4), RegistrationSettings::default());
    late.wait_registered(HEAL).await.unwrap();
    watcher.until(HEAL, "all four", |seen| seen.ids() == ["a", "b", "c", "d"] && seen.stale.is_none()).await;
    println!("a new instance is seen {:?} after the leader's death", killed.elapsed());
    // For longer than any time to live.
    tokio::time::sleep(common::TTL_OF_THREE * 3 / 2).await;
    let seen = watcher.seen();
    assert_eq!((seen.ids(), seen.emptied), (vec!["a", "b", "c", "d"], 0));
    for registration in &all {
        assert!(matches!(registration.state(), RegistrationState::Registered { .. }), "{:?}", registration.state());
    }
    // With one of three dead, each call still works.
    let etcd = servers.etcd();
    for port in 1..=60 {
        let lease = etcd.register(&service, &instance("again", port)).await.unwrap();
        lease.revoke().await.unwrap();
    }
    servers.cluster.start().await;
    late.deregister().await.unwrap();
    watcher.until_ids(HEAL, "without the late one", &["a", "b", "c"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn a_config_is_kept_and_changed_while_a_member_is_dead() {
    let (servers, service) = (Servers::three().await, service("project/test"));
    let watcher = Watcher::new(Arc::new(servers.etcd()), &service);
    let until = async |watcher: &Watcher, config: Option<&str>| {
        let right = |seen: &callboard_conformance::Seen| {
            seen.set.is_some() && seen.stale.is_none() && seen.config.as_deref() == config.map(str::as_bytes)
        };
        watcher.until(SOON, &format!("the config {config:?}"), right).await;
    };
    servers.etcd().put_service_config(&service, Some("{}")).await.unwrap();
    until(&watcher, Some("{}")).await;
    for changed in [Some("[]"), None] {
        let leader = servers.cluster.leader().await;
        servers.cluster.node(leader).kill().await;
        servers.cluster.leader().await;
        let before = watcher.seen().config;
        let late = Watcher::new(Arc::new(servers.etcd()), &service);
        let text = before.as_deref().map(|config| std::str::from_utf8(config).unwrap());
        until(&late, text).await;
        servers.etcd().put_service_config(&service, changed).await.unwrap();
        for watcher in [&watcher, &late] {
            until(watcher, changed).await;
        }
        servers.cluster.start().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn a_member_that_is_cut_off_from_the_others_is_not_listened_to() {
    let (servers, service) = (Servers::three().await, service("project/test"));
    let leader = servers.cluster.leader().await;
    let cut = (leader + 1) % 3;
    // One knows only the member that will be cut off; the other knows all, and lists and registers elsewhere.
    let lonely = Watcher::new(Arc::new(builder([servers.cluster.node(cut).address()]).build().unwrap()), &service);
    let watcher = Watcher::new(Arc::new(servers.etcd()), &service);
    let all = three(&servers, &service).await;
    for watcher in [&lonely, &watcher] {
        watcher.until_ids(SOON, "before", &["a", "b", "c"]).await;
    }
    servers.cluster.isolate(cut).await;
    let begun = Instant::now();
    lonely.until(SOON, "it is known that this member has no leader", |seen| seen.stale.is_some()).await;
    println!("the cut is known after {:?}", begun.elapsed());
    assert_eq!(lonely.seen().ids(), ["a", "b", "c"], "the last set is kept");
    let late = register(Arc::new(servers.etcd()), &service, instance("d", 4), RegistrationSettings::default());
    late.wait_registered(SOON).await.unwrap();
    watcher.until(SOON, "the others go on", |seen| seen.ids() == ["a", "b", "c", "d"]).await;
    servers.cluster.heal(cut).await;
    let healed = Instant::now();
    for watcher in [&lonely, &watcher] {
        let right = |seen: &callboard_conformance::Seen| seen.ids() == ["a", "b", "c", "d"] && seen.stale.is_none();
        watcher.until(HEAL, "healed", right).await;
        assert_eq!(watcher.seen().emptied, 0);
    }
    println!("healed after {:?}", healed.elapsed());
    for registration in all.into_iter().chain([late]) {
        registration.wait_registered(HEAL).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn a_member_that_falls_silent_is_worked_around() {
    let (servers, service) = (Servers::three().await, service("project/test"));
    let all = three(&servers, &service).await;
    let watcher = Watcher::new(Arc::new(servers.etcd()), &service);
    watcher.until_ids(SOON, "before", &["a", "b", "c"]).await;
    let silent = (servers.cluster.leader().await + 1) % 3;
    servers.cluster.node(silent).pause();
    let begun = Instant::now();
    let late = register(Arc::new(servers.etcd()), &service, instance("d", 4), RegistrationSettings::default());
    late.wait_registered(SOON).await.unwrap();
    println!("a new instance is registered after {:?}", begun.elapsed());
    let right = |seen: &callboard_conformance::Seen| seen.ids() == ["a", "b", "c", "d"] && seen.stale.is_none();
    watcher.until(SOON, "all four, although a member is silent", right).await;
    println!("and seen after {:?}", begun.elapsed());
    servers.cluster.node(silent).resume();
    watcher.until(HEAL, "healed", right).await;
    for registration in all.iter().chain([&late]) {
        registration.wait_registered(HEAL).await.unwrap();
    }
    assert_eq!(watcher.seen().emptied, 0);
}
