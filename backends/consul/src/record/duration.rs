//! How Consul reads a length of time.

use std::time::Duration;

/// A length of time as Consul reads it.
pub(crate) fn millis(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}
