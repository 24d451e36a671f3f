//! What a connection's socket has seen, for those who ask.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// How many streams are remembered that had too large a block of headers, and that nobody has asked about.
const MOST_EXCESSIVE: usize = 1_024;

/// What a connection's socket has seen, shared with those who ask.
#[derive(Debug)]
pub(super) struct Seen {
    /// The highest stream whose HEADERS frame was begun to be written. A request of a higher stream has never left.
    written: AtomicU32,
    read: AtomicU64,
    /// What the peer says that a request's header list may be at most. As long as it says nothing, the highest number:
    /// that much fits into no list.
    header_list: AtomicU32,
    /// Whether `excessive` has anything: calls look at this, which costs them nothing.
    any_excessive: AtomicBool,
    /// Streams of which a block of headers was larger than this side takes, and whether that was the stream's last: those
    /// that nobody has asked about yet, and of these the latest.
    excessive: Mutex<VecDeque<(u32, bool)>>,
    /// When something was read last, in milliseconds of the connection's life.
    read_at: AtomicU32,
    begun: Instant,
    /// The largest block of headers that has come, still compressed.
    largest_block: AtomicU32,
    /// The last GOAWAY.
    go_away: Mutex<Option<GoAway>>,
    /// The connection is to be replaced: `h2` would soon end it.
    spent: AtomicBool,
    /// The peer floods this side, so it was ended.
    flooded: AtomicBool,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            written: AtomicU32::new(0),
            read: AtomicU64::new(0),
            header_list: AtomicU32::new(u32::MAX),
            any_excessive: AtomicBool::new(false),
            excessive: Mutex::default(),
            read_at: AtomicU32::new(0),
            begun: Instant::now(),
            largest_block: AtomicU32::new(0),
            go_away: Mutex::default(),
            spent: AtomicBool::new(false),
            flooded: AtomicBool::new(false),
        }
    }
}

impl Seen {
    /// Whether anything of this stream has left this process.
    pub(super) fn has_left(&self, stream: u32) -> bool {
        stream <= self.last_written()
    }

    /// The last stream of which anything has left this process: it grows with each request.
    pub(super) fn last_written(&self) -> u32 {
        self.written.load(Ordering::Acquire)
    }

    pub(super) fn note_written(&self, stream: u32) {
        self.written.fetch_max(stream, Ordering::Release);
    }

    /// Bytes read so far.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    pub(super) fn note_read(&self, bytes: usize) {
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        self.read_at.store(self.age(), Ordering::Relaxed);
    }

    /// How long the connection has lasted, in milliseconds. It wraps after 49 days; only differences count.
    pub(super) fn age(&self) -> u32 {
        self.begun.elapsed().as_millis() as u32
    }

    /// When something was read last, as [`age`](Self::age) has it.
    pub(super) fn read_at(&self) -> u32 {
        self.read_at.load(Ordering::Relaxed)
    }

    /// The largest header list that the peer takes: SETTINGS_MAX_HEADER_LIST_SIZE.
    pub(super) fn header_list_limit(&self) -> u32 {
        self.header_list.load(Ordering::Relaxed)
    }

    pub(super) fn note_header_list_limit(&self, limit: u32) {
        self.header_list.store(limit, Ordering::Relaxed);
    }

    /// The size of the largest block of headers that has come, still compressed. It was noted before `h2` was given it.
    pub(super) fn largest_block(&self) -> u32 {
        self.largest_block.load(Ordering::Acquire)
    }

    pub(super) fn note_largest_block(&self, size: u32) {
        self.largest_block.store(size, Ordering::Release);
    }

    /// Whether a block of headers was, still compressed, larger than this side takes. `is_it` is asked about each such
    /// block: its stream, and whether it was that stream's last.
    pub(super) fn any_excessive(&self, is_it: impl Fn(u32, bool) -> bool) -> bool {
        // Release and acquire: the block was noted before `h2` was given it, and this is asked after.
        if !self.any_excessive.load(Ordering::Acquire) {
            return false;
        }
        let mut excessive = self.lock(&self.excessive);
        let found = excessive.iter().position(|(stream, last)| is_it(*stream, *last));
        // Each is asked about once, by the call that it is of.
        found.is_some_and(|index| excessive.remove(index).is_some())
    }

    pub(super) fn note_excessive(&self, stream: u32, last: bool) {
        let mut excessive = self.lock(&self.excessive);
        // Those of calls that were given up stay; there may be any number of them.
        if excessive.len() == MOST_EXCESSIVE {
            excessive.pop_front();
        }
        excessive.push_back((stream, last));
        self.any_excessive.store(true, Ordering::Release);
    }

    /// The last GOAWAY that has come.
    pub(super) fn go_away(&self) -> Option<GoAway> {
        self.lock(&self.go_away).clone()
    }

    pub(super) fn note_go_away(&self, go_away: GoAway) {
        *self.lock(&self.go_away) = Some(go_away);
    }

    /// Whether the connection is to be replaced before `h2` ends it.
    pub(super) fn is_spent(&self) -> bool {
        self.spent.load(Ordering::Relaxed)
    }

    pub(super) fn note_spent(&self) {
        self.spent.store(true, Ordering::Relaxed);
    }

    /// Whether the connection was ended because the peer floods this side.
    pub(super) fn is_flooded(&self) -> bool {
        self.flooded.load(Ordering::Relaxed)
    }

    pub(super) fn note_flooded(&self) {
        self.flooded.store(true, Ordering::Relaxed);
    }

    /// Nothing panics under these locks, and each write is whole.
    fn lock<'a, T>(&self, mutex: &'a Mutex<T>) -> std::sync::MutexGuard<'a, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A GOAWAY frame: its error code and the beginning of its debug data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GoAway {
    pub(super) code: u32,
    /// "Additional debug data", for people, as the peer has written it.
    pub(super) debug: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_with_too_large_a_block_are_asked_about_once_and_only_the_latest_are_remembered() {
        let seen = Seen::default();
        let excessive = |stream| seen.any_excessive(|of, _| of == stream);
        for stream in 0..2 * MOST_EXCESSIVE as u32 {
            seen.note_excessive(stream, true);
        }
        assert!(!excessive(7), "forgotten");
        assert!(excessive(MOST_EXCESSIVE as u32));
        assert!(!excessive(MOST_EXCESSIVE as u32), "it was asked about before");
        assert!(excessive(2 * MOST_EXCESSIVE as u32 - 1));
    }
}
