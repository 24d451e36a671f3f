//! When a process started.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// How far ahead of this machine's clock an incarnation may be, in microseconds.
const DAY: u64 = 24 * 3600 * 1_000_000;

/// When a process started, in microseconds since 1970. It tells a restart from a record of an earlier process.
///
/// Two records of one instance id are ordered by it, and the newer one is believed. It comes from the system clock:
/// on a host whose clock is set back between two starts by more than the time between them, the older record wins
/// until its lease ends. One that is more than a day ahead of the reader's clock is [not believed](Self::believed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(u64);

impl Incarnation {
    /// The incarnation of this process. It is made at the first use, and stays the same.
    pub fn of_this_process() -> Self {
        static THIS: OnceLock<Incarnation> = OnceLock::new();
        *THIS.get_or_init(Self::fresh)
    }

    /// A new incarnation, later than each one that this process has made before. For a server that is restarted
    /// within one process, and for tests.
    pub fn fresh() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let now = now();
        let later = |last: u64| Some(now.max(last + 1));
        // `fetch_update` returns the former value, and `later` never declines.
        let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later).unwrap_or(0);
        Self(now.max(last + 1))
    }

    /// The incarnation in a record. 0 stands for "not known" and is older than any other.
    pub fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Itself, if it is at most a day ahead of this machine's clock; otherwise 0, "not known".
    ///
    /// Without this, a record from the far future would hold an id for ever. Every incarnation that is read from a registry
    /// goes through it: in [`decode`](crate::decode), and in a backend that reads records in another form.
    ///
    /// ```
    /// use callboard_core::Incarnation;
    ///
    /// assert_eq!(Incarnation::from_micros(7).believed().as_micros(), 7);
    /// assert_eq!(Incarnation::from_micros(u64::MAX).believed().as_micros(), 0);
    /// ```
    #[must_use]
    pub fn believed(self) -> Self {
        if self.0 <= now().saturating_add(DAY) { self } else { Self(0) }
    }

    /// Microseconds since 1970.
    pub fn as_micros(self) -> u64 {
        self.0
    }

    /// The next older one; at least 1, which is the oldest that is known.
    pub(crate) fn older(self) -> Self {
        Self(self.0.saturating_sub(1).max(1))
    }
}

/// Microseconds since 1970, by this machine's clock.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incarnations_only_grow() {
        let made: Vec<_> = (0..1000).map(|_| Incarnation::fresh()).collect();
        assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(Incarnation::of_this_process(), Incarnation::of_this_process());
    }

    #[test]
    fn what_is_ahead_by_an_hour_is_believed_and_by_two_days_is_not() {
        let ahead = |micros: u64| Incarnation::from_micros(Incarnation::fresh().as_micros() + micros);
        let hour = ahead(DAY / 24);
        assert_eq!(hour.believed(), hour);
        assert_eq!(ahead(2 * DAY).believed(), Incarnation::from_micros(0));
        assert_eq!(Incarnation::from_micros(0).believed(), Incarnation::from_micros(0));
    }

    #[test]
    fn who_gives_way_never_becomes_one_that_is_not_known() {
        for micros in [0, 1, 2] {
            assert_eq!(Incarnation::from_micros(micros).older().as_micros(), 1);
        }
    }
}
