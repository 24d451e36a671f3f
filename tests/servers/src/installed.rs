//! Where `make servers` has put the programs.

use std::env;
use std::path::{Path, PathBuf};

/// The program of this name in `target/servers/bin`, or where CALLBOARD_SERVERS says.
///
/// # Panics
/// If it is not there.
pub(crate) fn program(name: &str) -> PathBuf {
    existing(name, &bin().join(name))
}

/// Where the programs are.
pub(crate) fn bin() -> PathBuf {
    directory().join("bin")
}

/// What Java's `-cp` takes for a ZooKeeper.
///
/// # Panics
/// If it is not there.
pub(crate) fn zookeeper() -> PathBuf {
    existing("ZooKeeper", &directory().join("zookeeper/lib")).join("*")
}

/// Java, by CALLBOARD_JAVA, JAVA_HOME or PATH.
pub(crate) fn java() -> PathBuf {
    let named = env::var_os("CALLBOARD_JAVA").filter(|java| !java.is_empty()).map(PathBuf::from);
    let home = || env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java")).filter(|java| java.exists());
    named.or_else(home).unwrap_or_else(|| "java".into())
}

fn directory() -> PathBuf {
    let named = env::var_os("CALLBOARD_SERVERS").filter(|directory| !directory.is_empty());
    named.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/servers"), PathBuf::from)
}

fn existing(name: &str, path: &Path) -> PathBuf {
    assert!(path.exists(), "{name} is not in {}: run 'make servers'", shown());
    path.to_owned()
}

fn shown() -> String {
    env::var("CALLBOARD_SERVERS").ok().filter(|named| !named.is_empty()).unwrap_or_else(|| "target/servers".to_owned())
}
