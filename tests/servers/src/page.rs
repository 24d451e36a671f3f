//! Commands that stand in a page of the guide, run as they stand there.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::Command;

use crate::installed;

/// Runs the commands below a heading of a page, by `sh`, with these variables and with the registries' own tools on the
/// path. `tools` are scripts, by name, that stand for tools which are not there. What the commands say is returned.
///
/// # Panics
/// If the page has none there, or one of them fails; says what they have said.
pub async fn run(page: &str, heading: &str, variables: &[(&str, &str)], tools: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide").join(page);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let commands = commands(&text, heading);
    assert!(!commands.is_empty(), "{page} has no commands below {heading:?}");
    let own = TempDir::with_prefix("callboard").expect("a directory");
    for (name, script) in tools {
        let path = own.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("made a program");
    }
    let there = env::var_os("PATH").unwrap_or_default();
    let path = [own.path().to_owned(), installed::bin()].into_iter().chain(env::split_paths(&there));
    let mut shell = Command::new("sh");
    shell.args(["-eu", "-c", &commands]).env("PATH", env::join_paths(path).expect("a path"));
    let done = shell.envs(variables.iter().copied()).stdin(Stdio::null()).output().await.expect("there is a shell");
    let [said, complained] = [done.stdout, done.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(done.status.success(), "{page}, {heading}: {}: {said} {complained}", done.status);
    said
}

/// What stands in the blocks of shell below a heading, up to the next one.
fn commands(page: &str, heading: &str) -> String {
    let section = page.split("\n## ").find(|section| section.lines().next() == Some(heading)).unwrap_or_default();
    let blocks = section.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.collect()
}
