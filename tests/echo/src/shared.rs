//! What a server, its connections and its handlers share: the counters and the kill switch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) id: String,
    pub(crate) calls: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) accepted: AtomicU64,
    /// Told after each change of a counter.
    pub(crate) changed: Notify,
    killed: AtomicBool,
    /// Told once, after `killed` is set.
    kill: Notify,
}

impl Shared {
    pub(crate) fn new(id: String) -> Self {
        Self { id, ..Self::default() }
    }

    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        self.kill.notify_waiters();
    }

    pub(crate) fn killed(&self) -> bool {
        self.killed.load(Ordering::SeqCst)
    }

    /// Resolves once the server is killed.
    pub(crate) async fn until_killed(self: Arc<Self>) {
        let kill = self.kill.notified();
        // The future exists before the flag is read, so that a kill in between is not missed.
        if !self.killed() {
            kill.await;
        }
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
