//! Removing the files of dead owners.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use callboard_core::Result;

use crate::record::{DirectoryLock, Layout, id, is_draft, look, names_in};

/// How long each of its two passes takes at most. Files that are left over are in no set, and the next process that
/// registers goes on.
const LONGEST: Duration = Duration::from_millis(300);

/// Removes stale records and drafts of a service. The directory is locked only if there are any.
pub(super) fn sweep(layout: &Layout) -> Result<()> {
    let give_up = Instant::now() + LONGEST;
    let in_time = |_: &&String| Instant::now() < give_up;
    let names = names_in(&layout.folder)?;
    let suspects: Vec<_> = names.iter().take_while(in_time).filter(|name| is_left_over(layout, name)).collect();
    if suspects.is_empty() {
        return Ok(());
    }
    // A draft that is being written looks the same, and a record may have a new owner by now. With the directory locked,
    // neither can be.
    let _lock = DirectoryLock::take(&layout.folder)?;
    let give_up = Instant::now() + LONGEST;
    for name in suspects.into_iter().take_while(|_| Instant::now() < give_up).filter(|name| is_left_over(layout, name))
    {
        remove(&layout.folder.join(name));
    }
    Ok(())
}

fn is_left_over(layout: &Layout, name: &str) -> bool {
    let stale = |id: &str| look(&layout.record(id)).ok().flatten().is_some_and(|found| found.is_stale());
    is_draft(name) || id(name).is_some_and(stale)
}

/// A file that cannot be removed is in no set all the same, so that is no failure.
fn remove(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => tracing::debug!(path = %path.display(), "removed the file of a dead owner"),
        Err(error) => tracing::debug!(path = %path.display(), %error, "the file of a dead owner cannot be removed"),
    }
}
