//! Two claims on one id: a restart, and an echo of the past.

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{ErrorKind, Registration, RegistrationSettings, RegistrationState, Registry, register};
use tokio::time::{sleep, timeout};

use crate::company::{SOON, instance, service, started, watcher};
use crate::presence::{lost, registered, still_held};
use crate::{Harness, Seen};

/// A server that is restarted under its id takes the entry over from what was left of it, at once; the late end of the
/// old claim does not remove the new entry, and the old claim learns that it has lost to a newer one.
pub async fn a_newer_incarnation_takes_over(harness: &dyn Harness) {
    let service = service("project/test");
    let watcher = watcher(harness, &service);
    let (old_registry, new_registry) = (harness.registry(), harness.registry());
    let mut old = registered(&*old_registry, &service, &started("a", 1, 5)).await;
    watcher.until_ids(SOON, "the first", &["a"]).await;
    let mut new = registered(&*new_registry, &service, &started("a", 2, 6)).await;
    let newer = |seen: &Seen| seen.instance("a").is_some_and(|i| i.incarnation().as_micros() == 6);
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
    assert_eq!(watcher.seen().instance("a").map(|i| i.incarnation().as_micros()), Some(6));
}

/// A claim that is made again for the same incarnation, as after a lost answer, replaces the former one; the former
/// one's end does not remove it.
pub async fn the_same_incarnation_may_register_again(harness: &dyn Harness) {
    let service = service("project/test");
    let watcher = watcher(harness, &service);
    let (first_registry, second_registry) = (harness.registry(), harness.registry());
    let first = registered(&*first_registry, &service, &started("a", 1, 5)).await;
    let mut second = registered(&*second_registry, &service, &started("a", 1, 5).with_weight(2)).await;
    let again = |seen: &Seen| seen.instance("a").is_some_and(|i| i.weight() == 2);
    watcher.until(SOON, "the second claim", again).await;
    drop((first, first_registry));
    sleep(harness.bounds().expiry).await; // what the first claim left behind is gone by then
    still_held(second.as_mut()).await;
    let seen = watcher.seen();
    assert!(again(&seen) && seen.emptied == 0, "{seen:?}");
}

fn weighs(weight: u32) -> impl Fn(&Seen) -> bool {
    move |seen| seen.instance("a").is_some_and(|instance| instance.weight() == weight)
}

/// Attempts to register that were refused, cut short, or let go of leave nothing behind that removes the entry of their
/// successor later.
pub async fn what_failed_claims_leave_behind_harms_no_successor(harness: &dyn Harness) {
    let service = service("project/test");
    let watcher = watcher(harness, &service);
    let (registry, others) = (harness.registry(), harness.registry());
    let _stays = registered(&*registry, &service, &instance("stays", 2)).await;
    let before = registered(&*registry, &service, &started("a", 1, 5)).await;
    for _ in 0..4 {
        others.register(&service, &started("a", 1, 4)).await.expect_err("an older one is refused");
    }
    // From before the request has been sent to after the answer has come.
    for micros in [100, 300, 600, 1_000, 2_000, 4_000, 8_000] {
        let instance = started("a", 1, 6).with_weight(2);
        let _ = timeout(Duration::from_micros(micros), others.register(&service, &instance)).await;
    }
    drop(before);
    let mut last = registered(&*others, &service, &started("a", 1, 6).with_weight(3)).await;
    watcher.until(SOON, "the last claim", weighs(3)).await;
    let gaps = |seen: &Seen| seen.gaps.get("a").copied().unwrap_or_default();
    let until_now = gaps(&watcher.seen());
    let removed = timeout(harness.bounds().expiry * 2, last.lost()).await;
    assert!(removed.is_err(), "lost to what an earlier claim has left behind: {removed:?}");
    let seen = watcher.seen();
    assert!(weighs(3)(&seen) && gaps(&seen) == until_now, "{seen:?}");
    last.revoke().await.expect("revoked");
}

/// A server whose clock was ahead has died: its successor, of an older incarnation, does not end because of it. It is on the
/// board as soon as the dead one's time to live is over.
pub async fn a_dead_newer_incarnation_is_waited_for(harness: &dyn Harness) {
    let service = service("project/test");
    let (doomed, watcher) = (harness.registry(), watcher(harness, &service));
    let dead = registered(&*doomed, &service, &started("a", 2, 9)).await;
    watcher.until_ids(SOON, "the one that is to die", &["a"]).await;
    drop((dead, doomed));
    let successor = register(harness.registry(), &service, started("a", 1, 5), RegistrationSettings::default());
    let within = harness.bounds().expiry;
    successor.wait_registered(within).await.expect("the dead one is waited for");
    watcher
        .until(SOON, "the successor", |seen| seen.instance("a").is_some_and(|a| a.incarnation().as_micros() == 5))
        .await;
    successor.deregister().await.expect("left");
}

async fn until_on_board(registration: &Registration, expected: bool, within: Duration) {
    let is_so = |state: &RegistrationState| matches!(state, RegistrationState::Registered { .. }) == expected;
    let mut state = registration.watch_state();
    let waited = timeout(within, state.wait_for(is_so)).await.map(|state| state.map(drop));
    assert!(matches!(waited, Ok(Ok(()))), "on the board: {expected}; {:?}", registration.state());
}

/// A process that registers the same instance twice, as when it reloads: the later registration stays, the earlier one
/// hears of the conflict, they do not take turns, and the end of either leaves no gap. Over one client, and over two.
pub async fn of_two_equal_announcements_the_later_stays(harness: &dyn Harness) {
    let one = harness.registry();
    for (number, second) in [(1, Arc::clone(&one)), (2, harness.registry())] {
        let service = service(&format!("project/test{number}"));
        equals(harness, &service, [Arc::clone(&one), second]).await;
    }
}

async fn equals(harness: &dyn Harness, service: &callboard_core::ServiceName, [one, two]: [Arc<dyn Registry>; 2]) {
    let (watcher, bounds) = (watcher(harness, service), harness.bounds());
    let _stays = registered(&*one, service, &instance("stays", 2)).await;
    let register = |registry: &Arc<dyn Registry>, weight| {
        register(Arc::clone(registry), service, instance("a", 1).with_weight(weight), RegistrationSettings::default())
    };
    let earlier = register(&one, 1);
    watcher.until(SOON, "the earlier one", weighs(1)).await;
    let later = register(&two, 2);
    later.wait_registered(SOON).await.expect("the later one replaces it");
    watcher.until(SOON, "the later one", weighs(2)).await;
    until_on_board(&earlier, false, bounds.expiry).await;
    let RegistrationState::Lost { error, .. } = earlier.state() else { panic!("{:?}", earlier.state()) };
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    // Time enough to take turns, and for what is left behind to be removed.
    let turn = async { until_on_board(&later, false, bounds.expiry * 100).await };
    assert!(timeout(bounds.expiry, turn).await.is_err(), "the earlier one has taken it back: {:?}", later.state());
    drop(earlier);
    sleep(bounds.expiry).await; // what the earlier one leaves behind is gone by then
    let seen = watcher.seen();
    assert!(weighs(2)(&seen) && !seen.gaps.contains_key("a"), "{seen:?}");
    later.deregister().await.expect("left");
    watcher.until_ids(SOON, "both are gone", &["stays"]).await;
}
