//! The examples in the documentation, which Cargo builds and runs by itself.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;

use crate::programs;

/// They are being built and run.
#[derive(Debug)]
pub(crate) struct Examples {
    cargo: Child,
    log: PathBuf,
}

/// Has Cargo begin with them.
pub(crate) fn start(logs: &Path) -> io::Result<Examples> {
    fs::create_dir_all(logs)?;
    let log = logs.join("documentation.log");
    let said = File::create(&log)?;
    let mut cargo = programs::cargo();
    let cargo = cargo.args(["test", "--doc", "--no-fail-fast"]).args(programs::WORKSPACE);
    Ok(Examples { cargo: cargo.stdout(said.try_clone()?).stderr(said).spawn()?, log })
}

impl Examples {
    /// Waits for them, and says what came of them. True if all pass.
    pub(crate) fn pass(mut self) -> bool {
        let passed = self.cargo.wait().is_ok_and(|status| status.success());
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        if !passed {
            println!("{said}");
        }
        let word = if passed { "ok" } else { "FAILED" };
        println!("{word}: {} examples in the documentation pass", passed_in(&said));
        passed
    }
}

/// The sum of `12 passed` in the lines in which the test harness says its results.
fn passed_in(said: &str) -> u64 {
    let results = said.lines().filter_map(|line| line.strip_prefix("test result: "));
    let counts = results.flat_map(|line| line.split([';', '.']));
    counts.filter_map(|count| count.trim().strip_suffix("passed")?.trim().parse::<u64>().ok()).sum()
}
