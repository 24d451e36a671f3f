//! The bounds of a watcher.

use std::time::Duration;

use crate::Backoff;

/// The bounds of a [`Watcher`](crate::Watcher).
///
/// ```
/// use std::time::Duration;
/// use callboard_core::WatchSettings;
///
/// let mut settings = WatchSettings::default();
/// settings.empty_grace = Duration::from_secs(5);
/// ```
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// How long an empty set that replaces a non-empty one has to last until it is believed. 30 s by default. With 0 it is
    /// believed at once.
    pub empty_grace: Duration,
    /// How long changes are gathered after one was passed on. 20 ms by default.
    pub coalesce: Duration,
    /// How long a watch may take to yield its first set. 10 s by default.
    pub first_snapshot: Duration,
    /// The waits between watches. [`Backoff::REGISTRY`] by default.
    pub backoff: Backoff,
    /// How many instances are used at most: 10,000 by default, and at least 1. Of a larger set a part is
    /// [kept](crate::Resolution::left_out).
    pub max_instances: usize,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            empty_grace: Duration::from_secs(30),
            coalesce: Duration::from_millis(20),
            first_snapshot: Duration::from_secs(10),
            backoff: Backoff::REGISTRY,
            max_instances: 10_000,
        }
    }
}
