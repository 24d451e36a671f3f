//! How many requests a connection may carry, and how many it carries now.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use super::queue::Queue;
use crate::transport::resets::Resets;

/// The streams of one connection, shared by its driver and its users.
#[derive(Debug, Default)]
pub(in crate::transport) struct Streams {
    /// The peer's MAX_CONCURRENT_STREAMS; 0 until its SETTINGS have arrived.
    limit: AtomicUsize,
    used: AtomicUsize,
    /// Calls that wait for a slot. A slot that becomes free goes to them first.
    pub(in crate::transport) queue: Queue,
    /// No new stream can be opened: a GOAWAY came, or the connection is gone.
    closing: AtomicBool,
    /// Whether a request was sent, and the last stream that was answered.
    begun: AtomicBool,
    answered: AtomicU32,
    /// Resets of streams that the peer may not have seen yet.
    pub(in crate::transport) early_resets: Resets,
    /// Why the connection ended, once it has.
    ended: OnceLock<String>,
}

impl Streams {
    /// Reserves a slot, if one is free and no call waits for it.
    pub(in crate::transport) fn try_reserve(&self) -> bool {
        self.queue.is_empty() && self.take()
    }

    /// Reserves a slot, even if calls wait.
    fn take(&self) -> bool {
        if self.is_closing() {
            return false;
        }
        // Not "add, then check": a slot that is taken for a moment and given back would be missing for others
        // meanwhile.
        let fits = |used| (used < self.limit()).then_some(used + 1);
        self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits).is_ok()
    }

    pub(in crate::transport) fn release(&self) {
        self.used.fetch_sub(1, Ordering::SeqCst);
        self.serve();
    }

    /// Gives free slots to the calls that wait.
    pub(in crate::transport) fn serve(&self) {
        if !self.queue.is_empty() {
            self.queue.serve(|| self.take(), || _ = self.used.fetch_sub(1, Ordering::SeqCst));
        }
    }

    pub(in crate::transport) fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    pub(in crate::transport) fn limit(&self) -> usize {
        self.limit.load(Ordering::SeqCst)
    }

    /// Notes how many streams the peer permits. Waiting calls are served if that is more than before.
    pub(in crate::transport) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::SeqCst);
        self.serve();
    }

    pub(in crate::transport) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Notes that no new stream can be opened. Calls that wait here choose another connection when the next state is
    /// published.
    pub(in crate::transport) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    /// Notes why the connection ended. Called before its streams learn of the end, so that they can report it.
    pub(in crate::transport) fn end(&self, why: String) {
        // Only the driver calls this, once.
        let _ = self.ended.set(why);
        self.close();
    }

    pub(in crate::transport) fn ended(&self) -> Option<&str> {
        self.ended.get().map(String::as_str)
    }

    /// Notes that a request is sent.
    pub(in crate::transport) fn note_sent(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Notes that this stream was answered.
    pub(in crate::transport) fn note_answer(&self, stream: u32) {
        self.answered.fetch_max(stream, Ordering::Relaxed);
    }

    /// Whether anything was sent.
    pub(in crate::transport) fn was_used(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether anything was answered.
    pub(in crate::transport) fn has_answered(&self) -> bool {
        self.has_answered_since(1)
    }

    /// Whether this stream, or one that was opened after it, was answered.
    pub(in crate::transport) fn has_answered_since(&self, stream: u32) -> bool {
        self.answered.load(Ordering::Relaxed) >= stream
    }
}
