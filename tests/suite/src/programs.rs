//! The test programs that Cargo builds.

use std::io::{self, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use cargo_metadata::{Artifact, Message};

/// What the suite is of. The benches have a feature set of their own, so everything would be built twice.
pub(crate) const WORKSPACE: [&str; 3] = ["--workspace", "--exclude", "callboard-bench"];

/// Those that measure time, or keep the processors busy: they are run when nothing else is.
const ALONE: &[&str] = &[
    "callboard/deadlines_unpolled",
    "callboard/fair_places",
    "callboard/faults_neighbours",
    "callboard/hostile",
    "callboard/load_grpc_go",
    "callboard/load_neighbour",
    "callboard/load_reports",
    "callboard/lookaside_load",
    "callboard/shared_deadlines",
    "callboard/soak",
    "callboard/windows",
    "callboard/windows_grpc_go",
    "callboard/young_connections",
    "callboard-consul/many",
    "callboard-consul/scripted",
    "callboard-core/simulation",
    "callboard-etcd/costs",
    "callboard-etcd/many",
    "callboard-interleavings/all",
    "callboard-interop/suite",
    "callboard-proxy-tests/real",
    "callboard-registry-tests/consul",
    "callboard-registry-tests/etcd",
    "callboard-registry-tests/file",
    "callboard-registry-tests/zookeeper",
    "callboard-zookeeper/scale",
];

/// One test program.
#[derive(Debug)]
pub(crate) struct Program {
    /// `package/target`, such as `callboard/windows`.
    pub(crate) name: String,
    pub(crate) executable: PathBuf,
    /// The package's, in which it is run, as Cargo does.
    pub(crate) directory: PathBuf,
}

impl Program {
    /// Whether nothing else is to run beside it.
    pub(crate) fn is_alone(&self) -> bool {
        ALONE.contains(&self.name.as_str())
    }

    fn of(artifact: Artifact) -> Option<Self> {
        let executable = artifact.executable.filter(|_| artifact.profile.test)?;
        let directory = artifact.manifest_path.parent()?;
        // Of `path+file:///x#name@1.0.0`, and `path+file:///x/name#1.0.0`, the name.
        let id = artifact.package_id.repr;
        let (path, version) = id.rsplit_once('#')?;
        let package = version.split_once('@').map_or_else(|| path.rsplit('/').next(), |(name, _)| Some(name))?;
        Some(Self {
            name: format!("{package}/{}", artifact.target.name),
            executable: executable.into(),
            directory: directory.into(),
        })
    }
}

/// The Cargo that has started this, or the one on PATH. What that one says of this package is kept from it: build scripts
/// that look at it would be run again.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let ours = name.to_str().is_some_and(|name| OF_A_PACKAGE.iter().any(|of| name.starts_with(of)));
        if ours {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// What the variables begin with that Cargo sets for the package that it runs.
const OF_A_PACKAGE: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"];

/// Has Cargo build all test programs, and says which there are.
pub(crate) fn build() -> io::Result<Vec<Program>> {
    let mut cargo = cargo()
        .args(["test", "--no-run", "--message-format=json-render-diagnostics"])
        .args(WORKSPACE)
        .stdout(Stdio::piped())
        .spawn()?;
    let said = cargo.stdout.take().ok_or_else(|| io::Error::other("cargo has no output"))?;
    let mut programs = Vec::new();
    for message in Message::parse_stream(BufReader::new(said)) {
        if let Message::CompilerArtifact(artifact) = message? {
            programs.extend(Program::of(artifact));
        }
    }
    let status = cargo.wait()?;
    if !status.success() || programs.is_empty() {
        return Err(io::Error::other(format!("cargo has ended with {status}")));
    }
    match ALONE.iter().find(|name| !programs.iter().any(|program| program.name == **name)) {
        Some(gone) => Err(io::Error::other(format!("{gone} is to run alone, and there is no such program"))),
        None => Ok(programs),
    }
}
