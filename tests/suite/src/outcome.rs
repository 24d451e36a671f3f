//! What came of a program.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// How a program ended, and what it counted.
#[derive(Debug)]
pub(crate) struct Outcome {
    name: String,
    /// None if all is well.
    trouble: Option<String>,
    passed: u64,
    failed: u64,
    took: Duration,
    log: PathBuf,
}

impl Outcome {
    pub(crate) fn of(name: String, ended: io::Result<ExitStatus>, took: Duration, log: PathBuf) -> Self {
        let said = fs::read_to_string(&log).unwrap_or_default();
        let trouble = match ended {
            Ok(status) if status.success() => None,
            Ok(status) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        };
        Self { name, trouble, passed: counted(&said, "passed"), failed: counted(&said, "failed"), took, log }
    }

    pub(crate) fn is_good(&self) -> bool {
        self.trouble.is_none()
    }

    /// Says a line about it, and all that it has said if it has failed.
    pub(crate) fn tell(&self) {
        let Self { name, trouble, passed, failed, took, log } = self;
        let seconds = took.as_secs_f64();
        match trouble {
            None => println!("ok      {seconds:6.1} s  {passed:4} passed  {name}"),
            Some(trouble) => {
                let said = fs::read_to_string(log).unwrap_or_else(|error| error.to_string());
                println!("{said}\nFAILED  {seconds:6.1} s  {passed:4} passed, {failed} failed  {name}: {trouble}");
            }
        }
    }
}

/// The number before a word in the lines in which the test harness says its result.
fn counted(said: &str, word: &str) -> u64 {
    let results = said.lines().filter_map(|line| line.strip_prefix("test result: "));
    let counts = results.flat_map(|line| line.split([';', '.']));
    counts.filter_map(|count| count.trim().strip_suffix(word)?.trim().parse::<u64>().ok()).sum()
}

/// Says what there was in all, and where to look.
pub(crate) fn sum_up(outcomes: &[Outcome]) {
    println!();
    for Outcome { name, log, .. } in outcomes.iter().filter(|outcome| !outcome.is_good()) {
        println!("failed: {name}, see {}", log.display());
    }
    let (passed, failed) = outcomes.iter().fold((0, 0), |(p, f), outcome| (p + outcome.passed, f + outcome.failed));
    println!("{passed} passed, {failed} failed");
}
