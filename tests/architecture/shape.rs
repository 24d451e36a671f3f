//! Every backend has one shape, so that who knows one knows all.

use std::collections::BTreeSet;

use super::workspace::{Workspace, folder, hold, rust_files};

/// The parts of a backend: files in its `src`, each with a folder below it where it needs one.
const PARTS: [&str; 10] =
    ["lib", "registry", "builder", "url", "client", "lease", "watch", "record", "config", "error"];

/// Beside the parts: what fuzz targets reach, and unit tests of the crate as a whole.
const BESIDE: [&str; 2] = ["fuzzing", "tests"];

/// Backends that lack parts, and why.
const LACKING: [(&str, &[&str], &str); 1] = [("callboard-file", &["client"], "its client is the file system")];

/// Backends without the shape, and why.
const SHAPELESS: [(&str, &str); 1] =
    [("callboard-memory", "it is a map in the process: no settings, no server, no records")];

/// Complaints about the shape of a backend, given the names at the top of its `src`.
fn complaints(name: &str, found: &BTreeSet<String>) -> Vec<String> {
    if SHAPELESS.iter().any(|(backend, _)| *backend == name) {
        return Vec::new();
    }
    let lacking = LACKING.iter().filter(|(backend, ..)| *backend == name).flat_map(|(_, parts, _)| *parts);
    let lacking: BTreeSet<_> = lacking.collect();
    let missing = PARTS.iter().filter(|part| !lacking.contains(part) && !found.contains(**part));
    let missing = missing.map(|part| format!("{name} lacks src/{part}.rs: every backend has {PARTS:?}"));
    let known = |part: &str| PARTS.contains(&part) || BESIDE.contains(&part);
    let strangers = found.iter().filter(|part| !known(part));
    let strangers =
        strangers.map(|part| format!("{name}: move src/{part} below the part that it belongs to, of {PARTS:?}"));
    missing.chain(strangers).collect()
}

#[test]
fn every_backend_has_one_shape() {
    let workspace = Workspace::load();
    hold(workspace.in_directory("backends").into_iter().flat_map(|package| {
        let src = folder(package).join("src");
        let names = rust_files(&src).into_iter().filter_map(|path| {
            let top = path.strip_prefix(&src).ok()?.components().next()?.as_os_str().to_str()?;
            Some(top.trim_end_matches(".rs").to_owned())
        });
        complaints(&package.name, &names.collect())
    }));
}

#[test]
fn a_part_that_is_missing_or_unknown_is_found() {
    let parts = |more: &[&str]| PARTS.iter().chain(more).map(|part| (*part).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(complaints("callboard-x", &parts(&["fuzzing"])), Vec::<String>::new());
    let strange = complaints("callboard-x", &parts(&["board"]));
    assert!(matches!(&strange[..], [one] if one.contains("src/board")), "{strange:?}");
    let mut without = parts(&[]);
    without.remove("client");
    let missing = complaints("callboard-x", &without);
    assert!(matches!(&missing[..], [one] if one.contains("lacks src/client.rs")), "{missing:?}");
    assert_eq!(complaints("callboard-file", &without), Vec::<String>::new());
}
