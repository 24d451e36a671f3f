//! Somebody who follows a service, and remembers what was seen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Instance, Resolution, Resolver, ServiceName, Stale, WatchSettings, watch};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Follows a service as a channel does, from a task of its own, for as long as it lives.
#[derive(Debug)]
pub struct Watcher {
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

/// What a [`Watcher`] has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The last set, by id. None before the first.
    pub set: Option<BTreeMap<String, Arc<Instance>>>,
    /// Whether, and why, the last set may be out of date.
    pub stale: Option<Stale>,
    /// How many records could not be read.
    pub skipped: usize,
    /// The service's config, if there is one.
    pub config: Option<Arc<[u8]>>,
    /// How often a set with instances was followed by one without.
    pub emptied: usize,
    /// How often an id that was in a set was not in the next, by id.
    pub gaps: BTreeMap<String, usize>,
}

impl Seen {
    /// The ids in the last set, in order.
    pub fn ids(&self) -> Vec<&str> {
        self.set.iter().flat_map(BTreeMap::keys).map(String::as_str).collect()
    }

    /// The instance of this id, if it is in the last set.
    pub fn instance(&self, id: &str) -> Option<&Arc<Instance>> {
        self.set.as_ref().and_then(|set| set.get(id))
    }

    fn note(&mut self, view: &Resolution) {
        let somebody = |seen: &Self| seen.set.as_ref().is_some_and(|set| !set.is_empty());
        let before = somebody(self);
        let set: Option<BTreeMap<_, _>> =
            view.instances.as_ref().map(|all| all.iter().map(|i| (i.id().to_owned(), Arc::clone(i))).collect());
        let there = |id: &String| set.as_ref().is_some_and(|set| set.contains_key(id));
        for gone in self.set.iter().flat_map(BTreeMap::keys).filter(|id| !there(id)) {
            *self.gaps.entry(gone.clone()).or_default() += 1;
        }
        self.set = set;
        self.stale.clone_from(&view.stale);
        self.skipped = view.skipped;
        self.config.clone_from(&view.config);
        self.emptied += usize::from(before && !somebody(self));
    }
}

impl Watcher {
    /// Begins to follow, with the settings that a channel has by default.
    pub fn new(resolver: Arc<dyn Resolver>, service: &ServiceName) -> Self {
        Self::with(resolver, service, WatchSettings::default())
    }

    /// Begins to follow, with these settings.
    pub fn with(resolver: Arc<dyn Resolver>, service: &ServiceName, settings: WatchSettings) -> Self {
        let mut watcher = watch(resolver, service, settings);
        let (sender, seen) = watch::channel(Seen::default());
        let task = tokio::spawn(async move {
            loop {
                let view = watcher.changed().await;
                sender.send_modify(|seen| seen.note(view));
            }
        });
        Self { seen, task }
    }

    /// What has been seen up to now.
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until what is seen is as expected.
    ///
    /// # Panics
    /// If it is not within this time; says what was expected and what is seen.
    pub async fn until(&self, within: Duration, what: &str, expected: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.clone();
        match timeout(within, seen.wait_for(|seen| expected(seen))).await {
            Ok(seen) => seen.expect("the task follows for as long as the watcher lives").clone(),
            Err(_) => panic!("not within {within:?}: {what}; seen: {:?}", self.seen()),
        }
    }

    /// Waits until exactly these ids are in the set.
    ///
    /// # Panics
    /// If they are not within this time.
    pub async fn until_ids(&self, within: Duration, what: &str, ids: &[&str]) -> Seen {
        self.until(within, &format!("{what}: {ids:?} in the set"), |seen| seen.set.is_some() && seen.ids() == ids).await
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}
