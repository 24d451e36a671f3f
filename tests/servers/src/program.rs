//! A program of ours.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::installed;
use crate::node::LIMIT;
use crate::process::{self, Process};

/// A program under test, such as an example, with its standard output as lines. Standard error goes where the test's
/// own goes. Dropping it kills it; so does the end of the test, whatever it ends by.
#[derive(Debug)]
pub struct Program {
    name: String,
    process: Process,
    output: watch::Receiver<Output>,
}

/// What has come so far.
#[derive(Debug, Default)]
struct Output {
    lines: Vec<String>,
    ended: bool,
}

/// A program that has not been started.
#[derive(Debug)]
pub struct ProgramSetup {
    name: String,
    command: Command,
}

impl ProgramSetup {
    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// A variable of its environment, beside those of the test.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts it, and waits for nothing.
    ///
    /// # Panics
    /// If there can be no more processes. A program that is not there ends with status 127.
    pub fn start(mut self) -> Program {
        self.command.stdout(Stdio::piped());
        let started = Process::start(self.command, None);
        let (process, stdout) = started.unwrap_or_else(|error| panic!("{} cannot be started: {error}", self.name));
        let (told, output) = watch::channel(Output::default());
        let stdout = stdout.expect("it was piped");
        thread::spawn(move || read(stdout, &told));
        Program { name: self.name, process, output }
    }
}

fn read(stdout: impl Read, told: &watch::Sender<Output>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        told.send_modify(|output| output.lines.push(line));
    }
    told.send_modify(|output| output.ended = true);
}

impl Program {
    /// Prepares the program of this path.
    pub fn at(path: impl AsRef<OsStr>) -> ProgramSetup {
        let path = path.as_ref();
        ProgramSetup { name: path.to_string_lossy().into_owned(), command: process::command(path) }
    }

    /// Prepares one of the servers' programs, to be run in another way than as a server.
    ///
    /// # Panics
    /// If it is not there.
    pub fn server(name: &str) -> ProgramSetup {
        Self::at(installed::program(name))
    }

    /// Prepares an example of the package whose test this is, which Cargo has built beside it.
    ///
    /// # Panics
    /// If it is not there.
    pub fn example(name: &str) -> ProgramSetup {
        let path = built().join("examples").join(name);
        assert!(path.exists(), "{} is not there: run 'cargo build --example {name}'", path.display());
        Self::at(path)
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.output.borrow().lines.clone()
    }

    /// Waits for the first line that contains this text, from the beginning on, and gives it.
    ///
    /// # Panics
    /// If its output ends before, or after a minute, with the output.
    pub async fn line(&self, text: &str) -> String {
        self.line_after(0, text).await.1
    }

    /// Waits for the first line that contains this text, after so many others, and gives it with the number of lines up
    /// to it: what the next question starts from.
    ///
    /// # Panics
    /// If its output ends before, or after a minute, with the output.
    pub async fn line_after(&self, lines: usize, text: &str) -> (usize, String) {
        let mut output = self.output.clone();
        let find = |output: &Output| output.lines.iter().skip(lines).position(|line| line.contains(text));
        let found = timeout(LIMIT, output.wait_for(|output| output.ended || find(output).is_some())).await;
        // What was seen is let go before the next look: if the reader wants to write in between, it waits for the first
        // look to end, and the second one for the reader.
        let found = found.map(drop);
        let output = self.output.borrow();
        match (found, find(&output)) {
            (Ok(_), Some(at)) => (lines + at + 1, output.lines[lines + at].clone()),
            (Ok(_), None) => panic!("{} has ended without {text:?}; it said {:#?}", self.name, output.lines),
            (Err(_), _) => panic!("{} says no {text:?} for {LIMIT:?}; it said {:#?}", self.name, output.lines),
        }
    }

    /// Asks it to end, as SIGTERM does.
    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Asks it to end, as SIGINT and Ctrl-C do.
    pub fn interrupt(&self) {
        self.process.signal(Signal::INT);
    }

    /// Stops it, as SIGSTOP does.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Kills it, as SIGKILL does, and waits until it is gone.
    pub async fn kill(&self) {
        self.process.kill().await;
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// If it does not within a minute, with the output.
    pub async fn wait(&self) -> ExitStatus {
        let ended = timeout(LIMIT, self.process.wait()).await;
        ended.unwrap_or_else(|_| panic!("{} does not end for {LIMIT:?}; it said {:#?}", self.name, self.lines()))
    }
}

/// Where Cargo builds: the test is in its folder `deps`.
fn built() -> PathBuf {
    let test = env::current_exe().expect("a running test has a path");
    test.parent().and_then(|deps| deps.parent()).expect("Cargo runs tests from a folder of the target").to_owned()
}
