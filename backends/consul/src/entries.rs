//! What one client does to its entries.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use callboard_core::Incarnation;
use tokio::sync::{Mutex, MutexGuard};

/// More than are changed at once.
const TURNS: usize = 64;

/// Consul cannot be told to change an entry only if it still is what it was when it was looked at. So at least within
/// one client nothing is done to an entry between a look at it and the change that follows.
///
/// Beside that: what this client has registered and not removed, and in which incarnation.
#[derive(Debug)]
pub(crate) struct Entries {
    hasher: RandomState,
    turns: Vec<Mutex<Registered>>,
}

pub(crate) type Registered = BTreeMap<String, Incarnation>;

impl Entries {
    pub(crate) fn new() -> Self {
        let turns = (0..TURNS).map(|_| Mutex::default()).collect();
        Self { hasher: RandomState::new(), turns }
    }

    /// Waits until nobody else does anything to this entry. One entry may have to wait for another.
    pub(crate) async fn turn(&self, entry: &str) -> MutexGuard<'_, Registered> {
        let place = self.hasher.hash_one(entry) as usize % self.turns.len();
        self.turns[place].lock().await
    }
}
