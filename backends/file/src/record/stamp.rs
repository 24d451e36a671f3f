//! Whether a file is as it was when it was read.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What changes whenever the file is written, and cannot be set by a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    length: u64,
    /// In seconds and nanoseconds.
    changed: (i64, i64),
}

/// How long a file has to be unchanged: two changes within one tick of the system's clock leave the same time.
const SETTLED: Duration = Duration::from_millis(100);

impl Stamp {
    /// None as long as a change could be missed.
    pub(crate) fn of(file: &Metadata) -> Option<Self> {
        let changed = (file.ctime(), file.ctime_nsec());
        let since = Duration::new(changed.0.try_into().ok()?, changed.1.try_into().ok()?);
        let settled = SystemTime::now().duration_since(UNIX_EPOCH + since).is_ok_and(|age| age >= SETTLED);
        settled.then_some(Self { inode: file.ino(), length: file.len(), changed })
    }
}
