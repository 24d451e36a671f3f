//! Watching a service for ever, whatever happens to its registry.

mod fold;
mod resolution;
mod said;
mod settings;
mod subset;
mod watches;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use tokio::task::yield_now;
use tokio::time::Instant;

use self::fold::{Set, fold};
pub use self::resolution::{Resolution, Stale};
use self::said::Said;
pub use self::settings::WatchSettings;
use self::subset::{Cut, Subset};
use self::watches::{Watches, until};
use crate::{BackoffState, Error, Instance, Resolver, Result, ServiceName, Snapshot, later};

/// Watches a service: opens a watch, opens another one whenever it fails, and says which instances to use meanwhile.
///
/// Nothing is spawned and nothing happens until [`changed`](Watcher::changed) is awaited.
///
/// - **Outages.** After an error or the end of a watch, another watch is opened after the wait that
///   [`backoff`](WatchSettings::backoff) gives. A watch that yields nothing within
///   [`first_snapshot`](WatchSettings::first_snapshot) counts as failed. The waits start over after a watch has yielded
///   sets for longer than the longest of them, so a registry that fails after each first set is asked no more often than
///   one that is down. The last good set is kept without limit; [`stale`](Resolution::stale) says why and since when.
/// - **Empty sets.** An empty set that replaces a non-empty one is believed only when one watch has shown nothing else for
///   [`empty_grace`](WatchSettings::empty_grace). A set with instances ends that time. So does an error: a registry that
///   has lost its data shows no instances until all servers have registered again, so the time starts anew with the next
///   watch that shows an empty set. A first set that is empty is believed at once. Meanwhile the service's config is kept
///   too, unless there is another one beside the empty set.
/// - **Unreadable records.** A set with records of which none can be read, for instance because a newer version has written
///   them all, never replaces one with instances, however long it lasts. The known instances stay, and
///   [`skipped`](Resolution::skipped) counts the records. Where nothing was known there are no instances. A record that
///   cannot be read beside others that can be is left out, because its server may have moved to another address.
/// - **Bursts.** A change is passed on at once if there was none within [`coalesce`](WatchSettings::coalesce). Otherwise
///   changes are gathered for that time. The last one is always passed on.
/// - **Duplicates.** Of records of one id, the newest incarnation is kept, or the later of two equal ones. Several ids at
///   one address are all kept.
/// - **Too many.** Of a set that is larger than [`max_instances`](WatchSettings::max_instances) a random part is kept. It
///   stays the same from set to set as far as its instances do. [`left_out`](Resolution::left_out) counts the others.
/// - **Warnings** about records are logged at level WARN, each of them once, and about 100 records within an hour at most:
///   records that cannot be read and why, records whose claims are not believed, and ids that share an address.
///
/// ```
/// # use std::sync::Arc;
/// use callboard_core::{WatchSettings, watch};
/// use callboard_memory::Memory;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> callboard_core::Result<()> {
/// let resolver = Arc::new(Memory::default());
/// let mut watcher = watch(resolver, &"project/test".parse()?, WatchSettings::default());
/// let resolution = watcher.changed().await;
/// assert_eq!(resolution.instances.as_ref().map(|instances| instances.len()), Some(0));
/// # Ok(())
/// # }
/// ```
pub fn watch(resolver: Arc<dyn Resolver>, service: &ServiceName, settings: WatchSettings) -> Watcher {
    let WatchSettings { empty_grace, coalesce, first_snapshot, backoff, max_instances } = settings;
    Watcher {
        watches: Watches::new(resolver, service.clone(), first_snapshot, BackoffState::new(backoff)),
        service: service.clone(),
        empty_grace,
        coalesce,
        subset: Subset::of(max_instances),
        cutting: None,
        remarks: Said::of(service),
        said: None,
        config: None,
        known: Resolution::default(),
        unsettled: false,
        resolution: Resolution::default(),
        passed_on: None,
        stale_since: None,
    }
}

/// How many sets are read in a row before one is passed on and other tasks run, even if the registry sends without a pause.
const MOST_IN_A_ROW: usize = 64;

/// A service that is watched. Dropping it ends the watch, and leaves nothing behind.
pub struct Watcher {
    watches: Watches,
    service: ServiceName,
    empty_grace: Duration,
    coalesce: Duration,
    subset: Subset,
    /// The latest set, while it is cut to what is kept of it.
    cutting: Option<BoxFuture<'static, Cut>>,
    /// What has been logged about records.
    remarks: Said,
    /// The latest set that is to be believed, as it came from the registry. It becomes `known.instances` when it is about
    /// to be passed on, so that one set of a burst is folded and not all.
    said: Option<Vec<Arc<Instance>>>,
    /// The config beside the latest set, whether or not that set is believed.
    config: Option<Arc<[u8]>>,
    /// The next resolution, without `said`.
    known: Resolution,
    /// Whether something came since it was last decided what to pass on.
    unsettled: bool,
    /// What was passed on last, and when.
    resolution: Resolution,
    passed_on: Option<Instant>,
    /// Since when the registry does not answer. None while it does.
    stale_since: Option<Instant>,
}

impl Watcher {
    /// What [`changed`](Self::changed) returned last; without instances before it ever did.
    pub fn resolution(&self) -> &Resolution {
        &self.resolution
    }

    /// Waits for the next resolution that differs from the last one: other instances, another error, an outage that begins
    /// or ends, an empty set that is not believed yet. It resolves for no other reason.
    ///
    /// # Cancel safety
    /// Cancel-safe: what has come is kept in `self`, so it can be one branch of a `select!` in a loop. While it is not
    /// awaited, nothing is read from the registry.
    pub async fn changed(&mut self) -> &Resolution {
        let mut in_a_row = 0;
        loop {
            if let Some(cutting) = &mut self.cutting {
                let cut = cutting.await;
                self.cutting = None;
                self.fold(cut, Instant::now());
                if self.pass_on(Instant::now()) {
                    return &self.resolution;
                }
            }
            let due = self.due();
            let silent = tokio::select! {
                // What has come already is read before anything is concluded from silence.
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
                return &self.resolution;
            }
            if enough {
                in_a_row = 0;
                yield_now().await;
            }
        }
    }

    /// When there is something to decide, if nothing comes until then.
    fn due(&self) -> Option<Instant> {
        let pass_on = self.unsettled.then(|| self.next_resolution_from(Instant::now()));
        pass_on.into_iter().chain(self.known.empty_from).min()
    }

    /// The earliest moment for the next resolution: `now`, if there was none yet. It may have passed.
    fn next_resolution_from(&self, now: Instant) -> Instant {
        self.passed_on.map_or(now, |passed_on| later(passed_on, self.coalesce))
    }

    fn note(&mut self, said: Result<Snapshot>, now: Instant) {
        self.unsettled = true;
        match said {
            Ok(snapshot) => self.note_set(snapshot, now),
            Err(error) => self.note_error(error, now),
        }
    }

    fn note_set(&mut self, Snapshot { instances, skipped, config, remarks }: Snapshot, now: Instant) {
        let service = &self.service;
        self.remarks.on_records(&remarks, now);
        if self.known.stale.take().is_some() {
            let after = self.stale_since.take().map(|since| now - since);
            tracing::info!(%service, ?after, "the registry answers again");
        }
        let unreadable = instances.is_empty() && skipped > 0;
        if unreadable {
            let kept = self.has_instances();
            self.remarks.on_unreadable(skipped, kept, now);
        }
        self.known.skipped = skipped;
        self.config = config;
        if !instances.is_empty() || !self.has_instances() {
            self.known.empty_from = None;
            self.said = Some(instances);
        } else if unreadable {
            self.known.empty_from = None;
        } else if self.known.empty_from.is_none() {
            self.known.empty_from = Some(later(now, self.empty_grace));
            tracing::warn!(%service, grace = ?self.empty_grace, "the registry lists no instances any more: the last set is kept for now");
        }
    }

    fn note_error(&mut self, error: Error, now: Instant) {
        let (service, chain) = (&self.service, error.chain());
        let as_of = match &self.known.stale {
            Some(stale) => {
                tracing::debug!(%service, error = chain, "the registry still does not answer");
                stale.as_of
            }
            None => {
                tracing::warn!(%service, error = chain, "the registry does not answer: the last set is kept");
                self.stale_since = Some(now);
                (self.said.is_some() || self.known.instances.is_some()).then_some(now)
            }
        };
        self.known.stale = Some(Stale { as_of, error });
        self.known.empty_from = None;
    }

    fn has_instances(&self) -> bool {
        match (&self.said, &self.known.instances) {
            (Some(said), _) => !said.is_empty(),
            (None, known) => known.as_ref().is_some_and(|known| !known.is_empty()),
        }
    }

    /// Believes an empty set whose time has come, and passes on a resolution if there is a new one and it is time for it. A
    /// set that is too large has to be cut first.
    fn settle(&mut self, now: Instant) -> bool {
        if self.known.empty_from.is_some_and(|from| from <= now) {
            self.known.empty_from = None;
            self.said = Some(Vec::new());
            self.unsettled = true;
        }
        if !self.unsettled || now < self.next_resolution_from(now) {
            return false;
        }
        self.unsettled = false;
        match self.said.take() {
            Some(said) if !self.subset.fits(said.len()) => {
                self.cutting = Some(Box::pin(self.subset.clone().cut(said)));
                return false;
            }
            Some(said) => self.fold((said, 0), now),
            None => {}
        }
        self.pass_on(now)
    }

    /// Passes on what is known, if it is new.
    fn pass_on(&mut self, now: Instant) -> bool {
        self.settle_config();
        if self.known.same_as(&self.resolution) {
            return false;
        }
        self.resolution = self.known.clone();
        self.passed_on = Some(now);
        true
    }

    /// Takes over the config. An absent config is believed only together with the set beside it, because a registry that has
    /// lost its data has lost the config too.
    fn settle_config(&mut self) {
        let believed = self.config.is_some() || self.known.empty_from.is_none();
        // A config that has not changed stays the same allocation.
        if believed && self.known.config != self.config {
            tracing::debug!(service = %self.service, there = self.config.is_some(), "the service's config has changed");
            self.known.config.clone_from(&self.config);
        }
    }

    /// Takes over a set.
    fn fold(&mut self, (kept, left_out): Cut, now: Instant) {
        let (service, records) = (&self.service, kept.len());
        if left_out > 0 {
            self.remarks.on_too_many(records + left_out, self.subset.most(), now);
        }
        self.known.left_out = left_out;
        let old = self.known.instances.as_ref();
        let set: Set = fold(old, kept);
        if old.is_none_or(|old| !Arc::ptr_eq(old, &set)) {
            let (instances, duplicates) = (set.len(), records - set.len());
            tracing::debug!(%service, instances, duplicates, skipped = self.known.skipped, "the set has changed");
            self.remarks.on_addresses(&set, now);
        }
        self.known.instances = Some(set);
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("service", &self.service)
            .field("resolution", &self.resolution)
            .finish_non_exhaustive()
    }
}
