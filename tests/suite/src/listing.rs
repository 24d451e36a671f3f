//! The tests of a program, and why one of them is ignored.

use std::collections::BTreeMap;
use std::io;
use std::process::{Command, Stdio};

use crate::programs::Program;

/// The tests of one program.
#[derive(Debug)]
pub(crate) struct Tests {
    pub(crate) names: Vec<String>,
    /// Why those are ignored that are, unless they are asked for.
    pub(crate) ignored: BTreeMap<String, String>,
}

impl Tests {
    /// Asks the program. No test is run for it.
    pub(crate) fn of(program: &Program) -> io::Result<Self> {
        let names = listed(&ask(program, &["--list", "--format", "terse"])?);
        let ignored = listed(&ask(program, &["--list", "--format", "terse", "--ignored"])?);
        // Only a run says the reasons. One of ignored tests alone runs none.
        let mut run = vec!["--exact"];
        run.extend(ignored.iter().map(String::as_str));
        let said = if ignored.is_empty() { String::new() } else { ask(program, &run)? };
        Ok(Self { names, ignored: said.lines().filter_map(reason).collect() })
    }
}

fn ask(program: &Program, arguments: &[&str]) -> io::Result<String> {
    let output = program.command().args(arguments).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("{} cannot say its tests: {}", program.name, output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn listed(said: &str) -> Vec<String> {
    said.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// Of `test that_it_works ... ignored, needs etcd: make test`, the name and the reason.
fn reason(line: &str) -> Option<(String, String)> {
    let (name, ignored) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    Some((name.to_owned(), ignored.trim_start_matches(", ").to_owned()))
}

impl Program {
    /// The program, as Cargo would start it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.current_dir(&self.directory).env("CARGO_MANIFEST_DIR", &self.directory).stdin(Stdio::null());
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_and_the_reason_are_read() {
        let said = reason("test on_etcd::it_works ... ignored, needs etcd: make test");
        assert_eq!(said, Some(("on_etcd::it_works".to_owned(), "needs etcd: make test".to_owned())));
        assert_eq!(reason("test it_works ... ok"), None);
    }
}
