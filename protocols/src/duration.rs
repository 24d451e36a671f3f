//! Durations in protobuf.

use std::time::Duration;

/// Converts a duration to its message. One that is too long becomes the longest.
pub(crate) fn message(span: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: span.subsec_nanos() as i32 }
}
