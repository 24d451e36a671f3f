//! The command line.

use lexopt::Arg::{Long, Short};
use lexopt::{Parser, ValueExt};

const USAGE: &str = "callboard-suite [--include-ignored] [--fast] [--at-once PROGRAMS] [--skip WORD]...

  --include-ignored  runs tests that need a server too
  --fast             leaves out the examples in the documentation
  --at-once          how many programs that wait are run at once; 4 by default
  --skip             leaves out tests with this word in their name";

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) include_ignored: bool,
    pub(crate) fast: bool,
    pub(crate) at_once: usize,
    /// Words in the names of tests that are left out.
    pub(crate) skip: Vec<String>,
}

impl Options {
    pub(crate) fn read() -> Result<Self, lexopt::Error> {
        let mut options = Self { include_ignored: false, fast: false, at_once: 4, skip: Vec::new() };
        let mut parser = Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("include-ignored") => options.include_ignored = true,
                Long("fast") => options.fast = true,
                Long("at-once") => options.at_once = parser.value()?.parse::<usize>()?.max(1),
                Long("skip") => options.skip.push(parser.value()?.string()?),
                Long("help") | Short('h') => return Err(USAGE.into()),
                other => return Err(other.unexpected()),
            }
        }
        Ok(options)
    }

    /// What each test program is given.
    pub(crate) fn for_programs(&self) -> Vec<&str> {
        let skip = self.skip.iter().flat_map(|word| ["--skip", word]);
        self.include_ignored.then_some("--include-ignored").into_iter().chain(skip).collect()
    }
}
