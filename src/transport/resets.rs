//! Resets that a peer may count against the connection.

use std::sync::{Mutex, PoisonError};

use tokio::time::{Duration, Instant};

/// How many streams may be reset that the server may not have processed yet, within the time below, in which it may
/// hang. Servers made with `h2`, such as tonic's and hyper's, end the connection with all its calls if more than 20
/// such streams are pending.
const MOST: u32 = 8;
const WITHIN: Duration = Duration::from_secs(1);
/// A server that sends anything so many milliseconds after a request was sent has read the request.
const HEARD_AFTER: u32 = 20;
/// After so many milliseconds a request counts as read by its server, even if the server sends nothing.
const KNOWN_AFTER: u32 = 1_000;
/// How often it is checked whether a stream may be reset.
const LOOK: Duration = Duration::from_millis(50);

/// How long to wait before checking again whether this stream may be reset. None if the peer must have read the
/// request. `sent` is when the request was sent, `heard` when the peer last sent something, and `age` is now, all in
/// milliseconds since the connection was made.
pub(super) fn until_known(sent: u32, heard: u32, age: u32) -> Option<Duration> {
    let (old, heard_after) = (age.wrapping_sub(sent), heard.wrapping_sub(sent));
    // The clock wraps: data that was received before the request was sent seems to be later than now.
    let heard = heard_after >= HEARD_AFTER && heard_after <= old;
    let left = KNOWN_AFTER.saturating_sub(old);
    (!heard && left > 0).then(|| LOOK.min(Duration::from_millis(left.into())))
}

/// How long to wait before checking again whether any bytes of a stream were written. `old` is its age in milliseconds;
/// nearly always they are written at once.
pub(super) fn until_left(old: u32) -> Duration {
    Duration::from_millis(old.max(1).into()).min(LOOK)
}

/// Counts the resets of streams that the peer may not have processed yet.
#[derive(Debug, Default)]
pub(super) struct Resets(Mutex<Option<(Instant, u32)>>);

impl Resets {
    /// Whether one more reset is permitted now. If so, it is counted.
    pub(super) fn take(&self, now: Instant) -> bool {
        // A panic under this lock cannot leave a change half done. It is taken only for calls that are cancelled early.
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) =
            counted.filter(|(since, _)| now.saturating_duration_since(*since) < WITHIN).unwrap_or((now, 0));
        let may = count < MOST;
        *counted = Some((since, count + u32::from(may)));
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_as_many_again_after_a_while() {
        let (resets, now) = (Resets::default(), Instant::now());
        let taken = |now| (0..100).filter(|_| resets.take(now)).count();
        assert_eq!(taken(now), MOST as usize);
        assert_eq!(taken(now + WITHIN / 2), 0);
        assert_eq!(taken(now + WITHIN), MOST as usize);
    }

    #[test]
    fn a_stream_is_known_when_the_peer_has_spoken_after_it_or_a_second_later_also_where_the_clock_wraps() {
        for base in [0_u32, 1_000, u32::MAX - 10, u32::MAX] {
            let at = |after| base.wrapping_add(after);
            let wait = |heard, age| until_known(base, heard, at(age));
            assert_eq!(wait(base.wrapping_sub(5), 10), Some(LOOK), "heard before it was sent");
            assert_eq!(wait(at(5), 10), Some(LOOK), "heard too soon after");
            assert_eq!(wait(at(25), 30), None);
            assert_eq!(wait(base.wrapping_sub(5), 990), Some(Duration::from_millis(10)));
            assert_eq!(wait(base.wrapping_sub(5), 1_000), None);
        }
    }
}
