//! What the registry suffers. Afterwards every live instance is in every watcher's set and every dead one is out, and
//! at no moment was a set empty while an instance was live.

use callboard_core::{RegistrationSettings, register};
use tokio::time::timeout;

use crate::Harness;
use crate::company::{Company, SOON, instance};

/// Servers and clients that start before the registry find each other when it comes.
pub async fn a_registry_that_comes_late(harness: &dyn Harness) {
    harness.kill().await;
    let company = Company::begin(harness);
    company.nobody_hears_anything().await;
    harness.restart().await;
    company.is_right_within(harness.bounds().heal, "the registry has come").await;
}

/// The registry is killed and comes back on its data, or without, if it keeps none. Who dies meanwhile is out.
pub async fn a_registry_that_is_killed_and_restarted(harness: &dyn Harness) {
    let company = Company::together(harness).await;
    for round in 1..=2 {
        let mortal = company.mortal().await;
        harness.kill().await;
        company.watchers_are_cut_off().await;
        mortal.dies();
        harness.restart().await;
        let bounds = harness.bounds();
        company.is_right_within(bounds.expiry + bounds.heal, &format!("restarted, round {round}")).await;
    }
}

/// The registry falls silent, for longer than any timeout and any time to live, and goes on.
pub async fn a_registry_that_is_paused(harness: &dyn Harness) {
    let company = Company::together(harness).await;
    let mortal = company.mortal().await;
    harness.pause().await;
    company.watchers_are_cut_off().await;
    company.servers_are_cut_off().await;
    mortal.dies();
    harness.resume().await;
    let bounds = harness.bounds();
    company.is_right_within(bounds.expiry + bounds.heal, "resumed").await;
}

/// The registry loses everything that it knew.
pub async fn a_registry_that_is_wiped(harness: &dyn Harness) {
    let company = Company::together(harness).await;
    let mortal = company.mortal().await;
    mortal.dies();
    harness.wipe().await;
    company.is_right_within(harness.bounds().heal, "wiped").await;
}

/// Who leaves while the registry is down does not come back with it.
pub async fn who_leaves_during_an_outage_stays_away(harness: &dyn Harness) {
    let company = Company::together(harness).await;
    let settings = RegistrationSettings::default();
    let leaver = register(harness.registry(), &company.service, instance("leaver", 7), settings.clone());
    leaver.wait_registered(SOON).await.expect("the registry is well");
    harness.kill().await;
    company.watchers_are_cut_off().await;
    // Whether it could be told is not the matter here: an error says that the entry ends by its time to live.
    let left = timeout(settings.attempt_timeout * 2 + SOON, leaver.deregister()).await;
    assert!(left.is_ok(), "leaving takes no longer than two attempts");
    harness.restart().await;
    let bounds = harness.bounds();
    company.is_right_within(bounds.expiry + bounds.heal, "restarted").await;
}
