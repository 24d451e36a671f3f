//! One server.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::plan::{Place, Plan};
use crate::process::Process;

/// How long a server may take until it answers, on a machine that has much else to do.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// How often it is asked.
pub(crate) const OFTEN: Duration = Duration::from_millis(20);
/// How much of a log is shown.
const SHOWN: u64 = 4096;

/// One server of a [`Cluster`](crate::Cluster). Its address and its data outlive its process.
#[derive(Debug)]
pub struct Node {
    // It is dropped before the plan is, and with that what it stores.
    process: Mutex<Option<Process>>,
    plan: Arc<Plan>,
    number: usize,
}

impl Node {
    pub(crate) fn new(plan: Arc<Plan>, number: usize) -> Self {
        Self { process: Mutex::default(), plan, number }
    }

    /// Where clients reach it. It stays the same.
    pub fn address(&self) -> SocketAddr {
        self.place().address()
    }

    /// The number of its process; None while it does not run.
    pub fn id(&self) -> Option<u32> {
        self.process().as_ref().filter(|process| process.ended().is_none()).map(Process::id)
    }

    /// Where all that it stores is, its log too.
    pub fn directory(&self) -> &Path {
        self.place().directory()
    }

    /// The last of what it has said, over all its starts.
    pub fn log(&self) -> String {
        tail(&self.place().log()).unwrap_or_else(|error| format!("no log: {error}"))
    }

    /// Kills it as SIGKILL does, and waits until it is gone. Its data stay. Nothing happens if it does not run.
    pub async fn kill(&self) {
        let process = self.process().take();
        if let Some(process) = process {
            process.kill().await;
        }
        if let Some(links) = &self.plan.links {
            links.down(self.number).await;
        }
    }

    /// Stops it as SIGSTOP does: the system accepts connections for it, and nobody answers.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pause(&self) {
        self.signalled(Process::pause);
    }

    /// Lets it go on after [`pause`](Self::pause).
    ///
    /// # Panics
    /// If it does not run.
    pub fn resume(&self) {
        self.signalled(|process| process.signal(Signal::CONT));
    }

    /// Starts it on its data and its address, and waits until it answers. Nothing happens if it runs. A member of
    /// several answers only once most of them run: [`Cluster::start`](crate::Cluster::start) starts all that are dead.
    ///
    /// # Panics
    /// If it ends instead, or does not answer within a minute, with its log.
    pub async fn start(&self) {
        self.spawn().await;
        self.ready().await.unwrap_or_else(|reason| panic!("{reason}"));
    }

    /// Has a proxy read its configuration anew, as people reload it, and does not wait for what that does.
    ///
    /// # Panics
    /// If it does not run, or is no proxy.
    pub fn reload(&self) {
        let signal = self.plan.settings.server.reload(&self.plan, self.number);
        match signal.unwrap_or_else(|error| panic!("{} cannot be reloaded: {error}", self.name())) {
            Some(signal) => self.signalled(|process| process.signal(signal)),
            None => assert!(self.id().is_some(), "{} does not run; its log:\n{}", self.name(), self.log()),
        }
    }

    /// Kills it and starts it with nothing. etcd does not take back a member of several that has lost its data: use
    /// [`Cluster::wipe`](crate::Cluster::wipe) there.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn wipe(&self) {
        self.kill().await;
        self.erase();
        self.start().await;
    }

    /// Starts its process, if it has none, and does not wait for what that does.
    pub(crate) async fn spawn(&self) {
        let id = {
            let mut process = self.process();
            if process.as_ref().is_some_and(|process| process.ended().is_none()) {
                return;
            }
            let started = self.launch().unwrap_or_else(|error| panic!("{} cannot be started: {error}", self.name()));
            process.insert(started).id()
        };
        if let Some(links) = &self.plan.links {
            links.up(self.number, id).await;
        }
    }

    fn launch(&self) -> io::Result<Process> {
        let mut command = self.plan.settings.server.command(&self.plan, self.number)?;
        let log = File::options().create(true).append(true).open(self.place().log())?;
        command.stdout(log.try_clone()?).stderr(log).current_dir(self.place().directory());
        Ok(Process::start(command, Some(self.place().directory()))?.0)
    }

    /// Waits until it answers.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let amiss = match self.plan.settings.server.ready(&self.plan, self.number).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let ended = self.process().as_ref().and_then(Process::ended);
            if let Some(status) = ended {
                return Err(format!("{} has ended with {status}: its log:\n{}", self.name(), self.log()));
            }
            if Instant::now() > deadline {
                return Err(format!("{} is not ready after {LIMIT:?}: {amiss}; its log:\n{}", self.name(), self.log()));
            }
            sleep(OFTEN).await;
        }
    }

    pub(crate) async fn leads(&self) -> bool {
        self.plan.settings.server.leads(&self.plan, self.number).await.unwrap_or(false)
    }

    /// Removes its data. It must not run.
    pub(crate) fn erase(&self) {
        match fs::remove_dir_all(self.place().data()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{}: {error}", self.name()),
            _ => {}
        }
    }

    fn signalled(&self, signal: impl Fn(&Process) -> bool) {
        let signalled = self.process().as_ref().is_some_and(signal);
        assert!(signalled, "{} does not run; its log:\n{}", self.name(), self.log());
    }

    /// For people.
    fn name(&self) -> String {
        format!("{} {} at {}", self.plan.settings.server.name(), self.number, self.address())
    }

    fn place(&self) -> &Place {
        &self.plan.places[self.number]
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of a file.
fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(SHOWN)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
