//! Processes of the same run.

use std::env::current_exe;
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::de::DeserializeOwned;

use crate::Result;
use crate::figures::Sample;
use crate::variants::Variant;

/// A process that lives until its standard input ends, and answers in lines.
pub(crate) struct Process {
    child: Child,
    /// None once it has been told to end.
    orders: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
        Ok(Self { child, orders, answers })
    }

    fn answer(&mut self) -> Result<String> {
        Ok(self.answers.next().ok_or("the process has ended")??)
    }

    /// Measures with so many callers for so long.
    pub(crate) fn measure(&mut self, callers: usize, millis: u64) -> Result<Sample> {
        let orders = self.orders.as_mut().ok_or("the process has ended")?;
        writeln!(orders, "{callers} {millis}")?;
        Ok(serde_json::from_str(&self.answer()?)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.orders = None;
        // It ends by itself now; what it ends with was told by its answers.
        let _ = self.child.wait();
    }
}

/// Starts the servers.
pub(crate) fn servers() -> Result<(Process, Vec<SocketAddr>)> {
    let mut process = Process::start(Command::new(current_exe()?).arg("servers"))?;
    let addresses = process.answer()?.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    Ok((process, addresses))
}

/// Starts a client of this program and waits until it is connected.
pub(crate) fn client(variant: Variant, servers: &[SocketAddr]) -> Result<Process> {
    connected(Command::new(current_exe()?).args(["client", variant.name()]), servers)
}

/// Starts a client, which takes the servers' addresses as arguments, and waits until it is connected.
pub(crate) fn connected(command: &mut Command, servers: &[SocketAddr]) -> Result<Process> {
    let mut process = Process::start(command.args(servers.iter().map(ToString::to_string)))?;
    match process.answer()?.as_str() {
        "ready" => Ok(process),
        other => Err(format!("expected \"ready\": {other}").into()),
    }
}

/// Runs one of this program's own jobs to its end and reads the one line that it prints.
pub(crate) fn told<T: DeserializeOwned>(job: &str) -> Result<T> {
    let output = Command::new(current_exe()?).arg(job).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{job}: {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
