//! Spans of time as protobuf has them.

use std::time::Duration;

/// The span as a message. One that is too long is the longest.
pub(crate) fn message(span: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: span.subsec_nanos() as i32 }
}
