//! Which program runs when: first those that wait for most of their time, several at once, and then the others, each alone.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::outcome::Outcome;
use crate::programs::Program;

/// A program that takes longer hangs, and is killed.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Runs all of them.
pub(crate) fn run(programs: Vec<Program>, options: &Options) -> Vec<Outcome> {
    let (alone, mut beside): (Vec<_>, Vec<_>) = programs.into_iter().partition(Program::is_alone);
    // Whole backends take longest, so they are begun first. Cargo names the facade's programs first.
    beside.sort_by_key(|program| program.name.starts_with("callboard/"));
    let mut outcomes = at_once(beside, options.at_once, options);
    outcomes.extend(at_once(alone, 1, options));
    outcomes
}

fn at_once(programs: Vec<Program>, count: usize, options: &Options) -> Vec<Outcome> {
    let waiting = Mutex::new(VecDeque::from(programs));
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    thread::scope(|scope| {
        let one_after_the_other = || {
            let mut outcomes = Vec::new();
            while let Some(program) = next() {
                let outcome = one(program, options);
                outcome.tell();
                outcomes.push(outcome);
            }
            outcomes
        };
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(one_after_the_other)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("it has not panicked")).collect()
    })
}

fn one(program: Program, options: &Options) -> Outcome {
    let begun = Instant::now();
    let log = log_of(&program);
    let ended = start(&program, &log, options).and_then(|mut child| within(&mut child, PATIENCE));
    Outcome::of(program.name, ended, begun.elapsed(), log)
}

/// Where it is written down what a program says.
fn log_of(program: &Program) -> PathBuf {
    let target = program.executable.ancestors().nth(3).unwrap_or(Path::new("target"));
    target.join("suite").join(format!("{}.log", program.name.replace('/', ".")))
}

fn start(program: &Program, log: &Path, options: &Options) -> io::Result<Child> {
    fs::create_dir_all(log.parent().unwrap_or(log))?;
    let log = File::create(log)?;
    Command::new(&program.executable)
        .args(options.for_programs())
        .current_dir(&program.directory)
        .env("CARGO_MANIFEST_DIR", &program.directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

/// How it ended. It is killed if it does not within that time.
fn within(child: &mut Child, bound: Duration) -> io::Result<ExitStatus> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if begun.elapsed() > bound {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("killed after {bound:?}")));
        }
        // The standard library cannot wait for a process with a bound.
        thread::sleep(Duration::from_millis(10));
    }
}
