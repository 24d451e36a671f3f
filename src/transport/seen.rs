//! Facts about a connection, noted as bytes pass its socket.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// How many streams with too large a header block are remembered until their calls ask about them.
const MOST_EXCESSIVE: usize = 1_024;

/// Facts about a connection, noted by its socket and shared with its calls.
#[derive(Debug)]
pub(super) struct Seen {
    /// The highest stream of whose HEADERS frame anything was written. Requests of higher streams were never sent.
    written: AtomicU32,
    read: AtomicU64,
    /// The peer's limit for the header list of a request. `u32::MAX` until the peer has sent one, which no list can
    /// reach.
    header_list: AtomicU32,
    /// Whether `excessive` is not empty. Calls check this first, because it is cheap.
    any_excessive: AtomicBool,
    /// Streams with a header block larger than this side accepts, and whether the block ended the stream. Only the
    /// latest that were not asked about yet.
    excessive: Mutex<VecDeque<(u32, bool)>>,
    /// When something was read last, in milliseconds since the connection was made.
    read_at: AtomicU32,
    begun: Instant,
    /// The size of the largest header block so far, compressed.
    largest_block: AtomicU32,
    /// The last GOAWAY.
    go_away: Mutex<Option<GoAway>>,
    /// Whether the connection is to be replaced, because `h2` would soon end it.
    spent: AtomicBool,
    /// Whether the connection was ended because the peer flooded it.
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
    /// Whether anything of this stream was written to the socket.
    pub(super) fn has_left(&self, stream: u32) -> bool {
        stream <= self.last_written()
    }

    /// The last stream of which anything was written. It grows with each request.
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

    /// The age of the connection, in milliseconds. It wraps after 49 days; only differences are used.
    pub(super) fn age(&self) -> u32 {
        self.begun.elapsed().as_millis() as u32
    }

    /// When something was read last, on the clock of [`age`](Self::age).
    pub(super) fn read_at(&self) -> u32 {
        self.read_at.load(Ordering::Relaxed)
    }

    /// The largest header list that the peer accepts: SETTINGS_MAX_HEADER_LIST_SIZE.
    pub(super) fn header_list_limit(&self) -> u32 {
        self.header_list.load(Ordering::Relaxed)
    }

    pub(super) fn note_header_list_limit(&self, limit: u32) {
        self.header_list.store(limit, Ordering::Relaxed);
    }

    /// The size of the largest header block so far, compressed. It is noted before `h2` gets the block.
    pub(super) fn largest_block(&self) -> u32 {
        self.largest_block.load(Ordering::Acquire)
    }

    pub(super) fn note_largest_block(&self, size: u32) {
        self.largest_block.store(size, Ordering::Release);
    }

    /// Whether `is_it` holds for one of the header blocks that were, compressed, larger than this side accepts. It is
    /// given the stream of the block, and whether the block ended the stream.
    pub(super) fn any_excessive(&self, is_it: impl Fn(u32, bool) -> bool) -> bool {
        // Release and acquire: the block was noted before `h2` got it, and calls ask after.
        if !self.any_excessive.load(Ordering::Acquire) {
            return false;
        }
        let mut excessive = self.lock(&self.excessive);
        let found = excessive.iter().position(|(stream, last)| is_it(*stream, *last));
        // Each is asked about once, by its own call.
        found.is_some_and(|index| excessive.remove(index).is_some())
    }

    pub(super) fn note_excessive(&self, stream: u32, last: bool) {
        let mut excessive = self.lock(&self.excessive);
        // Entries of cancelled calls stay, so their number has to be bounded.
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

    /// Whether the connection was ended because the peer flooded it.
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
    /// "Additional debug data", as the peer has sent it.
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
