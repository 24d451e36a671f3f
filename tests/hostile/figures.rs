//! What a victim says of itself, a line for each half of a second.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What there was in one stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The calm channel: the slowest call but one of a hundred.
    pub p99: Duration,
    /// The slowest of all.
    pub slowest: Duration,
    /// Its calls that failed.
    pub calm_failed: u64,
    /// By how much a call of the attacked channel outlived its deadline, at most.
    pub late: Duration,
    /// The attacked channel's calls.
    pub answered: u64,
    pub failed: u64,
    /// The memory of the process, in KiB.
    pub memory: u64,
    /// Since the start of the process: panics, and lines and bytes in its log.
    pub panics: u64,
    pub lines: u64,
    pub bytes: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p99, slowest, calm_failed, late, answered, failed, memory, panics, lines, bytes } = self;
        let [p99, slowest, late] = [p99, slowest, late].map(Duration::as_micros);
        write!(f, "{p99} {slowest} {calm_failed} {late} {answered} {failed} {memory} {panics} {lines} {bytes}")
    }
}

impl FromStr for Figures {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Vec<u64> = text.split(' ').map_while(|number| number.parse().ok()).collect();
        let [p99, slowest, calm_failed, late, answered, failed, memory, panics, lines, bytes] = numbers[..] else {
            return Err(format!("ten numbers are expected: {text:?}"));
        };
        let [p99, slowest, late] = [p99, slowest, late].map(Duration::from_micros);
        Ok(Self { p99, slowest, calm_failed, late, answered, failed, memory, panics, lines, bytes })
    }
}

/// Those of several stretches as one. The p99 is the median of theirs: what disturbs one stretch alone was not the attack.
pub fn together(stretches: &[Figures]) -> Figures {
    let mut slowest: Vec<_> = stretches.iter().map(|one| one.p99).collect();
    slowest.sort_unstable();
    let last = stretches.last().copied().unwrap_or_default();
    Figures {
        p99: slowest.get(slowest.len() / 2).copied().unwrap_or_default(),
        slowest: stretches.iter().map(|one| one.slowest).max().unwrap_or_default(),
        calm_failed: stretches.iter().map(|one| one.calm_failed).sum(),
        late: stretches.iter().map(|one| one.late).max().unwrap_or_default(),
        answered: stretches.iter().map(|one| one.answered).sum(),
        failed: stretches.iter().map(|one| one.failed).sum(),
        memory: stretches.iter().map(|one| one.memory).max().unwrap_or_default(),
        ..last
    }
}
