//! What fuzz targets reach. It is compiled with `--cfg fuzzing` alone, and no part of the interface.

use callboard_core::{ServiceName, Snapshot};

use crate::entry::Row;
use crate::names;
use crate::reported;

/// What the catalog's list says of a service, and how many entries the list has. None if it is no list.
pub fn snapshot(service: &ServiceName, list: &[u8]) -> Option<(Snapshot, usize)> {
    let rows: Vec<Row> = serde_json::from_slice(list).ok()?;
    Some((reported::snapshot(service, &rows), rows.len()))
}

/// An instance's id as it is for a whole agent.
pub fn entry_id(service: &ServiceName, instance: &str) -> String {
    names::entry_id(service, instance)
}

/// The instance's id within its service.
pub fn instance_id(service: &ServiceName, entry: &str) -> Option<String> {
    names::instance_id(service, entry)
}
