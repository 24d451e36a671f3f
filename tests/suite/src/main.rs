//! Runs callboard's tests, each in a process of its own and several at a time: most of them wait for most of their time, for a
//! lease to end or for a server to start. Cargo itself would run one program after the other, and stop at the first that
//! fails.
//!
//! ```text
//! cargo run --package callboard-suite -- --only callboard-etcd/
//! ```
//!
//! What each test says is in `target/suite`, and on the terminal if it has failed. At the end stands what has failed, and what
//! was left out because this machine does not have what it needs.

mod again;
mod costs;
mod documentation;
mod listing;
mod needs;
mod options;
mod peers;
mod plan;
mod programs;
mod report;
mod run;
mod schedule;

use std::io;
use std::process::ExitCode;

use options::Options;
use plan::Plan;

fn main() -> ExitCode {
    let done = Options::read().map_err(io::Error::other).and_then(|options| run(&options));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// True if all is well.
fn run(options: &Options) -> io::Result<bool> {
    let missing = needs::missing(&options.servers);
    if std::env::var_os("CI").is_some_and(|ci| ci == "true")
        && let Some(need) = missing.iter().find(|need| need.is_required_on_ci() && !options.fast)
    {
        return Err(io::Error::other(format!("{} is missing, and this is CI: see tests/servers/get", need.name())));
    }
    let programs = programs::build()?;
    let target = programs::target(&programs);
    if !options.fast && !missing.iter().any(|need| need.name() == "Go") {
        peers::build(&target)?;
    }
    let Plan { tests, left_out, slow } = Plan::of(programs, &missing, options)?;
    let logs = target.join("suite");
    let whole = !options.fast && options.only.is_empty();
    // The examples in the documentation are mostly built, which waits for nothing.
    let documentation = whole.then(|| documentation::start(&logs)).transpose()?;
    let mut outcomes = schedule::run(tests, options.at_once, &logs);
    let flaky = again::run(&mut outcomes, &logs);
    report::sum_up(&outcomes, &flaky);
    left_out.tell();
    if !slow.is_empty() {
        println!("left out: what takes long or measures, which 'make test' runs: {}", slow.join(", "));
    }
    let documented = documentation.is_none_or(documentation::Examples::pass);
    Ok(documented && outcomes.iter().all(|outcome| outcome.trouble.is_none()))
}
