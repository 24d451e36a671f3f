//! Retries by policy: gRPC's A6.

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Code, RetryPolicy};

use super::pushback::Pushback;
use crate::config::{Rules, Throttle};

/// The most attempts of a call, the first one included, whatever a policy says.
pub(in crate::call) const MOST_ATTEMPTS: u32 = 5;

/// The retry policy of a call, and its progress.
#[derive(Debug)]
pub(in crate::call) struct RetryByPolicy {
    policy: RetryPolicy,
    throttle: Option<Arc<Throttle>>,
    /// How many waits there were since the first attempt, or since a server has named one.
    waits: u32,
}

impl RetryByPolicy {
    /// None if no policy applies to this method.
    pub(in crate::call) fn of(rules: &Rules, path: &str) -> Option<Self> {
        let policy = rules.retry(path)?.clone();
        Some(Self { policy, throttle: rules.throttle().cloned(), waits: 0 })
    }

    /// Whether the policy applies to failures with this code.
    pub(in crate::call) fn covers(&self, code: Code) -> bool {
        self.policy.retryable_codes.contains(&code)
    }

    /// How long to wait before the next attempt, after `made` attempts; None if there shall be none. To be called once
    /// after each failure that did not commit the call.
    pub(in crate::call) fn after(&mut self, code: Code, pushback: Pushback, made: u32) -> Option<Duration> {
        if pushback != Pushback::Stop && !self.covers(code) {
            return None;
        }
        // Each failure counts for the throttle, also one that no attempt follows.
        let open = self.throttle.as_ref().is_none_or(|throttle| throttle.failed());
        if !open || made >= self.policy.max_attempts.min(MOST_ATTEMPTS) {
            return None;
        }
        match pushback {
            Pushback::Stop => None,
            Pushback::After(wait) => {
                self.waits = 0;
                Some(wait)
            }
            Pushback::Unsaid => {
                let wait = backoff(&self.policy, self.waits, fastrand::f64());
                self.waits += 1;
                Some(wait)
            }
        }
    }
}

/// The wait after `waits` others, varied by ±20 %: `chance` is from 0 to 1.
fn backoff(policy: &RetryPolicy, waits: u32, chance: f64) -> Duration {
    let growth = policy.backoff_multiplier.powi(waits.min(1_000) as i32);
    // `powi` may overflow to infinity; `min` brings that back to the cap.
    let wait = (policy.initial_backoff.as_secs_f64() * growth).min(policy.max_backoff.as_secs_f64());
    Duration::try_from_secs_f64(wait * (0.8 + 0.4 * chance)).unwrap_or(policy.max_backoff)
}

#[cfg(test)]
mod tests {
    use callboard_core::ServiceConfig;
    use proptest::prelude::*;

    use super::*;

    fn policy(most: u32, initial: Duration, max: Duration, multiplier: f64) -> RetryPolicy {
        RetryPolicy::new(most, initial, max, multiplier, vec![Code::Unavailable])
    }

    fn retry(most: u32) -> RetryByPolicy {
        let policy = policy(most, Duration::from_millis(100), Duration::from_secs(1), 2.0);
        RetryByPolicy { policy, throttle: None, waits: 0 }
    }

    proptest! {
        /// gRPC's text, step by step: the wait is multiplied, and no longer than the longest, each time.
        #[test]
        fn waits_are_as_in_grpcs_text(
            initial in 1u64..10_000, max in 1u64..100_000, multiplier in 0.1f64..10.0, chance in 0.0f64..1.0,
        ) {
            let policy = policy(5, Duration::from_millis(initial), Duration::from_millis(max), multiplier);
            let mut model = initial as f64 / 1_000.0;
            for waits in 0..5 {
                let plain = model.min(max as f64 / 1_000.0);
                let wait = backoff(&policy, waits, chance).as_secs_f64();
                prop_assert!((wait - plain * (0.8 + 0.4 * chance)).abs() <= plain * 1e-6 + 1e-9, "{wait} {plain}");
                prop_assert!(wait >= plain * 0.8 - 1e-9 && wait <= plain * 1.2 + 1e-9);
                model *= multiplier;
            }
        }

        #[test]
        fn no_policy_makes_it_panic(
            initial in any::<u64>(), max in any::<u64>(), multiplier in any::<f64>(), waits in any::<u32>(),
        ) {
            let policy = policy(5, Duration::from_nanos(initial), Duration::from_secs(max), multiplier);
            backoff(&policy, waits, 1.0);
        }
    }

    #[test]
    fn waits_vary_over_the_whole_of_the_range() {
        let mut waits: Vec<_> =
            (0..1_000).filter_map(|_| retry(5).after(Code::Unavailable, Pushback::Unsaid, 1)).collect();
        waits.sort();
        assert_eq!(waits.len(), 1_000);
        assert!(waits[0] >= Duration::from_millis(80) && waits[0] < Duration::from_millis(84), "{:?}", waits[0]);
        assert!(
            waits[999] <= Duration::from_millis(120) && waits[999] > Duration::from_millis(116),
            "{:?}",
            waits[999]
        );
    }

    #[test]
    fn there_are_as_many_attempts_as_the_policy_says_and_never_more_than_five() {
        for (says, most) in [(2, 2), (3, 3), (5, 5), (100, 5)] {
            let mut retry = retry(says);
            let waits = (1..=10).map_while(|made| retry.after(Code::Unavailable, Pushback::Unsaid, made)).count();
            assert_eq!(waits + 1, most);
        }
        assert_eq!(retry(5).after(Code::Internal, Pushback::Unsaid, 1), None);
        assert_eq!(retry(5).after(Code::Internal, Pushback::After(Duration::ZERO), 1), None, "pushback lists no code");
    }

    #[test]
    fn a_wait_that_the_server_names_starts_the_others_anew() {
        let mut retry = retry(5);
        let mut after = |pushback, made| retry.after(Code::Unavailable, pushback, made).expect("another attempt");
        assert!(after(Pushback::Unsaid, 1) < Duration::from_millis(150));
        assert!(after(Pushback::Unsaid, 2) >= Duration::from_millis(160));
        assert_eq!(after(Pushback::After(Duration::from_millis(7)), 3), Duration::from_millis(7));
        assert!(after(Pushback::Unsaid, 4) < Duration::from_millis(150));
    }

    #[test]
    fn what_counts_for_the_throttle_is_a_listed_code_or_a_no_of_the_server() {
        let config = r#"{"methodConfig": [{"name": [{}]}], "retryThrottling": {"maxTokens": 4, "tokenRatio": 1}}"#;
        let config = ServiceConfig::parse(config.as_bytes()).expect("a config");
        let rules = Rules::new(Arc::new(config), None).expect("it has methods");
        let throttle = rules.throttle().cloned();
        let mut retry = RetryByPolicy { throttle, ..retry(5) };
        assert_eq!(retry.after(Code::NotFound, Pushback::Unsaid, 1), None);
        assert!(retry.after(Code::Unavailable, Pushback::Unsaid, 1).is_some(), "three of four are left");
        assert_eq!(retry.after(Code::NotFound, Pushback::Stop, 1), None, "two are left");
        assert_eq!(retry.after(Code::Unavailable, Pushback::Unsaid, 1), None, "one is left");
        let throttle = retry.throttle.as_ref().expect("a bucket");
        throttle.succeeded();
        throttle.succeeded();
        throttle.succeeded();
        assert!(retry.after(Code::Unavailable, Pushback::Unsaid, 1).is_some(), "three are left");
    }
}
