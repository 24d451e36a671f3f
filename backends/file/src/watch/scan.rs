//! All records of a service and its config, as they are now.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use callboard_core::{Error, Record, RecordReader, Remark, Result, Snapshot};

use crate::config::{self, Config};
use crate::error::BACKEND;
use crate::record::{Found, Layout, Stamp, id, look, names_in};

/// The files of records, by id.
type Records = BTreeMap<String, Known>;

/// What is known of a file. What it says is kept as a record, so that the text of only one file is in memory at a time.
#[derive(Clone, Debug)]
struct Known {
    held: bool,
    stamp: Option<Stamp>,
    /// None if its owner is dead. Such a file does not count.
    record: Option<Record>,
}

/// Two are equal if the files say the same.
impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        self.record == other.record
    }
}

impl Eq for Known {}

/// All that is stored of a service.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceFiles {
    records: Records,
    config: Option<Config>,
}

/// Reads it. `before` is what there was the last time.
pub(crate) fn scan(layout: &Layout, before: Option<&ServiceFiles>) -> Result<ServiceFiles> {
    let records = scan_records(layout, before.map(|before| &before.records))?;
    let config = config::look(layout, before.and_then(|before| before.config.as_ref()))?;
    // What was missed because the root was moved away meanwhile is not gone.
    layout.check_root()?;
    Ok(ServiceFiles { records, config })
}

/// Reads the records. `before` are those of the last time.
///
/// A file that is replaced while a directory is listed may be missed by the list, on some file systems. So the first
/// time there are two lists, and later the ids of the last time are looked for too: no update can look like a gap.
fn scan_records(layout: &Layout, before: Option<&Records>) -> Result<Records> {
    let mut ids = listed(&layout.folder)?;
    match before {
        Some(before) => ids.extend(before.keys().cloned()),
        None => ids.append(&mut listed(&layout.folder)?),
    }
    let (mut records, mut reader) = (Records::new(), RecordReader::new(BACKEND));
    for id in ids {
        let path = layout.record(&id);
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
        _ if found.is_stale() => None,
        Ok(stored) => Some(reader.read(path, id, stored)),
        Err(why) => Some(Record::unreadable(BACKEND, path, &Error::invalid(why.clone()))),
    };
    // What has not changed stays the same allocation.
    let same = before.map(|before| before.record.clone()).filter(|before| *before == record);
    Known { held: *held, stamp: *stamp, record: same.unwrap_or(record) }
}

fn listed(folder: &Path) -> Result<BTreeSet<String>> {
    Ok(names_in(folder)?.iter().filter_map(|name| id(name)).map(str::to_owned).collect())
}

/// What the records say, and the config beside them.
pub(crate) fn snapshot(layout: &Layout, ServiceFiles { records, config }: &ServiceFiles) -> Snapshot {
    let mut snapshot: Snapshot = records.values().filter_map(|known| known.record.as_ref()).collect();
    if let Some(Config { stored, unreadable }) = config {
        snapshot.config = Some(Arc::clone(stored));
        if let Some(why) = unreadable {
            let path = layout.config();
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

    fn layout(root: PathBuf) -> Layout {
        Layout { folder: root.join("s"), root, mode: 0o755 }
    }

    #[test]
    fn a_set_is_empty_only_where_the_root_is_there() {
        let root = tempfile::TempDir::new().expect("a directory");
        let why = Error::invalid("broken on purpose");
        let record = Some(Record::unreadable(BACKEND, "a", &why));
        let records = Records::from([("a".to_owned(), Known { held: true, stamp: None, record })]);
        let config = Some(Config { stored: Arc::default(), unreadable: None });
        let before = ServiceFiles { records, config };
        for before in [None, Some(&before)] {
            assert_eq!(scan(&layout(root.path().to_owned()), before).expect("an empty set"), ServiceFiles::default());
            let error = scan(&layout(root.path().join("gone")), before).expect_err("out of reach");
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        }
    }
}
