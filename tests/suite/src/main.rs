//! Runs callboard's test programs, several at a time: most of them wait for most of their time, for a lease to end or for a
//! server to start. Cargo itself would run one after the other, and stop at the first that fails.
//!
//! ```text
//! cargo run --package callboard-suite -- --include-ignored --skip envoy
//! ```
//!
//! What each program says is in `target/suite`, and on the terminal if it has failed. At the end stands what has failed
//! and what was left out.

mod options;
mod outcome;
mod programs;
mod schedule;

use std::process::ExitCode;

use options::Options;
use outcome::Outcome;

fn main() -> ExitCode {
    let options = match Options::read() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let programs = match programs::build() {
        Ok(programs) => programs,
        Err(error) => {
            eprintln!("the tests cannot be built: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcomes = schedule::run(programs, &options);
    let documented = documentation(&options);
    outcome::sum_up(&outcomes);
    if documented && outcomes.iter().all(Outcome::is_good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the examples in the documentation, which Cargo builds and runs by itself. True if all of them pass.
fn documentation(options: &Options) -> bool {
    if options.fast {
        return true;
    }
    let status = programs::cargo().args(["test", "--doc"]).args(programs::WORKSPACE).status();
    status.is_ok_and(|status| status.success())
}
