//! The modules of a crate, and which of them names which.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::{Named, Path, named};

/// A re-export may lead to another one, but not for ever.
const MOST_REEXPORTS: usize = 16;

/// The modules of one crate, by their paths. The root is the empty path.
#[derive(Debug)]
pub(crate) struct Modules(BTreeMap<Path, Named>);

/// That a module names another one, neither of which is in the other.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrow {
    pub(crate) from: Path,
    pub(crate) to: Path,
    /// The path as it is named.
    pub(crate) by: Path,
}

impl Modules {
    /// Reads the files of a crate: their paths below its `src`, and their texts. Files of unit tests and of programs are
    /// left out.
    pub(crate) fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let read = |(file, text)| {
            let path = module(file)?;
            let named = named(&path, text);
            Some((path, named))
        };
        Self(files.into_iter().filter_map(read).collect())
    }

    /// The modules directly below this one.
    pub(crate) fn below(&self, folder: &[String]) -> BTreeSet<String> {
        let deeper = self.0.keys().filter(|path| path.len() > folder.len() && path.starts_with(folder));
        deeper.map(|path| path[folder.len()].clone()).collect()
    }

    /// All modules that have others below them.
    pub(crate) fn folders(&self) -> BTreeSet<Path> {
        self.0.keys().flat_map(|path| (0..path.len()).map(|length| path[..length].to_vec())).collect()
    }

    /// All arrows. None leads to a module from one within it, or back: a child may use what its parent has.
    pub(crate) fn arrows(&self) -> BTreeSet<Arrow> {
        let named = self.0.iter().flat_map(|(from, named)| named.paths.iter().map(move |by| (from, by)));
        let arrows = named.map(|(from, by)| Arrow { from: from.clone(), to: self.resolve(by, 0), by: by.clone() });
        arrows.filter(|Arrow { from, to, .. }| !from.starts_with(to) && !to.starts_with(from)).collect()
    }

    /// The module that a path leads to, through re-exports.
    fn resolve(&self, path: &[String], steps: usize) -> Path {
        let mut module = Path::new();
        for (index, segment) in path.iter().enumerate() {
            let deeper = [module.as_slice(), std::slice::from_ref(segment)].concat();
            if self.0.contains_key(&deeper) {
                module = deeper;
                continue;
            }
            let reexported = self.0.get(&module).and_then(|named| named.names.get(segment));
            return match reexported {
                Some(to) if steps < MOST_REEXPORTS => {
                    self.resolve(&[to.as_slice(), &path[index + 1..]].concat(), steps + 1)
                }
                _ => module,
            };
        }
        module
    }
}

/// The module that a file is.
fn module(file: &str) -> Option<Path> {
    let file = file.strip_suffix(".rs")?;
    let mut path: Path = file.split('/').map(str::to_owned).collect();
    match path.last()?.as_str() {
        "lib" if path.len() == 1 => path.clear(),
        "main" | "tests" => return None,
        "mod" => drop(path.pop()),
        _ => {}
    }
    (path.first().map(String::as_str) != Some("bin")).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrows(files: &[(&str, &str)]) -> Vec<String> {
        let arrows = Modules::read(files.iter().copied()).arrows();
        arrows.iter().map(|arrow| format!("{} -> {}", arrow.from.join("::"), arrow.to.join("::"))).collect()
    }

    #[test]
    fn arrows_lead_to_the_file_that_has_the_item() {
        let files = [
            ("lib.rs", "mod a; mod b; pub use a::Item;"),
            ("a.rs", "mod deep; pub(crate) use self::deep::Item;"),
            ("a/deep.rs", "use super::other::Thing; use super::Own;"),
            ("a/other.rs", "use crate::b::own;"),
            ("b/mod.rs", "use crate::Item; use crate::Own; use std::fmt;"),
            ("b/tests.rs", "use crate::a;"),
        ];
        assert_eq!(arrows(&files), ["a::deep -> a::other", "a::other -> b", "b -> a::deep"]);
    }

    #[test]
    fn re_exports_in_a_circle_come_to_an_end() {
        let circle = [("a.rs", "pub use crate::b::X;"), ("b.rs", "pub use crate::a::X;")];
        assert!(!arrows(&circle).is_empty());
    }
}
