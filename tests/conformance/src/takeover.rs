//! Two claims on one id: a restart, and an echo of the past.

use callboard_core::ErrorKind;

use crate::Harness;
use crate::company::{SOON, service, started, watcher};
use crate::presence::{lost, registered, still_held};

/// A server that is restarted under its id takes the entry over from what was left of it, at once; the late end of the
/// old claim does not remove the new entry, and the old claim learns that it has lost to a newer one.
pub async fn a_newer_incarnation_takes_over(harness: &dyn Harness) {
    let service = service("project/test");
    let watcher = watcher(harness, &service);
    let (old_registry, new_registry) = (harness.registry(), harness.registry());
    let mut old = registered(&*old_registry, &service, &started("a", 1, 5)).await;
    watcher.until_ids(SOON, "the first", &["a"]).await;
    let mut new = registered(&*new_registry, &service, &started("a", 2, 6)).await;
    let newer = |seen: &crate::Seen| seen.instance("a").is_some_and(|i| i.incarnation.as_micros() == 6);
    watcher.until(SOON, "the newer one", newer).await;
    let error = lost(old.as_mut(), harness.bounds().expiry).await;
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    old.revoke().await.expect("what is gone already is no error");
    still_held(new.as_mut()).await;
    let seen = watcher.seen();
    assert!(newer(&seen) && seen.emptied == 0, "{seen:?}");
    new.revoke().await.expect("revoked");
}

/// An older incarnation does not displace a newer one: it is told of the conflict.
pub async fn an_older_incarnation_is_refused(harness: &dyn Harness) {
    let service = service("project/test");
    let watcher = watcher(harness, &service);
    let (old_registry, new_registry) = (harness.registry(), harness.registry());
    let mut new = registered(&*new_registry, &service, &started("a", 2, 6)).await;
    watcher.until_ids(SOON, "the newer one", &["a"]).await;
    let refused = old_registry.register(&service, &started("a", 1, 5)).await;
    let error = refused.expect_err("an echo of the past is refused");
    assert_eq!((error.kind(), error.service()), (ErrorKind::Conflict, Some(&service)), "{error:?}");
    still_held(new.as_mut()).await;
    assert_eq!(watcher.seen().instance("a").map(|i| i.incarnation.as_micros()), Some(6));
}

/// A claim that is made again for the same incarnation, as after a lost answer, replaces the former one; the former
/// one's end does not remove it.
pub async fn the_same_incarnation_may_register_again(harness: &dyn Harness) {
    let service = service("project/test");
    let watcher = watcher(harness, &service);
    let (first_registry, second_registry) = (harness.registry(), harness.registry());
    let first = registered(&*first_registry, &service, &started("a", 1, 5)).await;
    let mut second = registered(&*second_registry, &service, &started("a", 1, 5).weight(2)).await;
    let again = |seen: &crate::Seen| seen.instance("a").is_some_and(|i| i.weight == 2);
    watcher.until(SOON, "the second claim", again).await;
    drop((first, first_registry));
    tokio::time::sleep(harness.bounds().expiry).await; // what the first claim left behind is gone by then
    still_held(second.as_mut()).await;
    let seen = watcher.seen();
    assert!(again(&seen) && seen.emptied == 0, "{seen:?}");
}
