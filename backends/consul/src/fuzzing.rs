//! What fuzz targets reach. It is compiled with `--cfg fuzzing` alone, and no part of the interface.

use callboard_core::{ServiceName, Snapshot};

use crate::record::{self, ListedEntry};
use crate::watch;

/// The instances of a service in the catalog's list, and how many entries the list has. None if it is no list.
pub fn snapshot(service: &ServiceName, list: &[u8]) -> Option<(Snapshot, usize)> {
    let rows: Vec<ListedEntry> = serde_json::from_slice(list).ok()?;
    Some((watch::snapshot(service, &rows), rows.len()))
}

/// An instance's id as it is for a whole agent.
pub fn entry_id(service: &ServiceName, instance: &str) -> String {
    record::entry_id(service, instance)
}

/// The instance's id within its service.
pub fn instance_id(service: &ServiceName, entry: &str) -> Option<String> {
    record::instance_id(service, entry)
}
