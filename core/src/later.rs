//! Adding to a moment without a panic.

use std::ops::Add;
use std::time::Duration;

/// Longer than any wait, and within the range of every clock.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// The moment that is `wait` after this one, or 30 years after it if that is sooner. A setting may be any [`Duration`], and
/// `Instant + Duration::MAX` panics, so every moment that depends on a setting is made by this. It takes the standard
/// library's `Instant` and Tokio's.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let now = Instant::now();
/// assert_eq!(callboard_core::later(now, Duration::from_secs(1)), now + Duration::from_secs(1));
/// assert!(callboard_core::later(now, Duration::MAX) > now + Duration::from_secs(1 << 29));
/// ```
pub fn later<I: Add<Duration, Output = I>>(moment: I, wait: Duration) -> I {
    moment + wait.min(FAR)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any length of time, and often one of those that are at an end.
    pub(crate) fn durations() -> impl Strategy<Value = Duration> {
        prop_oneof![
            Just(Duration::ZERO),
            Just(Duration::from_nanos(1)),
            Just(Duration::MAX),
            (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos)),
            (0..100_000_u64).prop_map(Duration::from_millis),
        ]
    }

    proptest! {
        #[test]
        fn a_later_moment_is_later_by_what_was_said_or_by_long(wait in durations()) {
            let (now, tokio_now) = (std::time::Instant::now(), tokio::time::Instant::now());
            prop_assert_eq!(later(now, wait) - now, wait.min(FAR));
            prop_assert_eq!(later(tokio_now, wait) - tokio_now, wait.min(FAR));
            // And once more, as a wait that follows a wait.
            prop_assert!(later(later(now, wait), wait) >= later(now, wait));
        }
    }
}
