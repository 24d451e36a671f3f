//! What fuzz targets reach. It is compiled with `--cfg fuzzing` alone, and no part of the interface.

use std::path::{Path, PathBuf};

use callboard_core::ServiceName;

use crate::record::{self, Layout};

/// The id that a file is named after, if it is named as a record is.
pub fn id(name: &str) -> Option<&str> {
    record::id(name)
}

/// The file of an instance, and what is written before it.
pub fn files(root: &Path, service: &ServiceName, id: &str) -> (PathBuf, PathBuf) {
    let layout = Layout::new(root, service, 0o755);
    (layout.record(id), layout.draft(id))
}
