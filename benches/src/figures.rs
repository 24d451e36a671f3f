//! The figures of a variant.

use serde::{Deserialize, Serialize};

/// What one client measured in one window.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Sample {
    pub(crate) cpu_us_per_call: f64,
    pub(crate) calls_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) allocations_per_call: f64,
    /// Calls that failed, and the first one's status.
    pub(crate) failed: u64,
    pub(crate) failure: Option<String>,
}

/// A figure that the table shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    Cpu,
    Throughput,
    P50,
    P99,
    Allocations,
}

impl Figure {
    pub(crate) const ALL: [Self; 5] = [Self::Cpu, Self::Throughput, Self::P50, Self::P99, Self::Allocations];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Cpu => "client CPU per call, µs",
            Self::Throughput => "calls per second, thousands",
            Self::P50 => "latency p50, µs",
            Self::P99 => "latency p99, µs",
            Self::Allocations => "allocations per call",
        }
    }

    /// In a sentence.
    pub(crate) fn short(self) -> &'static str {
        self.title().split(',').next().unwrap_or_default()
    }

    pub(crate) fn of(self, sample: &Sample) -> f64 {
        match self {
            Self::Cpu => sample.cpu_us_per_call,
            Self::Throughput => sample.calls_per_second / 1e3,
            Self::P50 => sample.p50_us,
            Self::P99 => sample.p99_us,
            Self::Allocations => sample.allocations_per_call,
        }
    }
}

/// The middle one, or between the middle two. None if there is none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[values.len() / 2 - 1], upper) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }
}
