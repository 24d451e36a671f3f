//! A client as people start it.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::time::Duration;

use callboard_servers::Program;
use tokio::time::timeout;

use crate::Examples;

/// Longer than anything here takes, on a busy machine; only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The example `client`, as a process.
#[derive(Debug)]
pub struct Client {
    program: Program,
    /// How many of its lines have been read.
    read: usize,
}

/// What it has counted since its start, as it says each second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Seconds since its start.
    pub seconds: u64,
    /// Calls that have ended.
    pub calls: u64,
    /// Those of them that have failed.
    pub failed: u64,
    /// The others, by the address of the server.
    pub by_server: BTreeMap<String, u64>,
}

impl Line {
    fn parse(text: &str) -> Self {
        let mut line = Self::default();
        for word in text.split(' ') {
            let (name, number) = word.split_once('=').unwrap_or_else(|| panic!("a line of the client: {text:?}"));
            let number = number.parse().unwrap_or_else(|_| panic!("a line of the client: {text:?}"));
            match name {
                "t" => line.seconds = number,
                "calls" => line.calls = number,
                "failed" => line.failed = number,
                server => drop(line.by_server.insert(server.to_owned(), number)),
            }
        }
        line
    }

    /// Calls that this server has answered.
    pub fn of(&self, server: &str) -> u64 {
        self.by_server.get(server).copied().unwrap_or_default()
    }
}

impl Client {
    /// Starts one with 16 callers.
    pub fn start(examples: Examples, url: &str, arguments: &[&str]) -> Self {
        let program = Program::at(examples.client).args([url, "--callers", "16"]).args(arguments).start();
        Self { program, read: 0 }
    }

    /// The next line that it says.
    pub async fn line(&mut self) -> Line {
        let (read, text) = self.program.line_after(self.read, "t=").await;
        self.read = read;
        Line::parse(&text)
    }

    /// Waits for a second in which exactly these servers have answered calls, and gives the line at its end.
    ///
    /// # Panics
    /// If there is none for a minute.
    pub async fn until_served_by(&mut self, servers: &[&str]) -> Line {
        let mut before = self.line().await;
        let looked = async {
            loop {
                let now = self.line().await;
                let served = now.by_server.iter().filter(|(server, calls)| **calls > before.of(server));
                let mut served: Vec<_> = served.map(|(server, _)| server.as_str()).collect();
                served.sort_unstable();
                let mut wanted = servers.to_vec();
                wanted.sort_unstable();
                if served == wanted {
                    return now;
                }
                before = now;
            }
        };
        timeout(PATIENCE, looked).await.unwrap_or_else(|_| panic!("not served by {servers:?} alone for {PATIENCE:?}"))
    }

    /// Asks it to end, as Ctrl-C does; gives its total of calls and of failed ones, and how it ended.
    pub async fn finish(self) -> (u64, u64, ExitStatus) {
        self.program.interrupt();
        let status = self.program.wait().await;
        let total = self.program.line("total ").await;
        let total = Line::parse(total.strip_prefix("total ").unwrap());
        (total.calls, total.failed, status)
    }
}
