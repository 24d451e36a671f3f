//! What the crates depend on, and that each can be published.

use std::collections::BTreeSet;
use std::fs;

use cargo_metadata::Package;

use super::workspace::{CORE, FACADE, PROTOCOLS, Workspace, folder, hold, is_ours, needs, root};

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
