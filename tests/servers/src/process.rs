//! A process that cannot outlive the one that started it.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::sync::watch;

/// Waits for a word before it becomes the program, so that the watchdog knows of it before it does anything.
const GATE: &str = r#"read -r _ && exec "$@" </dev/null"#;

/// Is told a process, waits until whoever holds the other end of its standard input is gone, then ends the process and
/// removes its directory, and the one around that if it was the last.
const WATCHDOG: &str = r#"
    read -r group || exit
    read -r _
    kill -s KILL -- "-$group"
    [ -n "$1" ] || exit
    # What is being killed may write for a moment more.
    for _ in 1 2 3 4 5; do rm -rf -- "$1" && break; sleep 0.2; done
    rmdir -- "${1%/*}"
"#;

/// A process, in a group of its own, with the watchdog that ends it when this process ends, however that ends. Dropping
/// it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    id: Pid,
    ended: watch::Receiver<Option<ExitStatus>>,
    reaper: Option<JoinHandle<()>>,
}

/// What [`Process::start`] starts: this program, once its arguments, standard output and so on are set.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", GATE, "sh"]).arg(program).stdin(Stdio::piped()).process_group(0);
    command
}

impl Process {
    /// Starts what [`command`] has made, and gives its standard output, if that is a pipe. The directory is removed if
    /// this process dies.
    pub(crate) fn start(mut command: Command, directory: Option<&Path>) -> io::Result<(Self, Option<ChildStdout>)> {
        let watchdog = watchdog(directory)?;
        let mut child = command.spawn()?;
        let output = child.stdout.take();
        let id = Pid::from_child(&child);
        // The order is what closes the gap: first the watchdog knows, then the program starts.
        writeln!(watchdog.stdin.as_ref().ok_or(io::ErrorKind::BrokenPipe)?, "{}", id.as_raw_nonzero())?;
        writeln!(child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?, "go")?;
        let (end, ended) = watch::channel(None);
        let reaper = thread::spawn(move || reap(child, watchdog, &end));
        Ok((Self { id, ended, reaper: Some(reaper) }, output))
    }

    pub(crate) fn id(&self) -> u32 {
        self.id.as_raw_nonzero().get().unsigned_abs()
    }

    /// How it ended; None while it has not.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        *self.ended.borrow()
    }

    /// Waits until it ends.
    pub(crate) async fn wait(&self) -> ExitStatus {
        let ended = self.ended.clone().wait_for(Option::is_some).await.map(|status| *status);
        ended.ok().flatten().expect("the reaper tells before it ends")
    }

    /// Says whether there was still something to signal.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        self.ended().is_none() && kill_process(self.id, signal).is_ok()
    }

    /// Ends it and all that it has started, paused or not, and waits for that.
    pub(crate) async fn kill(&self) {
        self.kill_group();
        self.wait().await;
    }

    fn kill_group(&self) {
        if self.ended().is_none() {
            // What it fails with is that it has ended by itself.
            let _ = kill_process_group(self.id, Signal::KILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_group();
        if let Some(reaper) = self.reaper.take() {
            // A panic there is reported by the thread itself.
            let _ = reaper.join();
        }
    }
}

fn watchdog(directory: Option<&Path>) -> io::Result<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", WATCHDOG, "sh"]).arg(directory.map(Path::as_os_str).unwrap_or_default());
    // In a group of its own, it is not ended by what ends the test's group, such as Ctrl-C.
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn()
}

/// Waits for the child, then ends the watchdog, which must not see the number of the child given to somebody else.
fn reap(mut child: Child, mut watchdog: Child, end: &watch::Sender<Option<ExitStatus>>) {
    let status = child.wait().expect("a child can be waited for");
    end.send_replace(Some(status));
    // It does not end by itself before.
    let _ = watchdog.kill();
    let _ = watchdog.wait();
}
