//! One entry: seen, changed, gone.

use std::time::Duration;

use callboard_core::{Error, ErrorKind, Lease, Registry};
use tokio::time::timeout;

use crate::Harness;
use crate::company::{SOON, instance, service, watcher};

/// An instance that is registered is seen, as it is, by who watched before and by who watches afterwards.
pub async fn a_registered_instance_is_seen(harness: &dyn Harness) {
    let service = service("project/test");
    let early = watcher(harness, &service);
    early.until_ids(SOON, "before", &[]).await;
    let registry = harness.registry();
    let wanted = instance("a", 1).with_weight(3).with_zone("eu-1").with_metadata("version", "2.4.0");
    let _lease = registry.register(&service, &wanted).await.expect("registered");
    let late = watcher(harness, &service);
    for watcher in [&early, &late] {
        let seen = watcher.until_ids(SOON, "registered", &["a"]).await;
        assert_eq!(**seen.instance("a").expect("waited for"), wanted);
        assert_eq!((seen.skipped, seen.stale.is_none()), (0, true));
    }
}

/// `update` changes weight, zone and metadata in place: same incarnation, never a gap, and the lease goes on.
pub async fn an_update_is_seen_in_place(harness: &dyn Harness) {
    let service = service("project/test");
    let (registry, watcher) = (harness.registry(), watcher(harness, &service));
    let first = instance("a", 1).with_weight(1).with_zone("eu-1").with_metadata("version", "1");
    let mut lease = registry.register(&service, &first).await.expect("registered");
    watcher.until_ids(SOON, "registered", &["a"]).await;
    for weight in [5, 0, 7] {
        let mut changed = instance("a", 1).with_weight(weight).with_metadata("version", "2");
        changed.set_zone(None);
        lease.update(&changed).await.expect("updated");
        let seen = watcher.until(SOON, "updated", |s| s.instance("a").is_some_and(|i| i.weight() == weight)).await;
        assert_eq!(**seen.instance("a").expect("waited for"), changed);
        assert_eq!(seen.emptied, 0, "an update left a gap");
    }
    still_held(lease.as_mut()).await;
    lease.revoke().await.expect("revoked");
}

/// `revoke` removes the entry, and watchers see that it is gone.
pub async fn a_revoked_instance_is_gone(harness: &dyn Harness) {
    let service = service("project/test");
    let (registry, watcher) = (harness.registry(), watcher(harness, &service));
    let _stays = registry.register(&service, &instance("stays", 1)).await.expect("registered");
    let lease = registry.register(&service, &instance("leaves", 2)).await.expect("registered");
    watcher.until_ids(SOON, "registered", &["leaves", "stays"]).await;
    lease.revoke().await.expect("revoked");
    watcher.until_ids(SOON, "revoked", &["stays"]).await;
}

/// An instance whose lease is dropped without a word, as when its process dies, is gone within its time to live.
pub async fn a_dead_instance_is_gone_within_its_time_to_live(harness: &dyn Harness) {
    let service = service("project/test");
    let (registry, watcher) = (harness.registry(), watcher(harness, &service));
    let _stays = registry.register(&service, &instance("stays", 1)).await.expect("registered");
    let doomed = harness.registry();
    let lease = doomed.register(&service, &instance("dies", 2)).await.expect("registered");
    watcher.until_ids(SOON, "registered", &["dies", "stays"]).await;
    drop((lease, doomed));
    watcher.until_ids(harness.bounds().expiry, "dead", &["stays"]).await;
}

/// A lease is held for as long as it exists: the entry is there, without a gap, after its time to live has passed
/// several times.
pub async fn a_live_instance_outlasts_its_time_to_live(harness: &dyn Harness) {
    let service = service("project/test");
    let (registry, watcher) = (harness.registry(), watcher(harness, &service));
    let mut lease = registry.register(&service, &instance("a", 1)).await.expect("registered");
    watcher.until_ids(SOON, "registered", &["a"]).await;
    let lost = timeout(harness.bounds().expiry * 2, lease.lost()).await;
    assert!(lost.is_err(), "lost without a reason: {lost:?}");
    let seen = watcher.seen();
    assert_eq!((seen.ids(), seen.emptied), (vec!["a"], 0));
}

/// An error of a backend says which backend and which service it is about, and what can be done: here nothing but to
/// try again.
pub async fn an_error_says_where(harness: &dyn Harness) {
    let service = service("project/test");
    harness.kill().await;
    let (registry, wanted) = (harness.registry(), instance("a", 1));
    let attempt = timeout(harness.bounds().notice, registry.register(&service, &wanted)).await;
    let error = attempt.expect("an attempt at a dead registry ends by itself").expect_err("nobody is there");
    says_where(&error, &service);
    let mut watch = harness.resolver().watch(&service);
    let first = timeout(harness.bounds().notice, futures_util::StreamExt::next(&mut watch)).await;
    let error = first.expect("a watch of a dead registry ends by itself").expect("an error").expect_err("nobody");
    says_where(&error, &service);
}

fn says_where(error: &Error, service: &callboard_core::ServiceName) {
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error:?}");
    assert!(error.backend().is_some(), "the error does not say which backend: {error:?}");
    assert_eq!(error.service(), Some(service), "the error does not say which service: {error:?}");
}

/// The lease does not say that it is lost.
pub(crate) async fn still_held(lease: &mut dyn Lease) {
    let lost = timeout(Duration::from_millis(200), lease.lost()).await;
    assert!(lost.is_err(), "lost without a reason: {lost:?}");
}

/// The lease says of itself that it is lost, soon.
pub(crate) async fn lost(lease: &mut dyn Lease, within: Duration) -> Error {
    timeout(within, lease.lost()).await.unwrap_or_else(|_| panic!("not lost within {within:?}"))
}

/// Registers; it works.
pub(crate) async fn registered(
    registry: &dyn Registry,
    service: &callboard_core::ServiceName,
    instance: &callboard_core::Instance,
) -> Box<dyn Lease> {
    registry.register(service, instance).await.expect("a registry that is well registers")
}
