//! Holds the arrows between the crates, and the rules about where things stand, by `cargo metadata` and the source.
//!
//! Each rule is a function that returns complaints; a complaint says what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};

const FACADE: &str = "callboard";
const CORE: &str = "callboard-core";
const PROTOCOLS: &str = "callboard-protocols";
/// A file longer than this, its unit tests aside, has more than one idea in it.
const LONGEST_FILE: usize = 300;

/// The workspace as Cargo sees it.
struct Workspace(Metadata);

impl Workspace {
    /// Asks Cargo, for this platform alone. What the tests were not built with, such as the benches' dependencies, it
    /// may have to fetch.
    fn load() -> Self {
        let options = ["--locked".into(), "--filter-platform".into(), host()];
        let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).other_options(options).exec();
        Self(metadata.expect("`cargo metadata --locked` works where the tests were built"))
    }

    fn package(&self, name: &str) -> &Package {
        self.0.packages.iter().find(|package| package.name == name).unwrap_or_else(|| panic!("no package {name}"))
    }

    /// The crates in the folders of one directory, such as `backends`. There is at least one.
    fn in_directory(&self, directory: &str) -> Vec<&Package> {
        let directory = root().join(directory);
        let members = self.0.workspace_packages().into_iter();
        let found: Vec<_> = members.filter(|member| folder(member).parent() == Some(directory.as_path())).collect();
        assert!(!found.is_empty(), "no crate in {}", directory.display());
        found
    }

    fn backends_and_balancers(&self) -> Vec<&Package> {
        [self.in_directory("backends"), self.in_directory("balancers")].concat()
    }

    /// Those that are published.
    fn libraries(&self) -> impl Iterator<Item = &Package> {
        self.0
            .workspace_packages()
            .into_iter()
            .filter(|package| package.publish.as_ref().is_none_or(|to| !to.is_empty()))
    }

    /// All that a crate is built with, over any number of steps.
    fn reached_from<'a>(&'a self, package: &'a Package) -> BTreeSet<&'a str> {
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

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The platform that this test runs on, as `rustc` names it.
fn host() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().expect("rustc runs").stdout;
    let text = String::from_utf8(output).expect("rustc prints UTF-8");
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

fn folder(package: &Package) -> &Path {
    package.manifest_path.parent().expect("a manifest is in a folder").as_std_path()
}

/// What a crate's library needs itself: dependencies for tests alone are left out.
fn needs(package: &Package) -> impl Iterator<Item = &str> {
    package.dependencies.iter().filter(|dep| dep.kind != DependencyKind::Development).map(|dep| dep.name.as_str())
}

fn is_ours(name: &str) -> bool {
    name == FACADE || name.starts_with("callboard-")
}

/// The Rust files under a folder, without build output.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
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
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let files = rust_files(folder);
    assert!(!files.is_empty(), "no Rust file under {}", folder.display());
    let read = |path: PathBuf| {
        (path.strip_prefix(root()).expect("a file of ours").to_owned(), fs::read_to_string(path).expect("UTF-8"))
    };
    files.into_iter().map(read).collect()
}

#[track_caller]
fn hold(complaints: impl IntoIterator<Item = String>) {
    let complaints: Vec<_> = complaints.into_iter().collect();
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}

#[test]
fn a_backend_or_balancer_depends_on_core_and_no_other_crate_of_ours() {
    let workspace = Workspace::load();
    hold(workspace.backends_and_balancers().into_iter().filter_map(|package| {
        let ours: Vec<_> = needs(package).filter(|name| is_ours(name)).collect();
        (ours != [CORE]).then(|| {
            format!(
                "{} depends on {ours:?}: depend on {CORE} alone, and move there what several crates share",
                package.name
            )
        })
    }));
}

#[test]
fn protocols_know_core_and_no_other_crate_of_ours() {
    let workspace = Workspace::load();
    let package = workspace.package(PROTOCOLS);
    let ours: Vec<_> = needs(package).filter(|name| is_ours(name)).collect();
    hold((ours != [CORE]).then(|| format!("{PROTOCOLS} depends on {ours:?}: it may depend on {CORE} alone")));
}

#[test]
fn a_balancer_needs_no_runtime() {
    let workspace = Workspace::load();
    hold(workspace.in_directory("balancers").into_iter().flat_map(|package| {
        needs(package).filter(|name| name.starts_with("tokio")).map(|name| {
            format!(
                "{} depends on {name}: a balancer is synchronous; what waits belongs into the channel",
                package.name
            )
        })
    }));
}

#[test]
fn core_knows_no_transport_and_no_other_crate_of_ours() {
    let workspace = Workspace::load();
    let core = workspace.package(CORE);
    let reached = workspace.reached_from(core);
    assert!(reached.contains("tokio"), "the walk over the dependencies finds nothing: {reached:?}");
    let transport =
        |name: &&str| *name == "h2" || ["tonic", "hyper", "tower"].iter().any(|family| name.starts_with(family));
    let ours = |name: &&str| is_ours(name) && *name != CORE;
    hold(reached.into_iter().filter(|name| transport(name) || ours(name)).map(|name| {
        format!("{CORE} is built with {name}: what needs it belongs into the facade's src/, a backend or a balancer")
    }));
}

#[test]
fn nothing_depends_on_the_facade() {
    let workspace = Workspace::load();
    // The benches may, as users do: they are not published.
    let packages = workspace.libraries();
    let depends = |package: &&Package| package.dependencies.iter().any(|dep| dep.name == FACADE);
    hold(packages.filter(depends).map(|package| {
        format!("{} depends on {FACADE}: move its test to the workspace's tests/, or the code to {CORE}", package.name)
    }));
}

#[test]
fn folder_crate_and_feature_have_one_name() {
    let workspace = Workspace::load();
    let features = &workspace.package(FACADE).features;
    hold(workspace.backends_and_balancers().into_iter().flat_map(|package| {
        let name = folder(package).file_name().and_then(|name| name.to_str()).expect("a folder with a name");
        let mut complaints = Vec::new();
        if package.name != format!("callboard-{name}") {
            complaints.push(format!("{}: the crate in folder {name} is called callboard-{name}", package.name));
        }
        if !features.get(name).is_some_and(|turned_on| turned_on.contains(&format!("dep:callboard-{name}"))) {
            complaints.push(format!("{FACADE} needs the feature `{name} = [\"dep:callboard-{name}\"]` in Cargo.toml"));
        }
        complaints
    }));
}

#[test]
fn every_folder_of_a_backend_or_balancer_is_a_member() {
    let workspace = Workspace::load();
    let members: BTreeSet<_> = workspace.backends_and_balancers().into_iter().map(folder).collect();
    hold(
        ["backends", "balancers"]
            .iter()
            .flat_map(|directory| fs::read_dir(root().join(directory)).unwrap())
            .filter_map(|entry| {
                let path = entry.expect("a readable folder").path();
                let forgotten = path.join("Cargo.toml").exists() && !members.contains(path.as_path());
                forgotten.then(|| format!("{}: add it to the workspace's members in Cargo.toml", path.display()))
            }),
    );
}

#[test]
fn every_library_can_be_published() {
    let workspace = Workspace::load();
    hold(workspace.libraries().flat_map(|package| {
        let readme = package.readme.as_ref().is_some_and(|readme| folder(package).join(readme).exists());
        let licences = ["LICENSE-MIT", "LICENSE-APACHE"].iter().all(|text| folder(package).join(text).exists());
        let fields = [
            ("description", package.description.as_ref().is_some_and(|text| !text.is_empty())),
            ("license.workspace = true", package.license.is_some()),
            ("LICENSE-MIT and LICENSE-APACHE beside it", licences),
            ("repository.workspace = true", package.repository.is_some()),
            ("keywords", !package.keywords.is_empty()),
            ("categories", !package.categories.is_empty()),
            ("rust-version.workspace = true", package.rust_version.is_some()),
            ("readme, with the file that it names", readme),
        ];
        let missing = fields.into_iter().filter(|(_, there)| !there);
        missing.map(|(field, _)| format!("{}: Cargo.toml lacks {field}", package.name)).collect::<Vec<_>>()
    }));
}

#[test]
fn whoever_can_build_tonic_can_build_us() {
    let workspace = Workspace::load();
    let tonic = workspace.package("tonic").rust_version.as_ref();
    hold(workspace.libraries().filter(|package| package.rust_version.as_ref() != tonic).map(|package| {
        let ours = package.rust_version.as_ref().map(ToString::to_string);
        format!("{}: rust-version is {ours:?}, tonic's is {tonic:?}: set the workspace's to tonic's", package.name)
    }));
}

#[test]
fn h2_is_named_under_src_transport_alone() {
    let elsewhere = sources(&root().join("src")).into_iter().filter(|(path, _)| !path.starts_with("src/transport"));
    hold(elsewhere.filter(|(_, text)| names_h2(text)).map(|(path, _)| {
        format!("{} names h2: give src/transport a function that does what is needed", path.display())
    }));
}

/// Whether the crate's path is in the text, as a word of its own.
fn names_h2(text: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices("h2::").any(|(at, _)| !text[..at].ends_with(in_word))
}

#[test]
fn features_are_asked_for_in_the_facade_alone() {
    // One exception, for the reason that stands there.
    let excepted = Path::new("backends/zookeeper/src/client/tls.rs");
    let elsewhere = sources(&root()).into_iter().filter(|(path, _)| !path.starts_with("src") && path != excepted);
    let asks = |text: &str| text.lines().any(|line| line.contains("cfg") && line.contains(concat!("feature", " =")));
    hold(elsewhere.filter(|(_, text)| asks(text)).map(|(path, _)| {
        format!(
            "{} asks for a feature: features are in the facade's src/ alone, and only make things nameable",
            path.display()
        )
    }));
}

#[test]
fn a_file_has_one_idea() {
    let workspace = Workspace::load();
    let files = workspace.libraries().flat_map(|package| sources(&folder(package).join("src")));
    let own = files.filter(|(path, _)| path.file_name().is_none_or(|name| name != "tests.rs"));
    hold(own.filter_map(|(path, text)| {
        let lines = lines_before_tests(&text);
        (lines > LONGEST_FILE).then(|| {
            format!(
                "{} has {lines} lines before its tests: split it by idea into files of at most {LONGEST_FILE}",
                path.display()
            )
        })
    }));
}

/// How many lines come before the module of unit tests, if there is one in this file.
fn lines_before_tests(text: &str) -> usize {
    let lines: Vec<_> = text.lines().collect();
    let tests = lines
        .windows(2)
        .position(|two| two[0] == "#[cfg(test)]" && two[1].starts_with("mod ") && two[1].ends_with('{'));
    tests.unwrap_or(lines.len())
}

#[test]
fn the_searches_find_what_they_look_for() {
    assert!(names_h2("use h2::client;") && names_h2("(h2::Error)") && names_h2("::h2::x"));
    assert!(!names_h2("oh2::x") && !names_h2("_h2::x") && !names_h2("the h2 crate"));
    assert_eq!(lines_before_tests("a\n#[cfg(test)]\nmod tests {\n}\n"), 1);
    assert_eq!(lines_before_tests("#[cfg(test)]\nmod tests;\na\nb\n"), 4);
}
