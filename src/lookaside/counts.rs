//! Counts calls for reports to a balancer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use callboard_core::Outcome;

use super::v1::{ClientStats, ClientStatsPerToken};

/// The outcomes of a channel's calls since the last report.
#[derive(Debug, Default)]
pub(crate) struct CallCounts {
    /// Briefly below zero if a call was reported and then not made.
    started: AtomicI64,
    finished: AtomicU64,
    failed_to_send: AtomicU64,
    known_received: AtomicU64,
    /// Whether reports are wanted at all. Drops are counted by token, and without reports the tokens would pile up.
    asked: AtomicBool,
    dropped: Mutex<BTreeMap<Arc<str>, u64>>,
}

impl CallCounts {
    /// Notes whether the balancer wants reports.
    pub(super) fn ask(&self, asked: bool) {
        self.asked.store(asked, Ordering::Relaxed);
        if !asked {
            self.take();
        }
    }

    /// Counts a call for which a server was picked.
    pub(super) fn picked(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the end of such a call, or that it was not made after all.
    pub(super) fn ended(&self, outcome: &Outcome) {
        if !outcome.used {
            self.started.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let also = match (outcome.sent, outcome.received) {
            (false, _) => Some(&self.failed_to_send),
            (true, true) => Some(&self.known_received),
            (true, false) => None,
        };
        for count in std::iter::once(&self.finished).chain(also) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a call that was dropped by a drop entry.
    pub(super) fn dropped(&self, token: &Arc<str>) {
        self.started.fetch_add(1, Ordering::Relaxed);
        self.finished.fetch_add(1, Ordering::Relaxed);
        if self.asked.load(Ordering::Relaxed) {
            let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
            *dropped.entry(Arc::clone(token)).or_default() += 1;
        }
    }

    /// Takes the count. One below zero is left for the next report.
    fn take_started(&self) -> i64 {
        let started = self.started.swap(0, Ordering::Relaxed);
        self.started.fetch_add(started.min(0), Ordering::Relaxed);
        started.max(0)
    }

    /// Takes the figures for a report, and starts again from zero.
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
            // The count of started calls is read last, so that each finished call of the report is counted as started
            // too.
            num_calls_started: self.take_started(),
            calls_finished_with_drop: dropped.into_iter().map(per_token).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_what_became_of_them_and_once() {
        let counts = CallCounts::default();
        counts.ask(true);
        let outcome = |used, sent, received| {
            let mut outcome = Outcome::unused();
            (outcome.used, outcome.sent, outcome.received) = (used, sent, received);
            outcome
        };
        (0..5).for_each(|_| counts.picked());
        counts.ended(&outcome(true, true, true));
        counts.ended(&outcome(true, false, false));
        counts.ended(&outcome(true, true, false));
        counts.ended(&outcome(false, false, false));
        counts.dropped(&"busy".into());
        let stats = counts.take();
        assert_eq!((stats.num_calls_started, stats.num_calls_finished), (5, 4));
        assert_eq!(stats.num_calls_finished_with_client_failed_to_send, 1);
        assert_eq!(stats.num_calls_finished_known_received, 1);
        let busy = ClientStatsPerToken { load_balance_token: "busy".into(), num_calls: 1 };
        assert_eq!(stats.calls_finished_with_drop, [busy]);
        assert!(counts.take().is_zero());
        counts.ended(&outcome(true, true, true));
        assert_eq!(counts.take().num_calls_finished, 1);
    }

    #[test]
    fn a_pick_that_was_reported_and_is_not_used_is_made_up_for_by_the_next() {
        let counts = CallCounts::default();
        counts.picked();
        assert_eq!(counts.take().num_calls_started, 1);
        counts.ended(&Outcome::unused());
        assert!(counts.take().is_zero());
        (0..3).for_each(|_| counts.picked());
        assert_eq!(counts.take().num_calls_started, 2);
    }

    #[test]
    fn tokens_that_nobody_asks_for_do_not_pile_up() {
        let counts = CallCounts::default();
        counts.dropped(&"never".into());
        assert!(counts.take().calls_finished_with_drop.is_empty());
        counts.ask(true);
        counts.dropped(&"asked".into());
        counts.ask(false);
        assert!(counts.take().is_zero());
    }
}
