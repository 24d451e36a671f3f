//! Figures over the last seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::cpu::{CpuMeter, CpuTimes};

/// How many readings a window is cut into.
const READINGS: u32 = 10;

/// Readings of the last seconds. There is no task: the system is read when a report is made, but at most once in every
/// tenth of the window.
#[derive(Debug)]
pub(super) struct Window {
    length: Duration,
    meter: CpuMeter,
    /// The first reading is as old as the window is long, or older if no report was made in between.
    readings: VecDeque<Reading>,
    figures: Figures,
}

#[derive(Debug)]
struct Reading {
    at: Instant,
    ended: Ended,
    cpu: CpuTimes,
}

/// All requests that have ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ended {
    pub(super) all: u64,
    pub(super) with_error: u64,
}

/// The figures of the window. All cover the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Figures {
    pub(super) rps: f64,
    pub(super) eps: f64,
    pub(super) cpu: f64,
}

impl Window {
    pub(super) fn new(length: Duration) -> Self {
        let mut window =
            Self { length, meter: CpuMeter::default(), readings: VecDeque::new(), figures: Figures::default() };
        window.read(Ended::default(), Instant::now());
        window
    }

    /// Returns the figures as of this time.
    pub(super) fn figures(&mut self, ended: Ended, now: Instant) -> Figures {
        let age = self.readings.back().map(|last| now.saturating_duration_since(last.at));
        if age.is_none_or(|age| age >= self.length / READINGS) {
            self.read(ended, now);
        }
        self.figures
    }

    fn read(&mut self, ended: Ended, now: Instant) {
        self.readings.push_back(Reading { at: now, ended, cpu: self.meter.read() });
        while self.readings.get(1).is_some_and(|second| now.saturating_duration_since(second.at) >= self.length) {
            self.readings.pop_front();
        }
        if let (Some(first), Some(last)) = (self.readings.front(), self.readings.back()) {
            self.figures = last.figures_since(first);
        }
    }
}

impl Reading {
    fn figures_since(&self, earlier: &Self) -> Figures {
        let seconds = self.at.saturating_duration_since(earlier.at).as_secs_f64();
        let per_second = |now: u64, then: u64| if seconds > 0.0 { (now - then) as f64 / seconds } else { 0.0 };
        Figures {
            rps: per_second(self.ended.all, earlier.ended.all),
            eps: per_second(self.ended.with_error, earlier.ended.with_error),
            cpu: self.cpu.utilization_since(&earlier.cpu),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_last_seconds() {
        let mut window = Window::new(Duration::from_secs(5));
        let begun = window.readings[0].at;
        let mut at = |millis, all, with_error| {
            let Figures { rps, eps, .. } =
                window.figures(Ended { all, with_error }, begun + Duration::from_millis(millis));
            (rps, eps, window.readings.len())
        };
        assert_eq!(at(499, 100, 0), (0.0, 0.0, 1), "it is read every half second");
        assert_eq!(at(500, 100, 50), (200.0, 100.0, 2));
        assert_eq!(at(999, 900, 50), (200.0, 100.0, 2));
        assert_eq!(at(5_000, 1_000, 50), (200.0, 10.0, 3));
        // The first half second is out of it.
        assert_eq!(at(5_500, 1_000, 50), (180.0, 0.0, 3));
        assert_eq!(at(10_500, 1_000, 50), (0.0, 0.0, 2));
        // After a pause they are over the pause.
        assert_eq!(at(60_500, 1_500, 50), (10.0, 0.0, 2));
    }
}
