//! The times by which a lease is kept alive. Each is a part of its time to live, so that a stream that falls silent
//! leaves time to ask another member.

use std::time::Duration;

/// etcd itself grants no less than 2 s, and keeping a lease alive needs some room.
const SHORTEST_TTL: Duration = Duration::from_secs(3);
const LONGEST_TTL: Duration = Duration::from_secs(600);

/// How long a stream may be silent at the longest.
const SILENCE: Duration = Duration::from_secs(3);

/// Checks a time to live; the error says what is expected.
pub(crate) fn check_ttl(ttl: Duration) -> Result<(), &'static str> {
    let good = (SHORTEST_TTL..=LONGEST_TTL).contains(&ttl) && ttl.subsec_nanos() == 0;
    if good { Ok(()) } else { Err("whole seconds from 3s to 10m, as etcd counts seconds and grants no less than 2s") }
}

/// The time between two keep-alives.
pub(super) fn interval(ttl: Duration) -> Duration {
    ttl / 3
}

/// How long the stream may be silent while an answer is awaited.
pub(super) fn silence(ttl: Duration) -> Duration {
    SILENCE.min(ttl / 3)
}

/// The longest wait before another stream is opened, however often that has failed.
pub(super) fn longest_pause(ttl: Duration) -> Duration {
    ttl / 6
}

/// How long it may take to open a stream, unless an attempt has a shorter bound.
pub(super) fn attempt(ttl: Duration) -> Duration {
    ttl / 4
}

#[cfg(test)]
mod tests {
    use callboard_core::{Backoff, BackoffState};

    use super::*;
    use crate::client::connection::ATTEMPT;

    #[test]
    fn a_stream_that_falls_silent_leaves_time_to_ask_another_member() {
        let first_pause = (0..1_000).map(|_| BackoffState::new(Backoff::REGISTRY).failed()).max().expect("some");
        let mut tried = 0;
        for ttl in (0..1_000).map(Duration::from_secs).filter(|ttl| check_ttl(*ttl).is_ok()) {
            let attempt = attempt(ttl).min(ATTEMPT);
            let asked = interval(ttl) + silence(ttl) + first_pause.min(longest_pause(ttl)) + attempt;
            assert!(asked <= ttl, "of {ttl:?}, {asked:?} have passed when another member has been asked");
            // And with all members away, each is asked a few times before the lease counts as lost.
            assert!(interval(ttl) + silence(ttl) + longest_pause(ttl) <= ttl * 5 / 6, "{ttl:?}");
            tried += 1;
        }
        assert!(tried > 500, "{tried}");
    }
}
