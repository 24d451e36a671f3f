//! How large the receive window of a stream is, estimated from what the path carries.
//!
//! The window is what a sender may send before the reader has acknowledged anything. With 2 MiB and a round trip of 100
//! ms, no stream gets more than 20 MiB a second. So the window follows the product of bandwidth and delay. It is
//! measured as grpc-go does: by the bytes that arrive between a PING and its acknowledgement.

use std::time::Duration;

use tokio::time::Instant;

/// The largest window: grpc-go's number.
const LIMIT: u32 = 16 << 20;
/// If a sample reaches this share of the window, the window may be the limit.
const NEARLY_FULL: f64 = 0.66;
/// The window grows to this many times the sample when it was the limit.
const GROWTH: u64 = 2;
/// The first round trips, up to this number, have the same weight in the average. After them the latest weighs most.
const FIRST_ROUND_TRIPS: u32 = 10;
const WEIGHT_OF_LATEST: f64 = 0.9;
/// No PING is sent for less than the window divided by this, so that calls with small responses cost no PINGs.
const WORTH_ASKING: u64 = 4;
/// The pause after a sample that changed nothing.
const PAUSE: Duration = Duration::from_secs(1);

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    /// Send a PING, and call [`asked`](Bandwidth::asked) once it is sent.
    Ask,
    /// Give each stream this window.
    Widen(u32),
}

/// The estimate for one connection.
#[derive(Debug)]
pub(super) struct Bandwidth {
    window: u32,
    /// When the outstanding PING was sent, and how many bytes had been read by then.
    asked: Option<(Instant, u64)>,
    /// The average round trip, in seconds.
    round_trip: f64,
    round_trips: u32,
    /// The highest rate so far, in bytes per second.
    fastest: f64,
    /// How many bytes had been read when the last sample ended.
    counted_from: u64,
    not_before: Option<Instant>,
}

impl Bandwidth {
    /// Begins with this window.
    pub(super) fn new(window: u32) -> Self {
        Self { window, asked: None, round_trip: 0.0, round_trips: 0, fastest: 0.0, counted_from: 0, not_before: None }
    }

    /// Notes a PING that was sent.
    pub(super) fn asked(&mut self, now: Instant, read: u64) {
        self.asked = Some((now, read));
    }

    /// Decides what to do next. `read` is the total of bytes read, `answered` whether the PING was acknowledged.
    pub(super) fn look(&mut self, now: impl Fn() -> Instant, read: u64, answered: bool) -> Next {
        if self.window >= LIMIT {
            return Next::Nothing;
        }
        match self.asked {
            None if read.saturating_sub(self.counted_from) < u64::from(self.window) / WORTH_ASKING => Next::Nothing,
            None if self.not_before.is_some_and(|at| at > now()) => {
                // Bytes that arrive during the pause belong to no sample.
                self.counted_from = read;
                Next::Nothing
            }
            None => Next::Ask,
            Some((since, before)) if answered => {
                self.asked = None;
                self.counted_from = read;
                let now = now();
                let next = self.take_sample(read.saturating_sub(before), now.saturating_duration_since(since));
                self.not_before = if next == Next::Nothing { now.checked_add(PAUSE) } else { None };
                next
            }
            Some(_) => Next::Nothing,
        }
    }

    fn take_sample(&mut self, bytes: u64, round_trip: Duration) -> Next {
        self.round_trips = self.round_trips.saturating_add(1);
        let weight =
            if self.round_trips <= FIRST_ROUND_TRIPS { 1.0 / f64::from(self.round_trips) } else { WEIGHT_OF_LATEST };
        self.round_trip += (round_trip.as_secs_f64() - self.round_trip) * weight;
        let speed = bytes as f64 / self.round_trip.max(f64::MIN_POSITIVE);
        let is_fastest = speed >= self.fastest;
        self.fastest = self.fastest.max(speed);
        let wanted = u32::try_from(bytes.saturating_mul(GROWTH)).unwrap_or(LIMIT).min(LIMIT);
        if bytes as f64 >= NEARLY_FULL * f64::from(self.window) && is_fastest && wanted > self.window {
            self.window = wanted;
            return Next::Widen(wanted);
        }
        Next::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// The window that results on a path of this bandwidth and round trip.
    fn settled(per_second: u64, round_trip: Duration) -> u32 {
        let (mut bandwidth, mut now, mut read) = (Bandwidth::new(2 << 20), Instant::now(), 0);
        for _ in 0..2_000 {
            let answered = bandwidth.asked.is_some();
            match bandwidth.look(|| now, read, answered) {
                Next::Ask => bandwidth.asked(now, read),
                Next::Widen(_) | Next::Nothing => {}
            }
            let carried = (per_second as f64 * round_trip.as_secs_f64()) as u64;
            now += round_trip;
            read += carried.min(bandwidth.window.into());
        }
        bandwidth.window
    }

    #[test]
    fn the_window_follows_what_the_path_carries_up_to_a_limit() {
        let ms = Duration::from_millis;
        assert_eq!(settled(1_000 * MIB, ms(100)), LIMIT);
        // 2 MiB are enough where less is ever in flight.
        assert_eq!(settled(100 * MIB, ms(1)), 2 << 20);
        assert_eq!(settled(MIB, ms(100)), 2 << 20);
        let between = settled(50 * MIB, ms(100));
        assert!((5 << 20..=10 << 20).contains(&between), "{between}");
    }

    #[test]
    fn small_answers_and_silence_are_no_reason_to_ask() {
        let (mut bandwidth, now) = (Bandwidth::new(2 << 20), Instant::now());
        assert_eq!(bandwidth.look(|| now, 0, false), Next::Nothing);
        assert_eq!(bandwidth.look(|| now, MIB / 2 - 1, false), Next::Nothing);
        assert_eq!(bandwidth.look(|| now, MIB / 2, false), Next::Ask);
        bandwidth.asked(now, MIB / 2);
        assert_eq!(bandwidth.look(|| now, 9 * MIB, false), Next::Nothing);
    }
}
