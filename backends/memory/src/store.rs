//! What is stored, and what is wrong with the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use callboard_core::{Result, ServiceName, Snapshot};
use tokio::sync::watch;

use crate::faults::Faults;
use crate::record::{Entry, Key};

#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) entries: BTreeMap<Key, Entry>,
    pub(crate) configs: BTreeMap<ServiceName, Arc<[u8]>>,
    pub(crate) faults: Faults,
}

impl Store {
    /// The set of a service, unless updates are held back. `opened` is how many outages there had been when the watch
    /// was opened.
    ///
    /// # Errors
    /// The fault that ends the watch.
    pub(crate) fn snapshot(&self, service: &ServiceName, opened: usize) -> Result<Option<Snapshot>> {
        let first = (service.clone(), String::new());
        let entries = self.entries.range(first..).take_while(|((of, _), _)| of == service);
        Ok(self.faults.let_through(opened)?.then(|| {
            let mut set: Snapshot = entries.map(|(_, entry)| &*entry.record).collect();
            set.config = self.configs.get(service).cloned();
            set
        }))
    }
}

/// The store of a [`Memory`](crate::Memory), its clones and its leases.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedStore(watch::Sender<Store>);

impl SharedStore {
    /// Changes the store, and wakes all who wait for a change.
    pub(crate) fn modify(&self, change: impl FnOnce(&mut Store)) {
        self.0.send_modify(change);
    }

    /// Changes the store, and wakes those who wait if it has changed.
    pub(crate) fn modify_if(&self, change: impl FnOnce(&mut Store) -> bool) {
        self.0.send_if_modified(change);
    }

    /// Stores a config, or removes it.
    pub(crate) fn put_config(&self, service: &ServiceName, config: Option<&[u8]>) {
        self.modify(|store| match config {
            Some(config) => drop(store.configs.insert(service.clone(), Arc::from(config))),
            None => drop(store.configs.remove(service)),
        });
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Store> {
        self.0.subscribe()
    }

    /// How many subscribers there are.
    pub(crate) fn subscribers(&self) -> usize {
        self.0.receiver_count()
    }

    /// Waits while the registry is silent; fails while it is out of reach.
    pub(crate) async fn reach(&self) -> Result<()> {
        let mut store = self.0.subscribe();
        let store = store.wait_for(|store| !store.faults.hang).await.expect("self holds the sender");
        store.faults.down.clone().map_or(Ok(()), Err)
    }
}
