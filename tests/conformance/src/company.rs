//! A service with several servers and several clients, for what goes wrong around them.

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{
    Incarnation, Instance, Lease, Registration, RegistrationSettings, RegistrationState, Registry, Resolver,
    ServiceName, register,
};
use tokio::time::{Instant, timeout};

use crate::{Harness, Seen, Watcher};

/// Long enough for anything that is expected to work at once, on a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Three live servers, each with a registry of its own, and two watchers.
///
/// The one thing that holds whatever happens: no watcher ever sees an empty set.
pub(crate) struct Company<'h> {
    harness: &'h dyn Harness,
    pub(crate) service: ServiceName,
    live: Vec<Registration>,
    watchers: Vec<Watcher>,
}

/// Their ids.
pub(crate) const LIVE: [&str; 3] = ["live-1", "live-2", "live-3"];

impl<'h> Company<'h> {
    /// Everybody begins; nobody is waited for.
    pub(crate) fn begin(harness: &'h dyn Harness) -> Self {
        let service = service("project/test");
        let live = (1..).zip(LIVE).map(|(port, id)| {
            register(harness.registry(), &service, instance(id, port), RegistrationSettings::default())
        });
        let watchers = (0..2).map(|_| Watcher::new(harness.resolver(), &service));
        Self { harness, live: live.collect(), watchers: watchers.collect(), service }
    }

    /// Everybody is on the board and seen by everybody.
    pub(crate) async fn together(harness: &'h dyn Harness) -> Self {
        let company = Self::begin(harness);
        company.is_right_within(SOON, "at first").await;
        company
    }

    /// Every live instance is in every watcher's set, and nobody else; the sets are known to be up to date; and none
    /// was ever empty.
    pub(crate) async fn is_right_within(&self, within: Duration, when: &str) {
        let right = |seen: &Seen| seen.ids() == LIVE && seen.stale.is_none();
        let by = Instant::now() + within;
        loop {
            let left = by.saturating_duration_since(Instant::now());
            for (registration, id) in self.live.iter().zip(LIVE) {
                let mut state = registration.watch_state();
                let on_board = |state: &RegistrationState| matches!(state, RegistrationState::Registered { .. });
                let waited = timeout(left, state.wait_for(on_board)).await.map(|state| state.map(drop));
                assert!(matches!(waited, Ok(Ok(()))), "{when}: {id} is not on the board: {:?}", registration.state());
            }
            for watcher in &self.watchers {
                watcher.until(left, when, right).await;
            }
            // What was right for one of them may have ceased to be while another was waited for: a loss that its
            // owner knows of already may be news to a watcher.
            if self.watchers.iter().all(|watcher| right(&watcher.seen())) {
                break;
            }
        }
        for watcher in &self.watchers {
            assert_eq!(watcher.seen().emptied, 0, "{when}: a watcher saw an empty set while servers were live");
        }
    }

    /// Waits until every watcher has noticed that it cannot hear the registry, with its set kept.
    pub(crate) async fn watchers_are_cut_off(&self) {
        let notice = self.harness.bounds().notice;
        for watcher in &self.watchers {
            let seen = watcher.until(notice, "the watch has failed", |seen| seen.stale.is_some()).await;
            assert!(LIVE.iter().all(|id| seen.instance(id).is_some()), "the last good set is kept: {seen:?}");
        }
    }

    /// Waits until every watcher and every server has failed to reach the registry at least once.
    pub(crate) async fn nobody_hears_anything(&self) {
        let notice = self.harness.bounds().notice;
        for watcher in &self.watchers {
            watcher.until(notice, "the first watch has failed", |seen| seen.stale.is_some()).await;
        }
        for (registration, id) in self.live.iter().zip(LIVE) {
            let failed =
                |state: &RegistrationState| matches!(state, RegistrationState::Registering { failures: 1.., .. });
            let mut state = registration.watch_state();
            let noticed = timeout(notice, state.wait_for(failed)).await;
            assert!(noticed.is_ok(), "{id} has not noticed within {notice:?}: {:?}", registration.state());
        }
    }

    /// Does something to the entry of the first server, and waits until that server has taken its place anew and
    /// everything is right.
    pub(crate) async fn comes_back_after(&self, when: &str, fault: impl Future<Output = ()>) {
        let heal = self.harness.bounds().heal;
        let mut state = self.live[0].watch_state();
        state.mark_unchanged();
        fault.await;
        // The loss itself may be too short to be seen; that the state has changed at all tells of it.
        let noticed = timeout(heal, state.changed()).await;
        assert!(noticed.is_ok(), "{when}: not noticed within {heal:?}: {:?}", self.live[0].state());
        self.is_right_within(heal, when).await;
    }

    /// Waits until every live server knows that it may have lost its place, if it may have.
    pub(crate) async fn servers_are_cut_off(&self) {
        if !self.harness.claims_expire() {
            return;
        }
        let notice = self.harness.bounds().notice;
        for (registration, id) in self.live.iter().zip(LIVE) {
            let lost = |state: &RegistrationState| matches!(state, RegistrationState::Lost { .. });
            let mut state = registration.watch_state();
            let noticed = timeout(notice, state.wait_for(lost)).await;
            assert!(noticed.is_ok(), "{id} has not noticed within {notice:?}: {:?}", registration.state());
        }
    }

    /// One more server that signs in and is seen; it is registered once and not supervised, so that it can die.
    pub(crate) async fn mortal(&self) -> Mortal {
        let registry = self.harness.registry();
        let instance = instance("mortal", 9);
        let lease = registry.register(&self.service, &instance).await.expect("a registry that is well registers");
        for watcher in &self.watchers {
            watcher.until(SOON, "the mortal is seen", |seen| seen.instance("mortal").is_some()).await;
        }
        Mortal { lease, _registry: registry }
    }

    /// The first of the live servers.
    pub(crate) fn first(&self) -> Instance {
        instance(LIVE[0], 1)
    }
}

/// An instance that ends without a word when this is dropped, as one does whose process dies.
pub(crate) struct Mortal {
    lease: Box<dyn Lease>,
    _registry: Arc<dyn Registry>,
}

impl Mortal {
    pub(crate) fn dies(self) {
        drop(self.lease);
    }
}

/// A service of this name.
///
/// # Panics
/// It is not a name.
pub fn service(name: &str) -> ServiceName {
    name.parse().expect("a service's name")
}

/// An instance of this process's incarnation, at this port of 127.0.0.1.
///
/// # Panics
/// It is not an id, or the port is 0.
pub fn instance(id: &str, port: u16) -> Instance {
    Instance::new(id, format!("127.0.0.1:{port}").parse().expect("an address")).expect("an id")
}

/// An instance of an incarnation of its own: the number stands for when its process started.
pub(crate) fn started(id: &str, port: u16, incarnation: u64) -> Instance {
    instance(id, port).with_incarnation(Incarnation::from_micros(incarnation))
}

/// A watcher of this service.
pub(crate) fn watcher(harness: &dyn Harness, service: &ServiceName) -> Watcher {
    let resolver: Arc<dyn Resolver> = harness.resolver();
    Watcher::new(resolver, service)
}
