//! What tests do to a registry.

use callboard_core::{CONFIG_NAME, ServiceName};

use crate::faults::Faults;
use crate::record::Entry;
use crate::registry::Memory;

impl Memory {
    /// Changes what is wrong, until it is changed again. For tests.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        self.0.modify(|store| {
            change(&mut store.faults);
            let now = store.faults.down.clone();
            store.faults.outages.extend(now);
        });
    }

    /// Stores these bytes under a service and an id (or, for its config, [`CONFIG_NAME`]) without any check, or removes
    /// what is there. A lease on that entry is lost. For tests: garbage, expired leases, deletions by hand.
    pub fn put(&self, service: &ServiceName, id: &str, stored: Option<&[u8]>) {
        if id == CONFIG_NAME {
            return self.0.put_config(service, stored);
        }
        let key = (service.clone(), id.to_owned());
        let entry = stored.map(|stored| Entry::read(&key, stored, false));
        self.0.modify(|store| match entry {
            Some(entry) => drop(store.entries.insert(key, entry)),
            None => drop(store.entries.remove(&key)),
        });
    }

    /// Removes every entry and every config: all leases are lost. For tests.
    pub fn wipe(&self) {
        self.0.modify(|store| {
            store.entries.clear();
            store.configs.clear();
        });
    }

    /// How many watches, and leases that wait to be lost, there are at this moment. For tests.
    pub fn watches(&self) -> usize {
        self.0.subscribers()
    }
}
