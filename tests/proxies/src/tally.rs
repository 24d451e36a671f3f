//! How calls went.

use std::collections::BTreeMap;
use std::time::Duration;

use tonic::{Code, Status};

/// What callers have seen so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Calls that have ended, well or not.
    pub(crate) unary: u64,
    /// Streams that have ended, well or not.
    pub(crate) streams: u64,
    /// How often each failure was seen.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Failures of another code than UNAVAILABLE.
    pub(crate) odd: u64,
    /// Failures after the response had begun: what follows that is no other attempt's.
    pub(crate) answered: u64,
    /// The slowest unary call that went well.
    pub(crate) slowest: Duration,
    /// Connections that were made, if that is known.
    pub(crate) connections: Option<u64>,
}

impl Tally {
    pub(crate) fn note(&mut self, outcome: Result<(), Status>, took: Duration, answered: bool) {
        match outcome {
            Ok(()) => self.slowest = self.slowest.max(took),
            Err(status) => {
                self.odd += u64::from(status.code() != Code::Unavailable);
                self.answered += u64::from(answered);
                let when = if answered { " (its response had begun)" } else { "" };
                let failure = format!("{:?}{when}: {}", status.code(), without_port(status.message()));
                *self.failures.entry(failure).or_default() += 1;
            }
        }
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    pub(crate) fn calls(&self) -> u64 {
        self.unary + self.streams
    }

    /// With the calls of other callers.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.unary += other.unary;
        self.streams += other.streams;
        self.odd += other.odd;
        self.answered += other.answered;
        self.slowest = self.slowest.max(other.slowest);
        self.connections = self.connections.zip(other.connections).map(|(one, other)| one + other);
        for (failure, count) in other.failures {
            *self.failures.entry(failure).or_default() += count;
        }
        self
    }
}

/// The same failure at another port is the same.
fn without_port(message: &str) -> String {
    let mut parts = message.split("127.0.0.1:");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "proxy" + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}
