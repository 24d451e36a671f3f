//! Counts the calls of an endpoint.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many calls were sent to an endpoint, and how many of them have ended.
#[derive(Debug, Default)]
pub(super) struct Calls {
    started: AtomicU64,
    ended: AtomicU64,
}

impl Calls {
    /// How many calls were ever sent.
    pub(super) fn all(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// How many calls have not ended.
    pub(super) fn in_flight(&self) -> u64 {
        // `ended` is read first: a call that starts and ends in between can only raise the result.
        let ended = self.ended.load(Ordering::Acquire);
        self.all().saturating_sub(ended)
    }

    pub(super) fn start(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.ended.fetch_add(1, Ordering::Release);
    }
}
