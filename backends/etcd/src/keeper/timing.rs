//! The times by which a lease is kept alive, each a part of its time to live: whatever that is, a stream that falls silent
//! leaves time to tell another member.

use std::time::Duration;

/// How long a stream may be silent at the longest.
const SILENCE: Duration = Duration::from_secs(3);

/// How long after one sign of life the next one is given.
pub(super) fn beat(ttl: Duration) -> Duration {
    ttl / 3
}

/// How long nothing may be heard on the stream after something was asked.
pub(super) fn silence(ttl: Duration) -> Duration {
    SILENCE.min(ttl / 3)
}

/// How long the wait before another stream is opened may become, however often that has failed.
pub(super) fn longest_pause(ttl: Duration) -> Duration {
    ttl / 6
}

/// How long it may take to open a stream, if one attempt is not bounded by less.
pub(super) fn attempt(ttl: Duration) -> Duration {
    ttl / 4
}

#[cfg(test)]
mod tests {
    use callboard_core::{Backoff, BackoffState};

    use super::*;
    use crate::connection::ATTEMPT;
    use crate::settings;

    #[test]
    fn a_stream_that_falls_silent_leaves_time_to_tell_another_member() {
        let first_pause = (0..1_000).map(|_| BackoffState::new(Backoff::REGISTRY).failed()).max().expect("some");
        let mut tried = 0;
        for ttl in (0..1_000).map(Duration::from_secs).filter(|ttl| settings::ttl(*ttl).is_ok()) {
            let attempt = attempt(ttl).min(ATTEMPT);
            let told = beat(ttl) + silence(ttl) + first_pause.min(longest_pause(ttl)) + attempt;
            assert!(told <= ttl, "of {ttl:?}, {told:?} are gone when another member has been told");
            // And when all members are away, each is asked a few times before the lease counts as lost.
            assert!(beat(ttl) + silence(ttl) + longest_pause(ttl) <= ttl * 5 / 6, "{ttl:?}");
            tried += 1;
        }
        assert!(tried > 500, "{tried}");
    }
}
