//! Following a service for ever, whatever happens to its registry.

mod fold;
mod view;
mod watches;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::Instant;

use self::fold::{Set, fold};
pub use self::view::{Stale, View};
use self::watches::{Watches, later, until};
use crate::{Backoff, Error, Instance, Resolver, Result, Retry, Service, Snapshot};

/// The bounds of a [`Follow`].
///
/// ```
/// use std::time::Duration;
/// use callboard_core::FollowSettings;
///
/// let mut settings = FollowSettings::default();
/// settings.empty_grace = Duration::from_secs(5);
/// ```
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct FollowSettings {
    /// How long an empty set that replaces a non-empty one has to last to be believed. 30 s by default; 0 believes it
    /// at once.
    pub empty_grace: Duration,
    /// How long changes are gathered after one was passed on. 20 ms by default.
    pub coalesce: Duration,
    /// How long a watch may take to yield its first set. 10 s by default.
    pub first_snapshot: Duration,
    /// The waits between watches. [`Backoff::REGISTRY`] by default.
    pub backoff: Backoff,
}

impl Default for FollowSettings {
    fn default() -> Self {
        Self {
            empty_grace: Duration::from_secs(30),
            coalesce: Duration::from_millis(20),
            first_snapshot: Duration::from_secs(10),
            backoff: Backoff::REGISTRY,
        }
    }
}

/// Follows a service: opens a watch, and another one for ever when that fails, and tells what to believe meanwhile.
///
/// Nothing is spawned and nothing happens until [`changed`](Follow::changed) is awaited.
///
/// - **Outages.** After an error or the end of a watch, the watch is dropped, and another is opened after the wait
///   that [`backoff`](FollowSettings::backoff) gives. A watch that yields nothing within
///   [`first_snapshot`](FollowSettings::first_snapshot) counts as failed. The waits start over after a watch has
///   gone on, from its first set, for longer than the longest of them: a registry that yields one set and then fails
///   each time is asked no more often than one that is down. The last good set is kept without limit, and
///   [`stale`](View::stale) says why and since when.
/// - **Empty sets.** One that replaces a non-empty set is believed only when the registry has gone on saying so, in
///   one watch, for [`empty_grace`](FollowSettings::empty_grace). A set with instances ends the matter. So does an
///   error: a registry that loses its data and comes back knows nobody until everybody has signed in again, so the
///   grace starts anew with the next watch that says "empty". A first set that is empty is believed at once. Meanwhile
///   the service's config is kept too, unless there is another one beside the empty set.
/// - **Bursts.** A change is passed on at once if none was for [`coalesce`](FollowSettings::coalesce); otherwise
///   changes are gathered until then. The last one is always passed on.
/// - **Duplicates.** Of several records of one id, the newest incarnation is kept; of several ids at one address, the
///   newest too. On equal incarnations the later record is.
///
/// ```
/// # use std::sync::Arc;
/// use callboard_core::{FollowSettings, follow};
/// use callboard_memory::Memory;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> callboard_core::Result<()> {
/// let resolver = Arc::new(Memory::default());
/// let mut follow = follow(resolver, &"project/test".parse()?, FollowSettings::default());
/// let view = follow.changed().await;
/// assert_eq!(view.instances.as_ref().map(|instances| instances.len()), Some(0));
/// # Ok(())
/// # }
/// ```
pub fn follow(resolver: Arc<dyn Resolver>, service: &Service, settings: FollowSettings) -> Follow {
    let FollowSettings { empty_grace, coalesce, first_snapshot, backoff } = settings;
    Follow {
        watches: Watches::new(resolver, service.clone(), first_snapshot, Retry::new(backoff)),
        service: service.clone(),
        empty_grace,
        coalesce,
        said: None,
        config: None,
        known: View::default(),
        unsettled: false,
        view: View::default(),
        passed_on: None,
    }
}

/// How much is heard in a row before a look at what to pass on and a turn for other tasks, so that a registry that never
/// pauses holds up neither.
const MOST_IN_A_ROW: usize = 64;

/// A service that is followed. Dropping it ends the watch, and leaves nothing behind.
pub struct Follow {
    watches: Watches,
    service: Service,
    empty_grace: Duration,
    coalesce: Duration,
    /// The latest set that is to be believed, as the registry said it. It becomes `known.instances` when it is about
    /// to be passed on, so that of a burst one set is folded and not all.
    said: Option<Vec<Arc<Instance>>>,
    /// The config beside the latest set, whether or not that set is believed.
    config: Option<Arc<[u8]>>,
    /// What the next view will be, but for `said`.
    known: View,
    /// Whether something was heard since the last look at what to pass on.
    unsettled: bool,
    /// What was passed on last, and when.
    view: View,
    passed_on: Option<Instant>,
}

impl Follow {
    /// What [`changed`](Self::changed) returned last; without instances before it ever did.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Waits for the next view that differs from the last one: other instances, another error, an outage that begins
    /// or ends, an empty set that is seen but not yet believed. It never ends otherwise.
    ///
    /// # Cancel safety
    /// Cancel-safe: what was heard is kept in `self`, so it can be one branch of a `select!` in a loop. While it is
    /// not awaited, nothing is heard.
    pub async fn changed(&mut self) -> &View {
        let mut in_a_row = 0;
        loop {
            let due = self.due();
            let silent = tokio::select! {
                // What the registry has said already comes before any conclusion from its silence.
                biased;
                said = self.watches.next() => {
                    self.note(said, Instant::now());
                    false
                }
                () = until(due.unwrap_or_else(Instant::now)), if due.is_some() => true,
            };
            in_a_row = if silent { 0 } else { in_a_row + 1 };
            let enough = in_a_row == MOST_IN_A_ROW;
            if (silent || enough) && self.settle(Instant::now()) {
                return &self.view;
            }
            if enough {
                in_a_row = 0;
                yield_now().await;
            }
        }
    }

    /// When there is something to decide, if nothing is heard until then.
    fn due(&self) -> Option<Instant> {
        let pass_on = self.unsettled.then(|| self.next_view_from(Instant::now()));
        pass_on.into_iter().chain(self.known.empty_from).min()
    }

    /// The earliest moment for the next view: `now`, if there was none yet. It may have passed.
    fn next_view_from(&self, now: Instant) -> Instant {
        self.passed_on.map_or(now, |passed_on| later(passed_on, self.coalesce))
    }

    fn note(&mut self, said: Result<Snapshot>, now: Instant) {
        self.unsettled = true;
        match said {
            Ok(snapshot) => self.note_set(snapshot, now),
            Err(error) => self.note_error(error, now),
        }
    }

    fn note_set(&mut self, Snapshot { instances, skipped, config }: Snapshot, now: Instant) {
        let service = &self.service;
        if self.known.stale.take().is_some() {
            tracing::debug!(%service, "the registry is heard again");
        }
        self.known.skipped = skipped;
        self.config = config;
        if !instances.is_empty() || !self.somebody_is_there() {
            self.known.empty_from = None;
            self.said = Some(instances);
        } else if self.known.empty_from.is_none() {
            self.known.empty_from = Some(later(now, self.empty_grace));
            tracing::warn!(%service, grace = ?self.empty_grace, "the registry says that nobody is there, which is not believed yet");
        }
    }

    fn note_error(&mut self, error: Error, now: Instant) {
        let (service, chain) = (&self.service, error.chain());
        let as_of = match &self.known.stale {
            Some(stale) => {
                tracing::debug!(%service, error = chain, "the registry still cannot be heard");
                stale.as_of
            }
            None => {
                tracing::warn!(%service, error = chain, "the registry cannot be heard, the last set is kept");
                (self.said.is_some() || self.known.instances.is_some()).then_some(now)
            }
        };
        self.known.stale = Some(Stale { as_of, error });
        self.known.empty_from = None;
    }

    fn somebody_is_there(&self) -> bool {
        match (&self.said, &self.known.instances) {
            (Some(said), _) => !said.is_empty(),
            (None, known) => known.as_ref().is_some_and(|known| !known.is_empty()),
        }
    }

    /// Believes an empty set whose time has come, and passes on a view if there is a new one and it is time for it.
    fn settle(&mut self, now: Instant) -> bool {
        if self.known.empty_from.is_some_and(|from| from <= now) {
            self.known.empty_from = None;
            self.said = Some(Vec::new());
            self.unsettled = true;
        }
        if !self.unsettled || now < self.next_view_from(now) {
            return false;
        }
        self.unsettled = false;
        if let Some(said) = self.said.take() {
            self.fold(said);
        }
        self.settle_config();
        if self.known.same_as(&self.view) {
            return false;
        }
        self.view = self.known.clone();
        self.passed_on = Some(now);
        true
    }

    /// Takes over the config. That there is none is believed only together with the set beside it: a registry that has
    /// lost its data has lost the config too.
    fn settle_config(&mut self) {
        let believed = self.config.is_some() || self.known.empty_from.is_none();
        // What has not changed stays the same allocation.
        if believed && self.known.config != self.config {
            tracing::debug!(service = %self.service, there = self.config.is_some(), "the service's config has changed");
            self.known.config.clone_from(&self.config);
        }
    }

    fn fold(&mut self, said: Vec<Arc<Instance>>) {
        let records = said.len();
        let old = self.known.instances.as_ref();
        let set: Set = fold(old, said);
        if old.is_none_or(|old| !Arc::ptr_eq(old, &set)) {
            let (instances, duplicates) = (set.len(), records - set.len());
            tracing::debug!(service = %self.service, instances, duplicates, skipped = self.known.skipped, "the set has changed");
        }
        self.known.instances = Some(set);
    }
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow").field("service", &self.service).field("view", &self.view).finish_non_exhaustive()
    }
}
