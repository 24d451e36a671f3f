//! The stored form of an entry.

use std::sync::Arc;

use callboard_core::{Record, RecordReader, ServiceName};

/// How errors and logs name this backend.
pub(crate) const BACKEND: &str = "memory";

/// A service, and the id of an instance.
pub(crate) type Key = (ServiceName, String);

#[derive(Debug)]
pub(crate) struct Entry {
    /// It is read once, when it is stored, so that a set costs its pointers.
    pub(crate) record: Arc<Record>,
    /// Whether a lease has stored it, and not [`Memory::put`](crate::Memory::put).
    pub(crate) claimed: bool,
}

impl Entry {
    pub(crate) fn read((service, id): &Key, stored: &[u8], claimed: bool) -> Self {
        let record = RecordReader::new(BACKEND).read(&format!("{service}/{id}"), id, stored);
        Self { record: Arc::new(record), claimed }
    }
}
