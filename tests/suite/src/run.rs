//! One test, in a process of its own: nothing that another test does to its process can change what it says.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::programs::Program;

/// A test that takes longer hangs, and is killed.
const PATIENCE: Duration = Duration::from_secs(8 * 60);

/// One test.
#[derive(Clone, Debug)]
pub(crate) struct Test {
    pub(crate) program: Arc<Program>,
    pub(crate) name: String,
}

/// What came of a test.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) test: Test,
    /// None if all is well.
    pub(crate) trouble: Option<String>,
    pub(crate) took: Duration,
    /// What it has said.
    pub(crate) log: PathBuf,
}

impl Test {
    /// Runs it. Its log is written into that directory.
    pub(crate) fn run(self, logs: &Path) -> Outcome {
        let begun = Instant::now();
        let log = logs.join(self.program.name.replace('/', ".")).join(format!("{}.log", self.name.replace("::", ".")));
        let ended = self.start(&log).and_then(|mut child| within(&mut child, PATIENCE));
        let trouble = match ended {
            // The harness is content with no test at all.
            Ok(status) if status.success() && has_passed(&log) => None,
            Ok(status) if status.success() => Some("it has not been run".to_owned()),
            Ok(status) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        };
        Outcome { test: self, trouble, took: begun.elapsed(), log }
    }

    fn start(&self, log: &Path) -> io::Result<Child> {
        fs::create_dir_all(log.parent().unwrap_or(log))?;
        let log = File::create(log)?;
        let mut command = self.program.command();
        command.args(["--include-ignored", "--exact", &self.name]);
        command.stdout(log.try_clone()?).stderr(log).spawn()
    }
}

fn has_passed(log: &Path) -> bool {
    fs::read(log).is_ok_and(|said| String::from_utf8_lossy(&said).contains("test result: ok. 1 passed"))
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
