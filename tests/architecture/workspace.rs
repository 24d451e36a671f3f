//! The workspace as Cargo and the file system show it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};

pub(crate) const FACADE: &str = "callboard";
pub(crate) const CORE: &str = "callboard-core";
pub(crate) const PROTOCOLS: &str = "callboard-protocols";

/// The workspace as Cargo sees it.
pub(crate) struct Workspace(Metadata);

impl Workspace {
    /// Asks Cargo, for this platform alone. What the tests were not built with, such as the benches' dependencies, it
    /// may have to fetch.
    pub(crate) fn load() -> Self {
        let options = ["--locked".into(), "--filter-platform".into(), host()];
        let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).other_options(options).exec();
        Self(metadata.expect("`cargo metadata --locked` works where the tests were built"))
    }

    pub(crate) fn package(&self, name: &str) -> &Package {
        self.0.packages.iter().find(|package| package.name == name).unwrap_or_else(|| panic!("no package {name}"))
    }

    /// The crates in the folders of one directory, such as `backends`. There is at least one.
    pub(crate) fn in_directory(&self, directory: &str) -> Vec<&Package> {
        let directory = root().join(directory);
        let members = self.0.workspace_packages().into_iter();
        let found: Vec<_> = members.filter(|member| folder(member).parent() == Some(directory.as_path())).collect();
        assert!(!found.is_empty(), "no crate in {}", directory.display());
        found
    }

    pub(crate) fn backends_and_balancers(&self) -> Vec<&Package> {
        [self.in_directory("backends"), self.in_directory("balancers")].concat()
    }

    /// Those that are published.
    pub(crate) fn libraries(&self) -> impl Iterator<Item = &Package> {
        self.0
            .workspace_packages()
            .into_iter()
            .filter(|package| package.publish.as_ref().is_none_or(|to| !to.is_empty()))
    }

    /// All that a crate is built with, over any number of steps.
    pub(crate) fn reached_from<'a>(&'a self, package: &'a Package) -> BTreeSet<&'a str> {
        let resolve = self.0.resolve.as_ref().expect("dependencies were asked for");
        let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
        let mut reached = BTreeSet::from([&package.id]);
        let mut todo = vec![&package.id];
        while let Some(node) = todo.pop().and_then(|id| nodes.get(id)) {
            let normal =
                |dep: &&cargo_metadata::NodeDep| dep.dep_kinds.iter().any(|k| k.kind == DependencyKind::Normal);
            todo.extend(node.deps.iter().filter(normal).map(|dep| &dep.pkg).filter(|id| reached.insert(id)));
        }
        reached.into_iter().map(|id| self.0[id].name.as_str()).collect()
    }
}

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The platform that this test runs on, as `rustc` names it.
fn host() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().expect("rustc runs").stdout;
    let text = String::from_utf8(output).expect("rustc prints UTF-8");
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

pub(crate) fn folder(package: &Package) -> &Path {
    package.manifest_path.parent().expect("a manifest is in a folder").as_std_path()
}

/// What a crate's library needs itself: dependencies for tests alone are left out.
pub(crate) fn needs(package: &Package) -> impl Iterator<Item = &str> {
    package.dependencies.iter().filter(|dep| dep.kind != DependencyKind::Development).map(|dep| dep.name.as_str())
}

pub(crate) fn is_ours(name: &str) -> bool {
    name == FACADE || name.starts_with("callboard-")
}

/// The Rust files under a folder, without build output.
pub(crate) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a readable folder").path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let built = path.file_name().is_some_and(|name| name == "target");
        if path.is_dir() && !hidden && !built {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Path within the workspace, and text.
pub(crate) fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let files = rust_files(folder);
    assert!(!files.is_empty(), "no Rust file under {}", folder.display());
    let read = |path: PathBuf| {
        (path.strip_prefix(root()).expect("a file of ours").to_owned(), fs::read_to_string(path).expect("UTF-8"))
    };
    files.into_iter().map(read).collect()
}

#[track_caller]
pub(crate) fn hold(complaints: impl IntoIterator<Item = String>) {
    let complaints: Vec<_> = complaints.into_iter().collect();
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}
