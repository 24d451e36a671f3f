//! Records that somebody else has written, who may write to the registry.

use callboard_core::{Incarnation, Instance, RegistrationSettings, register};

use crate::company::{SOON, instance, service, watcher};
use crate::presence::{registered, still_held};
use crate::{Harness, Seen};

/// Whether this id is seen at the address of this instance, and of this weight.
fn is_at(instance: &Instance, weight: u32) -> impl Fn(&Seen) -> bool {
    let (id, address) = (instance.id().to_owned(), instance.address().clone());
    move |seen| seen.instance(&id).is_some_and(|seen| *seen.address() == address && seen.weight() == weight)
}

/// A record counts as what its key says. One that has another's id and address in it, and is newer, stands beside the
/// other's, which stays as it is.
pub async fn a_record_under_another_key_takes_nobodys_place(harness: &dyn Harness) {
    let service = service("project/test");
    let (registry, watcher) = (harness.registry(), watcher(harness, &service));
    let victim = instance("a", 1);
    let mut lease = registered(&*registry, &service, &victim).await;
    watcher.until_ids(SOON, "before", &["a"]).await;
    harness.put_record(&service, "zz", &victim.clone().with_incarnation(Incarnation::fresh())).await;
    let seen = watcher.until_ids(SOON, "both", &["a", "zz"]).await;
    assert_eq!(seen.instance("a").map(|seen| &**seen), Some(&victim), "{seen:?}");
    assert_eq!(seen.instance("zz").map(|seen| seen.address()), Some(victim.address()), "{seen:?}");
    assert!(seen.gaps.is_empty(), "{seen:?}");
    still_held(lease.as_mut()).await;
    lease.revoke().await.expect("revoked");
    watcher.until_ids(SOON, "the other one stays", &["zz"]).await;
}

/// A record whose incarnation is far in the future takes no place, though nothing ends it: neither that of a server that is
/// there, nor that of one that comes.
pub async fn a_record_of_the_far_future_takes_no_place(harness: &dyn Harness) {
    let service = service("project/test");
    let (watcher, bounds) = (watcher(harness, &service), harness.bounds());
    let forge = async |id: &str| {
        let forged = instance(id, 9).with_incarnation(Incarnation::from_micros(u64::MAX));
        harness.put_record(&service, id, &forged).await;
    };
    let register = |instance| register(harness.registry(), &service, instance, RegistrationSettings::default());
    let (there, comes) = (instance("a", 1), instance("b", 2));
    let first = register(there.clone());
    watcher.until(SOON, "before", is_at(&there, 1)).await;
    forge("a").await;
    first.update(|instance| instance.set_weight(7));
    watcher.until(bounds.expiry + bounds.heal, "it has its place again", is_at(&there, 7)).await;
    first.wait_registered(bounds.heal).await.expect("it knows that it is on the board");
    forge("b").await;
    let second = register(comes.clone());
    second.wait_registered(bounds.heal).await.expect("it takes its place");
    watcher.until(SOON, "both are seen where they are", |seen| is_at(&there, 7)(seen) && is_at(&comes, 1)(seen)).await;
    first.deregister().await.expect("left");
    second.deregister().await.expect("left");
}
