//! Rights that are taken away while somebody makes use of them.

use std::sync::Arc;

use async_trait::async_trait;
use callboard_core::{ErrorKind, RegistrationSettings, Resolver, register};

use crate::company::{SOON, instance, service, watcher};
use crate::{Harness, Seen};

/// A backend under test whose registry asks who may do what.
#[async_trait]
pub trait Rights: Harness {
    /// From now on, resolvers may not read what is registered for this harness's services. Servers may still register.
    async fn forbid_reading(&self);

    /// Resolvers may read again.
    async fn permit_reading(&self);

    /// A resolver whose right to read is never taken away.
    fn observer(&self) -> Arc<dyn Resolver>;
}

/// A watch whose right to read is taken away says so: the set is kept, and is known to be out of date; who begins to watch
/// then does not hear that nobody is there. When the right is given back, all are up to date again.
pub async fn a_right_that_is_taken_away_is_told(harness: &dyn Rights) {
    let service = service("project/test");
    let register =
        |id: &str, port| register(harness.registry(), &service, instance(id, port), RegistrationSettings::default());
    let (_stays, leaves) = (register("stays", 1), register("leaves", 2));
    let early = watcher(harness, &service);
    early.until_ids(SOON, "with the right to read", &["leaves", "stays"]).await;
    harness.forbid_reading().await;
    let denied = |seen: &Seen| seen.stale.as_ref().is_some_and(|stale| stale.error.kind() == ErrorKind::Denied);
    let notice = harness.bounds().notice;
    let seen = early.until(notice, "without the right to read", denied).await;
    assert_eq!(seen.ids(), ["leaves", "stays"], "the last good set is kept");
    let late = watcher(harness, &service);
    let seen = late.until(notice, "the late one has no right to read", denied).await;
    assert!(seen.set.is_none(), "what may not be seen was taken for an empty set: {seen:?}");
    leaves.deregister().await.expect("to leave, nobody has to read a list");
    harness.permit_reading().await;
    let heal = harness.bounds().heal;
    for watcher in [&early, &late] {
        let right = |seen: &Seen| seen.ids() == ["stays"] && seen.stale.is_none();
        let seen = watcher.until(heal, "with the right to read again", right).await;
        assert_eq!(seen.emptied, 0, "{seen:?}");
    }
}
