//! Sets: complete, of one service, and with their contents as they were.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use callboard_core::{InstanceKind, RegistrationSettings, ServiceName, WatchSettings, register};
use futures_util::{StreamExt, future, stream};
use tokio::time::timeout;

use crate::company::{SOON, instance, service, watcher};
use crate::presence::registered;
use crate::{Harness, Watcher};

/// How long a hundred and more of one thing may take.
const MANY: Duration = Duration::from_secs(60);

/// The first item of a watch is the set as it is, and comes even if nobody is there or the service is unheard of.
pub async fn the_first_set_is_complete_and_comes_even_if_empty(harness: &dyn Harness) {
    let service = service("project/test");
    let first = async |service: &ServiceName| {
        let mut watch = harness.resolver().watch(service);
        let item = timeout(SOON, watch.next()).await.expect("a first set comes").expect("not the end").expect("a set");
        let mut ids: Vec<_> = item.instances.iter().map(|instance| instance.id().to_owned()).collect();
        ids.sort();
        ids
    };
    assert!(first(&service).await.is_empty());
    let registry = harness.registry();
    let _a = registered(&*registry, &service, &instance("a", 1)).await;
    let _b = registered(&*registry, &service, &instance("b", 2)).await;
    assert_eq!(first(&service).await, ["a", "b"]);
    let lease = registered(&*registry, &crate::company::service("project/other"), &instance("c", 3)).await;
    lease.revoke().await.expect("revoked");
    assert!(first(&crate::company::service("project/other")).await.is_empty(), "a service that everybody has left");
}

/// After 200 changes in a burst, the set is what it should be, and stays so.
pub async fn sets_are_complete_after_a_burst(harness: &dyn Harness) {
    let service = service("project/test");
    let (registry, watcher) = (harness.registry(), watcher(harness, &service));
    watcher.until_ids(SOON, "before", &[]).await;
    let burst = (1..=20u16).map(|port| {
        let (registry, service) = (&registry, &service);
        async move {
            let id = format!("i{port:02}");
            let mut lease = registered(&**registry, service, &instance(&id, port)).await;
            for weight in 2..=9 {
                lease.update(&instance(&id, port).with_weight(weight)).await.expect("updated");
            }
            if port % 2 == 0 {
                lease.revoke().await.expect("revoked");
                return None;
            }
            Some(lease)
        }
    });
    let leases = future::join_all(burst).await;
    let odd: Vec<_> = (1..=20).step_by(2).map(|port| format!("i{port:02}")).collect();
    let right = |seen: &crate::Seen| {
        seen.set.as_ref().is_some_and(|set| set.keys().eq(&odd) && set.values().all(|instance| instance.weight() == 9))
    };
    watcher.until(SOON, "the odd ones, of weight 9", right).await;
    // Nothing that was overtaken comes later.
    assert!(timeout(Duration::from_millis(500), watcher.until(SOON, "", |seen| !right(seen))).await.is_err());
    drop(leases);
}

/// 500 instances are all in the set of who watches, at first and afterwards.
pub async fn five_hundred_instances_are_seen(harness: &dyn Harness) {
    let service = service("project/test");
    let (registry, early) = (harness.registry_for_many(), watcher(harness, &service));
    let instances = (1..=500u16).map(|port| instance(&format!("i{port}"), port).with_metadata("note", "x".repeat(100)));
    let leases: Vec<_> = stream::iter(instances)
        .map(|instance| {
            let (registry, service) = (&registry, &service);
            async move { registered(&**registry, service, &instance).await }
        })
        .buffer_unordered(16)
        .collect()
        .await;
    let all = |seen: &crate::Seen| seen.set.as_ref().is_some_and(|set| set.len() == 500);
    early.until(SOON, "all 500", all).await;
    watcher(harness, &service).until(SOON, "all 500", all).await;
    drop(leases);
}

/// Names of services, ids, and what the owner wants clients to know come back as they went in.
pub async fn names_and_metadata_come_back_as_they_were(harness: &dyn Harness) {
    let registry = harness.registry();
    let long = "lång ☎ ".repeat(200).chars().take(200).collect::<String>();
    let metadata = BTreeMap::from([("note".to_owned(), long), ("version".to_owned(), "2.4 \"β\" / \\ {}".to_owned())]);
    let ids = ["a", "10.0.0.7:50051", "[2001:db8::1]:80", "A.b_c-d:e"];
    for name in ["plain", "project/test", "a/b/c/d-e_f.g", "Project/TEST.v2"] {
        let service = service(name);
        for (port, id) in (1..).zip(ids) {
            let mut wanted = instance(id, port)
                .with_weight(u32::from(port) * 10)
                .with_zone("zone ☎ 1")
                .with_kind(InstanceKind::Balancer);
            wanted.metadata_mut().clone_from(&metadata);
            let lease = registered(&*registry, &service, &wanted).await;
            let watcher = watcher(harness, &service);
            let seen = watcher.until_ids(SOON, name, &[id]).await;
            assert_eq!(**seen.instance(id).expect("waited for"), wanted, "{name}");
            lease.revoke().await.expect("revoked");
        }
    }
}

/// A record that cannot be read is skipped and counted, and the others are seen.
pub async fn garbage_beside_good_records_is_skipped(harness: &dyn Harness) {
    let service = service("project/test");
    let (registry, early) = (harness.registry(), watcher(harness, &service));
    let _before = registered(&*registry, &service, &instance("before", 1)).await;
    harness.put_garbage(&service).await;
    let _after = registered(&*registry, &service, &instance("after", 2)).await;
    for watcher in [&early, &watcher(harness, &service)] {
        let seen = watcher.until_ids(SOON, "beside garbage", &["after", "before"]).await;
        assert_eq!((seen.skipped, seen.stale.is_none()), (1, true), "{seen:?}");
    }
}

/// A service whose name begins with another's, as text or as path, is another service.
pub async fn services_with_a_common_prefix_do_not_mix(harness: &dyn Harness) {
    let registry = harness.registry();
    let mut held = Vec::new();
    let names = ["project", "project/test", "project/test2", "project/test/deep", "project-test", "project.test"];
    for (port, name) in (1..).zip(names) {
        held.push(registered(&*registry, &service(name), &instance(&format!("of-{port}"), port)).await);
    }
    for (port, name) in (1..).zip(names) {
        watcher(harness, &service(name)).until_ids(SOON, name, &[&format!("of-{port}")]).await;
    }
}

/// What nobody can read is not nobody: when the last record that can be read goes, and one that cannot is there, the last
/// set is kept, however long that lasts.
pub async fn unreadable_records_are_not_an_empty_set(harness: &dyn Harness) {
    let service = service("project/test");
    let registry = harness.registry();
    let mut settings = WatchSettings::default();
    settings.empty_grace = Duration::ZERO;
    let watcher = Watcher::with(harness.resolver(), &service, settings);
    let lease = registered(&*registry, &service, &instance("a", 1)).await;
    watcher.until_ids(SOON, "readable", &["a"]).await;
    harness.put_garbage(&service).await;
    watcher.until(SOON, "one of two is readable", |seen| seen.skipped == 1).await;
    let other = registered(&*registry, &service, &instance("b", 2)).await;
    watcher.until_ids(SOON, "two of three are readable", &["a", "b"]).await;
    lease.revoke().await.expect("revoked");
    watcher.until_ids(SOON, "one of two is readable again", &["b"]).await;
    other.revoke().await.expect("revoked");
    let emptied = timeout(Duration::from_secs(2), watcher.until_ids(SOON, "nobody", &[])).await;
    assert!(emptied.is_err(), "what cannot be read was taken for nobody: {emptied:?}");
    let back = registered(&*registry, &service, &instance("c", 3)).await;
    watcher.until_ids(SOON, "a readable one again", &["c"]).await;
    back.revoke().await.expect("revoked");
}

/// A process that uses many services over one client hears of each, and is on each one's board.
pub async fn many_services_share_one_client(harness: &dyn Harness) {
    let (registry, resolver) = (harness.registry_for_many(), harness.resolver());
    let services: Vec<ServiceName> = (0..150).map(|number| service(&format!("project/s{number}"))).collect();
    let watchers: Vec<_> = services.iter().map(|service| Watcher::new(Arc::clone(&resolver), service)).collect();
    let joined = services.iter().map(|service| {
        let registration = register(Arc::clone(&registry), service, instance("a", 1), RegistrationSettings::default());
        async move { registration.wait_registered(MANY).await.map(|()| registration) }
    });
    let registered: Vec<_> = future::try_join_all(joined).await.expect("all are on the board");
    for watcher in &watchers {
        watcher.until(MANY, "each service", |seen| seen.ids() == ["a"] && seen.stale.is_none()).await;
    }
    for registration in &registered {
        registration.update(|instance| instance.set_weight(7));
    }
    for watcher in &watchers {
        watcher.until(MANY, "each change", |seen| seen.instance("a").is_some_and(|a| a.weight() == 7)).await;
    }
}
