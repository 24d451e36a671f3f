//! A server as people start it.

use std::process::ExitStatus;

use callboard_servers::Program;

use crate::Examples;

/// The example `server`, as a process.
#[derive(Debug)]
pub struct Server {
    program: Program,
}

impl Server {
    /// Starts one on a free port of 127.0.0.1, with the id of its address.
    pub fn start(examples: Examples, url: &str) -> Self {
        Self::start_with(examples, url, &[])
    }

    /// Starts one with more arguments.
    pub fn start_with(examples: Examples, url: &str, arguments: &[&str]) -> Self {
        let program = Program::at(examples.server).args([url, "--listen", "127.0.0.1:0"]).args(arguments);
        // Empty ones count as not set, whatever the tests' own environment says.
        Self { program: program.env("CALLBOARD_ADVERTISE", "").env("POD_IP", "").start() }
    }

    /// Starts one that listens on every address. It finds out by itself which of them others are told, if the registry is a
    /// directory; a way to a registry that is loopback says nothing of that, so there it is told.
    pub fn start_everywhere(examples: Examples, url: &str) -> Self {
        let program = Program::at(examples.server).args([url, "--listen", "0.0.0.0:0"]);
        let told = if url.starts_with("file:") { program } else { program.env("CALLBOARD_ADVERTISE", "127.0.0.1") };
        Self { program: told.start() }
    }

    /// Starts one that listens on every address, and that nothing tells which of them others reach.
    pub fn start_untold(examples: Examples, url: &str) -> Self {
        let program = Program::at(examples.server).args([url, "--listen", "0.0.0.0:0"]);
        Self { program: program.env("CALLBOARD_ADVERTISE", "").env("POD_IP", "").start() }
    }

    /// Where it serves. Waits until it is on the board.
    pub async fn address(&self) -> String {
        let line = self.program.line("serving ").await;
        line.strip_prefix("serving ").unwrap().to_owned()
    }

    /// The same, if it has said so already.
    pub fn address_so_far(&self) -> Option<String> {
        self.program.lines().iter().find_map(|line| line.strip_prefix("serving ")).map(str::to_owned)
    }

    /// Waits until it has ended by itself.
    pub async fn ended(self) -> ExitStatus {
        self.program.wait().await
    }

    /// Asks it to leave, as Ctrl-C does, and waits until it has ended.
    pub async fn interrupt(self) -> ExitStatus {
        self.program.interrupt();
        self.program.wait().await
    }

    /// Asks it to leave, as SIGTERM does, and waits until it has ended.
    pub async fn terminate(self) -> ExitStatus {
        self.program.terminate();
        self.program.wait().await
    }

    /// Ends it as `kill -9` does.
    pub async fn kill(self) {
        self.program.kill().await;
    }
}
