//! A change that fails, while what it was to change works.

use std::time::Duration;

use callboard_core::{ErrorKind, RegistrationSettings, RegistrationState, register};
use tokio::time::timeout;

use crate::company::{SOON, instance, service, watcher};
use crate::presence::{registered, still_held};
use crate::{Harness, Seen};

/// The registration is on the board, and what it says of a change that is not published is as expected.
async fn until_pending(registration: &callboard_core::Registration, expected: bool) {
    let is_so = |state: &RegistrationState| match state {
        RegistrationState::Registered { pending, .. } => pending.is_some() == expected,
        _ => false,
    };
    let mut state = registration.watch_state();
    let waited = timeout(SOON, state.wait_for(is_so)).await.map(|state| state.map(drop));
    assert!(matches!(waited, Ok(Ok(()))), "a change is pending: {expected}; {:?}", registration.state());
}

fn weighs(id: &'static str, weight: u32) -> impl Fn(&Seen) -> bool {
    move |seen| seen.instance(id).is_some_and(|instance| instance.weight() == weight)
}

/// A change that the registry refuses, for as long as it is wished, leaves the instance on the board as it was; the state
/// says why; and the next change that can be published is.
pub async fn a_refused_change_leaves_what_is_there(harness: &dyn Harness) {
    let service = service("project/test");
    let (registry, watcher) = (harness.registry(), watcher(harness, &service));
    let _stays = registered(&*registry, &service, &instance("stays", 2)).await;
    let first = instance("a", 1).with_weight(1);
    let registration = register(harness.registry(), &service, first.clone(), RegistrationSettings::default());
    watcher.until_ids(SOON, "before the change", &["a", "stays"]).await;
    registration.update(|instance| *instance = harness.refused(instance.clone()).with_weight(7));
    until_pending(&registration, true).await;
    let RegistrationState::Registered { pending: Some(error), .. } = registration.state() else {
        panic!("not pending")
    };
    assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Denied), "it cannot pass: {error:?}");
    assert!(error.backend().is_some() && error.service() == Some(&service), "{error:?}");
    // Long enough for whatever is not kept alive to end.
    let mut state = registration.watch_state();
    let off =
        timeout(harness.bounds().expiry, state.wait_for(|s| !matches!(s, RegistrationState::Registered { .. }))).await;
    assert!(off.is_err(), "a refused change has cost its place: {:?}", registration.state());
    assert_eq!(watcher.seen().instance("a").map(|seen| (**seen).clone()), Some(first));
    registration.update(|instance| {
        instance.metadata_mut().clear();
        instance.set_weight(9);
    });
    watcher.until(SOON, "the change that can be published", weighs("a", 9)).await;
    until_pending(&registration, false).await;
    assert_eq!(watcher.seen().gaps.len(), 0, "it was off the board meanwhile: {:?}", watcher.seen());
    registration.deregister().await.expect("left");
}

/// Leases go on after an `update` that was refused, and after one that was dropped half-way, as by a bound on its time:
/// none is lost, and the next change is made.
pub async fn a_lease_outlasts_changes_that_fail_or_are_dropped(harness: &dyn Harness) {
    let service = service("project/test");
    let (registry, watcher) = (harness.registry(), watcher(harness, &service));
    let mut lease = registered(&*registry, &service, &instance("a", 1)).await;
    let _stays = registered(&*registry, &service, &instance("stays", 2)).await;
    watcher.until_ids(SOON, "registered", &["a", "stays"]).await;
    let error = lease.update(&harness.refused(instance("a", 1))).await.expect_err("it is refused");
    assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Denied), "{error:?}");
    still_held(lease.as_mut()).await;
    // From before the request has been sent to after the answer has come.
    for micros in [0, 100, 200, 400, 600, 800, 1_000, 1_500, 2_000, 4_000, 8_000] {
        let changed = instance("a", 1).with_weight(micros);
        let _ = timeout(Duration::from_micros(micros.into()), lease.update(&changed)).await;
    }
    still_held(lease.as_mut()).await;
    lease.update(&instance("a", 1).with_weight(10_000)).await.expect("the next one is made");
    watcher.until(SOON, "the last change", weighs("a", 10_000)).await;
    let lost = timeout(harness.bounds().expiry, lease.lost()).await;
    assert!(lost.is_err(), "lost without a reason: {lost:?}");
    assert_eq!(watcher.seen().gaps.len(), 0, "{:?}", watcher.seen());
    lease.revoke().await.expect("revoked");
}
