//! No circle of modules, and in the facade arrows that run only downwards.
//!
//! A file and the folder of its submodules are one unit, seen from outside. Within the folder each submodule is one. A
//! submodule may use what its parent has, as is usual in Rust, so that the parent is no part of a circle there.

use std::collections::{BTreeMap, BTreeSet};

use super::modules::{Arrow, Modules};
use super::paths::Path;
use super::workspace::{FACADE, Workspace, folder, hold, root, sources};

/// The floors of the facade's `src/`, from the bottom, with the folders and files on each. A module may use those on its
/// own floor and below.
const FLOORS: &[&[&str]] = &[
    &["transport"],
    &["grpc"],
    &["config"],
    &["control"],
    &["call"],
    &["lookaside"],
    &["channel", "builder", "features"],
    &["dial"],
    &["serve"],
    &["load", "guide"],
];

/// Circles that stay, each with its crate, the folder that it is in, and why.
const ALLOWED: [(&str, &str, &str); 1] = [(
    "callboard-core",
    "{error, service_name}",
    "an error says which service it is about, and a text that is no service's name is an error",
)];

/// The modules of the crate in this folder.
fn modules(crate_folder: &std::path::Path) -> Modules {
    let src = crate_folder.join("src");
    let below = src.strip_prefix(root()).expect("a folder of ours").to_owned();
    let files = sources(&src);
    let named = files.iter().map(|(path, text)| (path.strip_prefix(&below).expect("below it"), text));
    Modules::read(named.map(|(path, text)| (path.to_str().expect("UTF-8"), text.as_str())))
}

/// The units of one folder, and the arrows by which each leads to others of them.
type Units<'a> = BTreeMap<&'a str, Vec<(&'a str, &'a Arrow)>>;

/// The arrows between the units of one folder.
fn between<'a>(folder: &[String], arrows: &'a BTreeSet<Arrow>) -> Units<'a> {
    let mut units = Units::new();
    for arrow in arrows {
        let within = |path: &'a Path| path.get(folder.len()).filter(|_| path.starts_with(folder));
        if let (Some(from), Some(to)) = (within(&arrow.from), within(&arrow.to))
            && from != to
        {
            units.entry(from).or_default().push((to, arrow));
        }
    }
    units
}

/// All units to which arrows lead from this one, over any number of steps.
fn reached<'a>(units: &Units<'a>, from: &'a str) -> BTreeSet<&'a str> {
    let (mut reached, mut todo) = (BTreeSet::new(), vec![from]);
    while let Some(unit) = todo.pop() {
        let next = units.get(unit).into_iter().flatten().map(|(to, _)| *to);
        todo.extend(next.filter(|to| reached.insert(*to)));
    }
    reached
}

/// A complaint for each circle of modules, with the arrows in it.
fn circles(modules: &Modules) -> Vec<String> {
    let arrows = modules.arrows();
    let in_folder = |folder: Path| {
        let units = between(&folder, &arrows);
        let reached: BTreeMap<_, _> = units.keys().map(|unit| (*unit, reached(&units, unit))).collect();
        let both = |one: &str, other: &str| {
            let leads = |from: &str, to: &str| reached.get(from).is_some_and(|reached| reached.contains(to));
            leads(one, other) && leads(other, one)
        };
        let rings: BTreeSet<Vec<&str>> = units
            .keys()
            .map(|unit| units.keys().copied().filter(|other| both(unit, other)).collect())
            .filter(|ring: &Vec<_>| ring.len() > 1)
            .collect();
        rings.iter().map(|ring| complaint(&folder, ring, &units)).collect::<Vec<_>>()
    };
    modules.folders().into_iter().flat_map(in_folder).collect()
}

fn complaint(folder: &[String], ring: &[&str], units: &Units<'_>) -> String {
    let within = ring.iter().flat_map(|unit| &units[unit]).filter(|(to, _)| ring.contains(to));
    let arrows: Vec<_> = within.map(|(_, arrow)| shown(arrow)).collect();
    format!(
        "{}{{{}}} name each other in a circle: move what both need below them\n    {}",
        folder.iter().map(|name| format!("{name}::")).collect::<String>(),
        ring.join(", "),
        arrows.join("\n    ")
    )
}

fn shown(arrow: &Arrow) -> String {
    format!("{} names {}", arrow.from.join("::"), arrow.by.join("::"))
}

/// A complaint for each arrow that runs upwards, and for each module that is on no floor. Floors are given from the
/// bottom.
fn upward(modules: &Modules, floors: &[&[&str]]) -> Vec<String> {
    let floor = |name: &str| floors.iter().position(|floor| floor.contains(&name));
    let strangers = modules.below(&[]).into_iter().filter(|name| floor(name).is_none());
    let unplaced = strangers.map(|name| format!("{name} is on no floor: add it to the list, at its place"));
    let of = |path: &Path| path.first().and_then(|name| floor(name));
    let arrows = modules.arrows();
    let up = arrows.iter().filter(|arrow| of(&arrow.from).is_some() && of(&arrow.from) < of(&arrow.to));
    unplaced.chain(up.map(|arrow| format!("{}, which is above it", shown(arrow)))).collect()
}

#[test]
fn no_library_has_a_circle_of_modules() {
    let workspace = Workspace::load();
    let libraries = workspace.libraries().filter(|package| package.name != FACADE);
    hold(libraries.flat_map(|package| {
        let allowed = ALLOWED.iter().filter(|(name, ..)| *name == package.name.as_str());
        let allowed: Vec<_> = allowed.map(|(_, circle, _)| *circle).collect();
        let mut circles = circles(&modules(folder(package)));
        circles.retain(|circle| !allowed.iter().any(|allowed| circle.starts_with(allowed)));
        let named = |circle| format!("{}: {circle}", package.name);
        circles.into_iter().map(named).collect::<Vec<_>>()
    }));
}

#[test]
fn the_facade_has_no_circle_of_modules() {
    hold(circles(&modules(&root())));
}

#[test]
fn inside_the_facade_arrows_run_only_downwards() {
    hold(upward(&modules(&root()), FLOORS));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> Modules {
        Modules::read(files.iter().copied())
    }

    fn rings(files: &[(&str, &str)]) -> Vec<String> {
        circles(&read(files)).iter().map(|text| text.split(" name").next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn a_circle_is_found_whatever_its_length() {
        let two = [("a.rs", "use crate::b::X;"), ("b.rs", "fn f() { crate::a::g() }")];
        assert_eq!(rings(&two), ["{a, b}"]);
        let three = [
            ("a.rs", "use crate::b;"),
            ("b.rs", "use crate::c;"),
            ("c.rs", "use super::a;"),
            ("d.rs", "use crate::a;"),
        ];
        assert_eq!(rings(&three), ["{a, b, c}"]);
        let through_folders =
            [("a/x.rs", "use crate::b;"), ("b/y.rs", "use crate::a::z;"), ("a.rs", ""), ("b.rs", ""), ("a/z.rs", "")];
        assert_eq!(rings(&through_folders), ["{a, b}"]);
        let within = [("a.rs", ""), ("a/x.rs", "use super::y;"), ("a/y.rs", "use crate::a::x::X;")];
        assert_eq!(rings(&within), ["a::{x, y}"]);
        let through_a_reexport =
            [("a.rs", "pub use self::x::X;"), ("a/x.rs", "use super::y;"), ("a/y.rs", "use super::X;")];
        assert_eq!(rings(&through_a_reexport), ["a::{x, y}"]);
    }

    #[test]
    fn a_child_may_use_its_parent_and_a_tree_has_no_circle() {
        let tree = [
            ("lib.rs", "mod a; mod b; pub use b::B;"),
            ("a.rs", "mod x; use self::x::X; use crate::b::B;"),
            ("a/x.rs", "use super::Own; use crate::B;"),
            ("b.rs", "#[cfg(test)] mod tests { use crate::a; }"),
        ];
        assert_eq!(rings(&tree), Vec::<String>::new());
    }

    #[test]
    fn an_arrow_that_runs_upwards_is_found_and_a_module_without_a_floor() {
        let files = [("low.rs", "use crate::high::H;"), ("high.rs", "use crate::low::L;"), ("new.rs", "")];
        let complaints = upward(&read(&files), &[&["low"], &["high"]]);
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].starts_with("new is on no floor"), "{complaints:?}");
        assert!(complaints[1].starts_with("low names high::H"), "{complaints:?}");
        assert_eq!(upward(&read(&files[1..2]), &[&["low"], &["high"]]), Vec::<String>::new());
    }
}
