//! What a server has counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Figures of one server, over all its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections that were ever accepted.
    pub accepted: usize,
    /// Connections whose script runs.
    pub connections: usize,
    /// Streams that were ever opened.
    pub requests: usize,
    /// Streams that are open.
    pub open: usize,
    /// The most streams that were ever open at once on one connection.
    pub peak: usize,
    /// Streams that clients have reset.
    pub resets: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    stats: Mutex<Stats>,
    /// Told after each change.
    pub(crate) changed: Notify,
}

impl Counters {
    pub(crate) fn read(&self) -> Stats {
        *self.lock()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.lock());
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The open streams of one connection.
#[derive(Debug)]
pub(crate) struct Streams {
    counters: Arc<Counters>,
    open: Mutex<HashMap<u32, Ends>>,
}

/// Which sides have said all.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    client: bool,
    server: bool,
}

impl Streams {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        Self { counters, open: Mutex::default() }
    }

    pub(crate) fn opened(&self, stream: u32) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.insert(stream, Ends::default()).is_none() {
            let now = open.len();
            self.counters.change(|stats| {
                stats.requests += 1;
                stats.open += 1;
                stats.peak = stats.peak.max(now);
            });
        }
    }

    pub(crate) fn client_ended(&self, stream: u32) {
        self.end(stream, |ends| ends.client = true);
    }

    pub(crate) fn server_ended(&self, stream: u32) {
        self.end(stream, |ends| ends.server = true);
    }

    pub(crate) fn client_reset(&self, stream: u32) {
        self.counters.change(|stats| stats.resets += 1);
        self.reset(stream);
    }

    pub(crate) fn reset(&self, stream: u32) {
        self.end(stream, |ends| *ends = Ends { client: true, server: true });
    }

    fn end(&self, stream: u32, change: impl FnOnce(&mut Ends)) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ends) = open.get_mut(&stream) else { return };
        change(ends);
        if ends.client && ends.server {
            open.remove(&stream);
            self.counters.change(|stats| stats.open -= 1);
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        let left = self.open.get_mut().unwrap_or_else(PoisonError::into_inner).len();
        self.counters.change(|stats| stats.open -= left);
    }
}
