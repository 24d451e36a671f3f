//! All records of a service and its config, as they are now.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use callboard_core::{Error, Record, RecordReader, Remark, Result, Snapshot, decode};

use crate::config::{self, Config};
use crate::failure::{BACKEND, failed};
use crate::place::{Place, id};
use crate::record::{Found, look};
use crate::stamp::Stamp;

/// The files of records, by id.
type Records = BTreeMap<String, Known>;

/// What is known of a file. It is read and then kept as what it says, so that no more than one is in memory as it is.
#[derive(Clone, Debug)]
struct Known {
    held: bool,
    stamp: Option<Stamp>,
    /// None if it was left behind by an owner who is dead, and does not count.
    record: Option<Record>,
}

/// What the file says is what there is to compare.
impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        self.record == other.record
    }
}

impl Eq for Known {}

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
    let (mut records, mut reader) = (Records::new(), RecordReader::new(BACKEND));
    for id in ids {
        let path = place.record(&id);
        if let Some(found) = look(&path)? {
            let before = before.and_then(|before| before.get(&id));
            records.insert(id.clone(), known(&path.display().to_string(), &id, &found, before, &mut reader));
        }
    }
    Ok(records)
}

/// What there is to know of a file. One that is as it was is not read again.
fn known(path: &str, id: &str, found: &Found, before: Option<&Known>, reader: &mut RecordReader) -> Known {
    let Found { held, stored, stamp } = found;
    let unchanged = before.filter(|before| before.held == *held && before.stamp.is_some() && before.stamp == *stamp);
    if let Some(unchanged) = unchanged {
        unchanged.record.iter().for_each(|record| reader.keep(record));
        return unchanged.clone();
    }
    let record = match stored {
        _ if is_stale(found) => None,
        Ok(stored) => Some(reader.read(path, id, stored)),
        Err(why) => Some(Record::unreadable(BACKEND, path, &Error::invalid(why.clone()))),
    };
    // What has not changed stays the same allocation.
    let same = before.map(|before| before.record.clone()).filter(|before| *before == record);
    Known { held: *held, stamp: *stamp, record: same.unwrap_or(record) }
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
pub(crate) fn snapshot(place: &Place, Board { records, config }: &Board) -> Snapshot {
    let mut snapshot: Snapshot = records.values().filter_map(|known| known.record.as_ref()).collect();
    if let Some(Config { stored, unreadable }) = config {
        snapshot.config = Some(Arc::clone(stored));
        if let Some(why) = unreadable {
            let path = place.config();
            let remark = Remark::new(BACKEND, &path.display().to_string(), format!("the config cannot be read: {why}"));
            snapshot.remarks.push(Arc::new(remark));
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
        let why = Error::invalid("broken on purpose");
        let record = Some(Record::unreadable(BACKEND, "a", &why));
        let records = Records::from([("a".to_owned(), Known { held: true, stamp: None, record })]);
        let config = Some(Config { stored: Arc::default(), unreadable: None });
        let before = Board { records, config };
        for before in [None, Some(&before)] {
            assert_eq!(scan(&place(root.path().to_owned()), before).expect("an empty set"), Board::default());
            let error = scan(&place(root.path().join("gone")), before).expect_err("out of reach");
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        }
    }
}
