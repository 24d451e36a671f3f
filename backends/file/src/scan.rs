//! All records of a service and its config, as they are now.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use callboard_core::{Result, Service, Snapshot, decode};

use crate::config::{self, Config};
use crate::content::Content;
use crate::failure::{BACKEND, failed};
use crate::place::{Place, id};
use crate::record::{Found, look};

/// The records that count, by id: those whose owner lives, and those that nobody can read.
type Records = BTreeMap<String, Content>;

/// What there is of a service.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Board {
    records: Records,
    config: Option<Config>,
}

/// Reads it. `before` is what there was the last time.
pub(crate) fn scan(place: &Place, before: Option<&Board>) -> Result<Board> {
    let records = scan_records(place, before.map(|before| &before.records))?;
    let config = config::look(place, before.and_then(|before| before.config.as_ref()))?;
    // What was missed because the root was moved away meanwhile is not gone.
    place.check_root()?;
    Ok(Board { records, config })
}

/// Reads the records. `before` are those of the last time.
///
/// A file that is replaced while a directory is listed may be missed by the list, on some file systems. So the first
/// time there are two lists, and later the ids of the last time are looked for too: no update can look like a gap.
fn scan_records(place: &Place, before: Option<&Records>) -> Result<Records> {
    let mut ids = listed(&place.folder)?;
    match before {
        Some(before) => ids.extend(before.keys().cloned()),
        None => ids.append(&mut listed(&place.folder)?),
    }
    let mut records = Records::new();
    for id in ids {
        if let Some(found) = look(&place.record(&id))?
            && !is_stale(&found)
        {
            records.insert(id, found.stored);
        }
    }
    Ok(records)
}

/// Whether it was left behind by an owner who is dead. Garbage is not: callboard writes none, so it is not ours to judge.
pub(crate) fn is_stale(found: &Found) -> bool {
    !found.held && found.stored.as_ref().is_ok_and(|stored| decode(stored).is_ok())
}

fn listed(folder: &Path) -> Result<BTreeSet<String>> {
    Ok(names(folder)?.iter().filter_map(|name| id(name)).map(str::to_owned).collect())
}

/// The names of all that is in a directory. A directory that is not there is empty.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    let cannot_list = |answer| failed("list", folder, answer);
    let entries = match fs::read_dir(folder) {
        Err(answer) if answer.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(cannot_list)?,
    };
    entries.map(|entry| Ok(entry.map_err(cannot_list)?.file_name().to_string_lossy().into_owned())).collect()
}

/// What the records say, and the config beside them.
pub(crate) fn snapshot(place: &Place, service: &Service, Board { records, config }: &Board) -> Snapshot {
    let path = |id: &str| place.record(id).display().to_string();
    let readable = records.iter().filter_map(|(id, stored)| Some((path(id), stored.as_ref().ok()?)));
    let mut snapshot = Snapshot::from_records(BACKEND, service, readable);
    for (id, why) in records.iter().filter_map(|(id, stored)| Some((id, stored.as_ref().err()?))) {
        snapshot.skipped += 1;
        tracing::warn!(backend = BACKEND, %service, key = path(id), error = why, "record skipped");
    }
    if let Some(Config { stored, unreadable }) = config {
        snapshot.config = Some(Arc::clone(stored));
        if let Some(why) = unreadable {
            let path = place.config();
            tracing::warn!(backend = BACKEND, %service, path = %path.display(), error = why, "the config cannot be read");
        }
    }
    snapshot
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use callboard_core::ErrorKind;

    use super::*;

    fn place(root: PathBuf) -> Place {
        Place { folder: root.join("s"), root, mode: 0o755 }
    }

    #[test]
    fn nobody_is_there_only_where_the_root_is() {
        let root = tempfile::TempDir::new().expect("a directory");
        let records = Records::from([("a".to_owned(), Ok(Vec::new()))]);
        let config = Some(Config { stored: Arc::default(), unreadable: None });
        let before = Board { records, config };
        for before in [None, Some(&before)] {
            assert_eq!(scan(&place(root.path().to_owned()), before).expect("an empty set"), Board::default());
            let error = scan(&place(root.path().join("gone")), before).expect_err("out of reach");
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        }
    }
}
