//! How long to wait before another attempt.

use std::time::Duration;

use crate::{Error, ErrorKind, Result};

/// How waits grow from one failed attempt to the next: exponentially, capped, and jittered so that clients which failed
/// together do not come back together.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    factor: f64,
    jitter: f64,
}

impl Backoff {
    /// gRPC's numbers for connections: 1 s, times 1.6 each, ±20 %, at most 120 s.
    pub const CONNECTION: Self =
        Self { base: Duration::from_secs(1), max: Duration::from_secs(120), factor: 1.6, jitter: 0.2 };

    /// For a registry's agent on the same machine: 100 ms, times 1.5 each, at most 500 ms, ±20 %. An agent that is
    /// restarted may have lost its registrations, and only a short wait restores them within a second of its return. A
    /// process has one such agent, so this causes few requests.
    pub const AGENT: Self =
        Self { base: Duration::from_millis(100), max: Duration::from_millis(500), factor: 1.5, jitter: 0.2 };

    /// For attempts at a registry: 100 ms, doubled each time, at most 2 s, ±50 %. A registry that comes back is noticed
    /// within 3 s.
    pub const REGISTRY: Self =
        Self { base: Duration::from_millis(100), max: Duration::from_secs(2), factor: 2.0, jitter: 0.5 };

    /// For accepting connections after an error: 5 ms, doubled each time, at most 1 s, ±20 %. Go's HTTP and gRPC
    /// servers wait as long.
    pub const ACCEPT: Self =
        Self { base: Duration::from_millis(5), max: Duration::from_secs(1), factor: 2.0, jitter: 0.2 };

    /// For a call that is retried on another member of the same registry: 20 ms, times 5, at most 100 ms, without
    /// jitter. The caller waits for it, and the other members most likely work.
    pub const OTHER_MEMBER: Self =
        Self { base: Duration::from_millis(20), max: Duration::from_millis(100), factor: 5.0, jitter: 0.0 };

    /// For the one call that probes, on behalf of all waiting calls, whether a registry answers again: 100 ms, doubled
    /// each time, at most 400 ms, ±25 %. It never waits longer than 500 ms, because many calls wait for its answer.
    pub const PROBE: Self =
        Self { base: Duration::from_millis(100), max: Duration::from_millis(400), factor: 2.0, jitter: 0.25 };

    /// For a watch that resumes after a short interruption: 100 ms, times 3.2, at most 1 s, ±50 %. A few of these waits
    /// cover an election or a restarted connection. The watch gives up after them.
    pub const RESUME: Self =
        Self { base: Duration::from_millis(100), max: Duration::from_secs(1), factor: 3.2, jitter: 0.5 };

    /// Checks the numbers and makes a backoff of them. `base` is the first wait, `max` caps every later one,
    /// `factor` is the growth, and `jitter` the share by which a wait is varied up and down: 0.2 for ±20 %.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the number: `base` is 0 or above `max`, `factor` is below 1
    /// or not finite, `jitter` is not from 0 to 1.
    pub fn new(base: Duration, max: Duration, factor: f64, jitter: f64) -> Result<Self> {
        if base.is_zero() {
            return Err(Error::invalid("backoff: base is 0, which would retry without pause"));
        }
        if base > max {
            return Err(Error::invalid(format!("backoff: base {base:?} is above max {max:?}")));
        }
        if !factor.is_finite() || factor < 1.0 {
            return Err(Error::invalid(format!("backoff: factor {factor} is not a number from 1 on")));
        }
        if !(0.0..=1.0).contains(&jitter) {
            return Err(Error::invalid(format!("backoff: jitter {jitter} is not from 0 to 1")));
        }
        Ok(Self { base, max, factor, jitter })
    }

    /// The wait after so many failures in a row, before jitter. `failures` counts from 1.
    fn plain(&self, failures: u32) -> Duration {
        let grown = self.base.as_secs_f64() * self.factor.powi(failures.saturating_sub(1).min(1_000) as i32);
        seconds(grown).min(self.max)
    }

    /// The longest wait there can be, jitter included.
    pub fn longest(&self) -> Duration {
        scaled(self.max, 1.0 + self.jitter)
    }
}

/// The consecutive failures of one operation that is retried.
#[derive(Clone, Debug)]
pub struct BackoffState {
    backoff: Backoff,
    failures: u32,
    /// How many initial failures are not followed by a wait.
    immediate: u32,
}

impl BackoffState {
    /// Starts with no failures.
    pub fn new(backoff: Backoff) -> Self {
        Self { backoff, failures: 0, immediate: 0 }
    }

    /// The same, without a wait after the first failure: an immediate retry may well succeed, for instance on another
    /// connection. The waits of the backoff begin after the second failure.
    pub fn immediate_first(backoff: Backoff) -> Self {
        Self { immediate: 1, ..Self::new(backoff) }
    }

    /// Notes a failure and returns how long to wait before the next attempt.
    pub fn failed(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        match self.failures.saturating_sub(self.immediate) {
            0 => Duration::ZERO,
            waited => self.jittered(self.backoff.plain(waited)),
        }
    }

    /// Notes a failure and returns how long to wait. An error that retrying soon cannot cure gets the longest wait at
    /// once.
    pub(crate) fn after(&mut self, error: &Error) -> Duration {
        let soon = self.failed();
        match error.kind() {
            ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::Unsupported => self.jittered(self.backoff.max),
            _ => soon,
        }
    }

    /// Notes how long a success lasted that has ended. Only one that lasted longer than the longest wait resets the
    /// waits. So an operation that keeps failing right after its success is paced like one that never succeeds.
    pub(crate) fn lasted(&mut self, time: Duration) {
        if time > self.backoff.longest() {
            self.succeeded();
        }
    }

    fn jittered(&self, wait: Duration) -> Duration {
        scaled(wait, 1.0 + self.backoff.jitter * (2.0 * fastrand::f64() - 1.0))
    }

    /// Notes a success: resets the waits.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// A duration multiplied by a number that is not negative, saturating.
fn scaled(time: Duration, by: f64) -> Duration {
    seconds(time.as_secs_f64() * by)
}

/// A duration of so many seconds, saturating; `count` may be infinite.
fn seconds(count: f64) -> Duration {
    Duration::try_from_secs_f64(count).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_within_the_jitter() {
        let mut retry = BackoffState::new(Backoff::CONNECTION);
        for attempt in 0..200 {
            let plain = 1.6f64.powi(attempt).min(120.0);
            let wait = retry.failed().as_secs_f64();
            assert!((plain * 0.8 - 1e-6..=plain * 1.2 + 1e-6).contains(&wait), "attempt {attempt}: {wait} of {plain}");
        }
        assert!(Duration::from_secs_f64(144.0) >= Backoff::CONNECTION.longest());
        retry.succeeded();
        assert!(retry.failed() <= Duration::from_millis(1200));
    }

    #[test]
    fn the_first_wait_may_be_left_out() {
        let mut retry = BackoffState::immediate_first(Backoff::OTHER_MEMBER);
        let waits: Vec<_> = (0..4).map(|_| retry.failed().as_millis()).collect();
        assert_eq!(waits, [0, 20, 100, 100]);
        retry.succeeded();
        assert_eq!(retry.failed(), Duration::ZERO);
    }

    #[test]
    fn an_error_that_time_does_not_cure_waits_the_longest_at_once() {
        let mut retry = BackoffState::new(Backoff::REGISTRY);
        assert!(retry.after(&Error::new(ErrorKind::Unavailable, "down")) <= Duration::from_millis(150));
        assert!(retry.after(&Error::new(ErrorKind::Denied, "no")) >= Duration::from_millis(1000));
        assert_eq!(retry.failures(), 2);
    }

    #[test]
    fn only_a_lasting_success_starts_the_waits_over() {
        let mut retry = BackoffState::new(Backoff::REGISTRY);
        retry.failed();
        retry.lasted(Backoff::REGISTRY.longest());
        assert_eq!(retry.failures(), 1);
        retry.lasted(Backoff::REGISTRY.longest() + Duration::from_millis(1));
        assert_eq!(retry.failures(), 0);
    }

    #[test]
    fn bad_numbers_are_named() {
        let second = Duration::from_secs(1);
        for (backoff, name) in [
            (Backoff::new(Duration::ZERO, second, 2.0, 0.0), "base"),
            (Backoff::new(second * 2, second, 2.0, 0.0), "max"),
            (Backoff::new(second, second, 0.5, 0.0), "factor"),
            (Backoff::new(second, second, f64::NAN, 0.0), "factor"),
            (Backoff::new(second, second, 1.0, 1.5), "jitter"),
        ] {
            assert!(backoff.expect_err(name).to_string().contains(name));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_numbers_make_a_wait_panic(
            base in crate::later::tests::durations(),
            max in crate::later::tests::durations(),
            factor in 1.0..1e300_f64,
            jitter in 0.0..=1.0,
        ) {
            let (base, max) = (base.max(Duration::from_nanos(1)).min(max), max.max(Duration::from_nanos(1)));
            let base = base.max(Duration::from_nanos(1));
            let mut retry = BackoffState::new(Backoff::new(base, max, factor, jitter).unwrap());
            for _ in 0..50 {
                let wait = retry.failed();
                let _ = crate::later(tokio::time::Instant::now(), wait);
                retry.lasted(wait);
                // Rounded as numbers with 53 bits are.
                assert!(wait.as_secs_f64() <= retry.backoff.longest().as_secs_f64() * 1.000_001, "{wait:?}");
            }
        }
    }
}
