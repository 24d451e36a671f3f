//! What a server, its connections and its handlers share: the counters and the kill switch.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) id: String,
    pub(crate) calls: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    pub(crate) accepted: AtomicU64,
    /// Told after each change of a counter.
    pub(crate) changed: Notify,
    /// The numbers of the open connections.
    open: Mutex<BTreeSet<u64>>,
    /// Connections of lower numbers are cut; once the server is killed, all are.
    kept_from: AtomicU64,
    paused: AtomicBool,
    /// Told after each change of these two.
    switched: Arc<Notify>,
}

impl Shared {
    pub(crate) fn new(id: String) -> Self {
        Self { id, ..Self::default() }
    }

    pub(crate) fn kill(&self) {
        self.kept_from.store(u64::MAX, Ordering::SeqCst);
        self.switched.notify_waiters();
    }

    /// Cuts the connections that are open, and gives the number that the next one will have.
    pub(crate) fn cut_open(&self) -> u64 {
        let open = self.open();
        let next = self.accepted.load(Ordering::SeqCst);
        // A server that is killed stays killed.
        self.kept_from.fetch_max(next, Ordering::SeqCst);
        drop(open);
        self.switched.notify_waiters();
        next
    }

    pub(crate) fn is_cut(&self, connection: u64) -> bool {
        connection < self.kept_from.load(Ordering::SeqCst)
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::SeqCst);
        self.switched.notify_waiters();
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    /// Resolves at the next change, from now on, of what connections have to do.
    pub(crate) fn switched(&self) -> OwnedNotified {
        Arc::clone(&self.switched).notified_owned()
    }

    /// The numbers of the open connections.
    pub(crate) fn open(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection that was accepted, until the guard is dropped.
    pub(crate) fn accept(self: &Arc<Self>) -> Accepted {
        let mut open = self.open();
        let number = self.accepted.fetch_add(1, Ordering::SeqCst);
        open.insert(number);
        drop(open);
        self.changed.notify_waiters();
        Accepted { number, shared: Arc::clone(self) }
    }

    /// Counts a call that has arrived, until the guard is dropped.
    pub(crate) fn call(self: &Arc<Self>) -> InFlight {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
        InFlight(Arc::clone(self))
    }
}

/// A call in flight. Dropped with its handler, or with its stream of answers.
pub(crate) struct InFlight(Arc<Shared>);

impl InFlight {
    pub(crate) fn server(&self) -> &str {
        &self.0.id
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

/// A connection that is open.
pub(crate) struct Accepted {
    pub(crate) number: u64,
    pub(crate) shared: Arc<Shared>,
}

impl Drop for Accepted {
    fn drop(&mut self) {
        self.shared.open().remove(&self.number);
        self.shared.changed.notify_waiters();
    }
}
