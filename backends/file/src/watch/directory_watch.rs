//! Noticing that something has changed in a directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::record::Identity;

/// A watch of the system's on the service's directory or, as long as that is not there, on the nearest one above it.
/// What it misses, the poll finds.
#[derive(Debug)]
pub(super) struct DirectoryWatch {
    /// Ends the watch, and its thread, when it is dropped. None if the system has refused one.
    _watcher: Option<RecommendedWatcher>,
    directory: (PathBuf, Identity),
}

impl DirectoryWatch {
    /// Watches a directory for changes of the service's directory, of those above it, and of what is in it.
    pub(super) fn new(directory: PathBuf, identity: Identity, folder: &Path, changed: &Arc<Notify>) -> Self {
        let watcher = start(&directory, folder, changed).inspect_err(|error| {
            tracing::warn!(directory = %directory.display(), %error, "the directory cannot be watched; changes are found by polling");
        });
        Self { _watcher: watcher.ok(), directory: (directory, identity) }
    }

    /// Whether it is on this very directory, and not on another one of that name.
    pub(super) fn is_on(&self, directory: &Path, identity: Identity) -> bool {
        self.directory.0 == directory && self.directory.1 == identity
    }
}

fn start(directory: &Path, folder: &Path, changed: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let (folder, changed) = (folder.to_owned(), Arc::clone(changed));
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // An event that is lost or cannot be read counts as a change.
        if event.map_or(true, |event| is_change(&event, &folder)) {
            changed.notify_one();
        }
    })?;
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Whether there may be something new. Reading a file is no change, or each read would lead to the next. Closing a file
/// that was written is one: the system closes the files of a process that dies.
fn is_change(event: &Event, folder: &Path) -> bool {
    let reading = matches!(event.kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write));
    let concerns = |path: &PathBuf| folder.starts_with(path) || path.parent() == Some(folder);
    event.need_rescan() || !reading && (event.paths.is_empty() || event.paths.iter().any(concerns))
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, Flag};

    use super::*;

    #[test]
    fn reading_is_no_change_and_closing_what_was_written_is() {
        let folder = Path::new("/run/callboard/project/test");
        let changes = |kind, path: &str| is_change(&Event::new(kind).add_path(path.into()), folder);
        let (open, created) =
            (EventKind::Access(AccessKind::Open(AccessMode::Any)), EventKind::Create(CreateKind::Any));
        let closed = |mode| EventKind::Access(AccessKind::Close(mode));
        let record = "/run/callboard/project/test/@a.json";
        assert!(!changes(open, record) && !changes(closed(AccessMode::Read), record));
        assert!(changes(closed(AccessMode::Write), record) && changes(created, record));
        assert!(changes(created, "/run/callboard/project"), "on the way to it");
        assert!(!changes(created, "/run/callboard/other"), "not on the way");
        assert!(is_change(&Event::new(EventKind::Other).set_flag(Flag::Rescan), folder), "some were lost");
    }
}
