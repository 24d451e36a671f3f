//! Counting calls for reports to a balancer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;

use super::v1::{ClientStats, ClientStatsPerToken};

/// What became of a channel's calls since the last report.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    started: AtomicU64,
    finished: AtomicU64,
    failed_to_send: AtomicU64,
    known_received: AtomicU64,
    /// Whether anybody will ever ask. Drops are counted by token, and tokens that nobody asks for would only pile up.
    asked: AtomicBool,
    dropped: Mutex<BTreeMap<Arc<str>, u64>>,
}

impl Tally {
    /// Notes whether reports are asked for.
    pub(super) fn ask(&self, asked: bool) {
        self.asked.store(asked, Ordering::Relaxed);
        if !asked {
            self.take();
        }
    }

    /// Counts a call that a drop entry has ended.
    pub(super) fn dropped(&self, token: &Arc<str>) {
        self.started.fetch_add(1, Ordering::Relaxed);
        self.finished.fetch_add(1, Ordering::Relaxed);
        if self.asked.load(Ordering::Relaxed) {
            let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
            *dropped.entry(Arc::clone(token)).or_default() += 1;
        }
    }

    /// What there is to report; from here on it counts from zero.
    pub(super) fn take(&self) -> ClientStats {
        let take = |count: &AtomicU64| i64::try_from(count.swap(0, Ordering::Relaxed)).unwrap_or(i64::MAX);
        let dropped = std::mem::take(&mut *self.dropped.lock().unwrap_or_else(PoisonError::into_inner));
        let per_token = |(token, calls): (Arc<str>, u64)| ClientStatsPerToken {
            load_balance_token: token.as_ref().to_owned(),
            num_calls: i64::try_from(calls).unwrap_or(i64::MAX),
        };
        ClientStats {
            timestamp: None,
            num_calls_finished_with_client_failed_to_send: take(&self.failed_to_send),
            num_calls_finished_known_received: take(&self.known_received),
            num_calls_finished: take(&self.finished),
            // The last one: of a call that has ended meanwhile, the start is not left for the next report.
            num_calls_started: take(&self.started),
            calls_finished_with_drop: dropped.into_iter().map(per_token).collect(),
        }
    }
}

/// What calls need that are given to one entry of a list.
#[derive(Debug)]
pub(crate) struct Mark {
    /// What the balancer wants the server to be told.
    pub(super) token: Option<HeaderValue>,
    pub(super) tally: Arc<Tally>,
}

/// One attempt of a call that a balancer's list has sent somewhere. It is counted when it is made, and again at its end.
#[derive(Debug)]
pub(crate) struct Errand {
    mark: Arc<Mark>,
    fate: Fate,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Unknown,
    Unsent,
    Received,
}

impl Errand {
    pub(crate) fn new(mark: Arc<Mark>) -> Self {
        mark.tally.started.fetch_add(1, Ordering::Relaxed);
        Self { mark, fate: Fate::Unknown }
    }

    /// What the server is to be told as `lb-token`.
    pub(crate) fn token(&self) -> Option<&HeaderValue> {
        self.mark.token.as_ref()
    }

    /// Notes that the server has answered.
    pub(crate) fn received(&mut self) {
        self.fate = Fate::Received;
    }

    /// Notes that the request never left.
    pub(crate) fn unsent(&mut self) {
        self.fate = Fate::Unsent;
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        let Tally { finished, failed_to_send, known_received, .. } = &*self.mark.tally;
        let also = match self.fate {
            Fate::Unknown => None,
            Fate::Unsent => Some(failed_to_send),
            Fate::Received => Some(known_received),
        };
        for count in std::iter::once(finished).chain(also) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_what_became_of_them_and_once() {
        let tally = Arc::<Tally>::default();
        tally.ask(true);
        let mark = Arc::new(Mark { token: None, tally: Arc::clone(&tally) });
        let running = Errand::new(Arc::clone(&mark));
        let mut answered = Errand::new(Arc::clone(&mark));
        answered.received();
        drop(answered);
        let mut unsent = Errand::new(Arc::clone(&mark));
        unsent.unsent();
        drop(unsent);
        drop(Errand::new(mark));
        tally.dropped(&"busy".into());
        let stats = tally.take();
        assert_eq!((stats.num_calls_started, stats.num_calls_finished), (5, 4));
        assert_eq!(stats.num_calls_finished_with_client_failed_to_send, 1);
        assert_eq!(stats.num_calls_finished_known_received, 1);
        let busy = ClientStatsPerToken { load_balance_token: "busy".into(), num_calls: 1 };
        assert_eq!(stats.calls_finished_with_drop, [busy]);
        assert!(tally.take().is_zero());
        drop(running);
        assert_eq!(tally.take().num_calls_finished, 1);
    }

    #[test]
    fn tokens_that_nobody_asks_for_do_not_pile_up() {
        let tally = Tally::default();
        tally.dropped(&"never".into());
        assert!(tally.take().calls_finished_with_drop.is_empty());
        tally.ask(true);
        tally.dropped(&"asked".into());
        tally.ask(false);
        assert!(tally.take().is_zero());
    }
}
