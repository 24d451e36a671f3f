//! What the micro-benches have found.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

/// Nanoseconds, the median, by the bench's name: `pick/weighted-2/1000`.
pub(crate) type Estimates = BTreeMap<String, f64>;

#[derive(Deserialize)]
struct File {
    median: Median,
}

#[derive(Deserialize)]
struct Median {
    point_estimate: f64,
}

/// Reads what criterion has written under its folder. Nothing, if it has not run.
pub(crate) fn read(folder: &Path) -> Estimates {
    let mut found = Estimates::new();
    for (group, depth) in [("pick", 2), ("membership", 1)] {
        collect(&folder.join(group), group, depth, &mut found);
    }
    found
}

fn collect(folder: &Path, name: &str, depth: usize, found: &mut Estimates) {
    if depth == 0 {
        let file = fs::read(folder.join("new").join("estimates.json")).ok();
        if let Some(file) = file.and_then(|text| serde_json::from_slice::<File>(&text).ok()) {
            found.insert(name.to_owned(), file.median.point_estimate);
        }
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let child = entry.file_name().to_string_lossy().into_owned();
        collect(&entry.path(), &format!("{name}/{child}"), depth - 1, found);
    }
}
