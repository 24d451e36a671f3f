//! One complete set of instances.

use std::sync::Arc;

use crate::{Instance, Record, Remark};

/// How many remarks are handed on. The others are only counted.
const MOST_REMARKS: usize = 100;

/// The instances of one service at one moment: a complete set, not a change.
///
/// The order is the registry's own and is kept, for balancers that depend on it. There may be duplicates; the supervision
/// removes them.
///
/// Instances are shared, so that a backend that keeps its set can hand out thousands of them by copying pointers.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The instances that could be read.
    pub instances: Vec<Arc<Instance>>,
    /// How many records beside them could not be read. A set without instances in which this is not 0 does not count as
    /// empty, and never replaces one with instances.
    pub skipped: usize,
    /// The service's config as it is in the registry beside the instances: gRPC's service config JSON. None if there is none.
    /// A backend does not parse it; [`ServiceConfig::parse`](crate::ServiceConfig::parse) does.
    pub config: Option<Arc<[u8]>>,
    /// Remarks on records: why some could not be read, and what in others is not believed. The first 100;
    /// [`skipped`](Self::skipped) has the count.
    pub remarks: Vec<Arc<Remark>>,
}

impl Snapshot {
    /// A set in which every record could be read.
    pub fn new(instances: impl IntoIterator<Item = impl Into<Arc<Instance>>>) -> Self {
        Self { instances: instances.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Adds one record: an instance, or one more that could not be read, and the remark on it.
    pub fn add(&mut self, record: &Record) {
        match record.instance() {
            Some(instance) => self.instances.push(Arc::clone(instance)),
            None => self.skipped += 1,
        }
        if let Some(remark) = record.remarked().filter(|_| self.remarks.len() < MOST_REMARKS) {
            self.remarks.push(Arc::clone(remark));
        }
    }
}

impl<'a> FromIterator<&'a Record> for Snapshot {
    fn from_iter<I: IntoIterator<Item = &'a Record>>(records: I) -> Self {
        let mut snapshot = Self::default();
        records.into_iter().for_each(|record| snapshot.add(record));
        snapshot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RecordReader;

    #[test]
    fn garbage_beside_good_records_is_skipped_and_counted() {
        let mut reader = RecordReader::new("test");
        let mut read = |id: &str, stored: &[u8]| reader.read(&format!("/{id}"), id, stored);
        let records = [
            read("a", br#"{"v":1,"id":"a","address":"127.0.0.1:1"}"#),
            read("garbage", b"\xff\xfe"),
            read("b", br#"{"v":9,"id":"b","address":"127.0.0.1:2"}"#),
        ];
        let snapshot: Snapshot = records.iter().collect();
        assert_eq!((snapshot.skipped, snapshot.remarks.len()), (2, 2));
        assert_eq!(snapshot.instances.iter().map(|i| i.id()).collect::<Vec<_>>(), ["a"]);
        let many: Snapshot = std::iter::repeat_n(&records[1], 10_000).collect();
        assert_eq!((many.skipped, many.remarks.len()), (10_000, MOST_REMARKS));
    }
}
