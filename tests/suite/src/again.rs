//! A test that fails beside others is run again alone, so that it is seen whether it fails by itself.
//!
//! One that passes then does not fail the run, for a run takes long and a machine may stand still. It is told of by its name:
//! it shows a fault of the test, or of callboard.

use std::path::{Path, PathBuf};

use crate::run::Outcome;

/// With more failures than that, something is broken, and nothing is run again.
const FEW: usize = 3;

/// Runs again what has failed, if that is little. What has failed at first, and passed now, is returned, and has passed in
/// `outcomes`.
pub(crate) fn run(outcomes: &mut [Outcome], logs: &Path) -> Vec<Outcome> {
    let failed: Vec<_> = outcomes.iter_mut().filter(|outcome| outcome.trouble.is_some()).collect();
    if failed.len() > FEW {
        return Vec::new();
    }
    let mut flaky = Vec::new();
    for outcome in failed {
        let kept = keep(&outcome.log);
        println!("again:  {} {}", outcome.test.program.name, outcome.test.name);
        let second = outcome.test.clone().run(logs);
        if second.trouble.is_none() {
            let mut first = std::mem::replace(outcome, second);
            first.log = kept;
            flaky.push(first);
        }
    }
    flaky
}

/// Where the log of the first try is, now that the second writes one.
fn keep(log: &Path) -> PathBuf {
    let kept = log.with_extension("first.log");
    match std::fs::rename(log, &kept) {
        Ok(()) => kept,
        Err(_) => log.to_owned(),
    }
}
