//! Locks of entries, within one client.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use callboard_core::Incarnation;
use tokio::sync::{Mutex, MutexGuard};

/// The number of locks: more than there are entries that are changed at the same moment.
const LOCKS: usize = 64;

/// A lock for each entry, some entries sharing one. It is held between a look at an entry and the change that follows,
/// because Consul cannot be told to change an entry only if it is still the same.
///
/// Under the locks: which entries this client has registered and not removed, and in which incarnation.
#[derive(Debug)]
pub(super) struct EntryLocks {
    hasher: RandomState,
    locks: Vec<Mutex<Registered>>,
}

pub(super) type Registered = BTreeMap<String, Incarnation>;

impl EntryLocks {
    pub(super) fn new() -> Self {
        let locks = (0..LOCKS).map(|_| Mutex::default()).collect();
        Self { hasher: RandomState::new(), locks }
    }

    /// Waits until no other task of this client changes this entry.
    pub(super) async fn lock(&self, entry: &str) -> MutexGuard<'_, Registered> {
        let place = self.hasher.hash_one(entry) as usize % self.locks.len();
        self.locks[place].lock().await
    }
}
