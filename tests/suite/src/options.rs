//! The command line.

use std::path::PathBuf;

use lexopt::Arg::{Long, Short};
use lexopt::{Parser, ValueExt};

const USAGE: &str = "callboard-suite [--fast] [--at-once PLACES] [--servers DIRECTORY] [--only WORD]...

  --fast     leaves out what needs a server, takes long or measures, and the examples in the documentation
  --at-once  how many tests that wait are run at once; 16 by default
  --servers  where `make servers` has put them; CALLBOARD_SERVERS or target/servers by default
  --only     runs programs with one of these words in their name, such as callboard-etcd/ or windows";

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) fast: bool,
    pub(crate) at_once: usize,
    pub(crate) servers: PathBuf,
    /// Words in the names of programs; all are run if there is none.
    pub(crate) only: Vec<String>,
}

impl Options {
    pub(crate) fn read() -> Result<Self, lexopt::Error> {
        let servers = std::env::var_os("CALLBOARD_SERVERS").unwrap_or_else(|| "target/servers".into());
        let mut options = Self { fast: false, at_once: 16, servers: servers.into(), only: Vec::new() };
        let mut parser = Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("fast") => options.fast = true,
                Long("at-once") => options.at_once = parser.value()?.parse::<usize>()?.max(1),
                Long("servers") => options.servers = parser.value()?.into(),
                Long("only") => options.only.push(parser.value()?.string()?),
                Long("help") | Short('h') => return Err(USAGE.into()),
                other => return Err(other.unexpected()),
            }
        }
        Ok(options)
    }

    pub(crate) fn are_for(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| name.contains(word.as_str()))
    }
}
