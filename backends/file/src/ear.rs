//! Hearing that something has changed in a directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::place::Identity;

/// Watches the service's directory or, as long as that is not there, the nearest one above it. What it does not hear,
/// the poll finds.
#[derive(Debug)]
pub(crate) struct Ear {
    /// Ends the watch, and its thread, when it is dropped. None if the system has refused one.
    _watcher: Option<RecommendedWatcher>,
    at: (PathBuf, Identity),
}

impl Ear {
    /// Listens at a directory: to what happens to the service's directory, to what is above it, and in it.
    pub(crate) fn at(directory: PathBuf, identity: Identity, folder: &Path, changed: &Arc<Notify>) -> Self {
        let watcher = listen(&directory, folder, changed).inspect_err(|error| {
            tracing::warn!(directory = %directory.display(), %error, "changes are found by polling alone");
        });
        Self { _watcher: watcher.ok(), at: (directory, identity) }
    }

    /// Whether this is where it listens: the very directory, not another one of that name.
    pub(crate) fn is_at(&self, directory: &Path, identity: Identity) -> bool {
        self.at.0 == directory && self.at.1 == identity
    }
}

fn listen(directory: &Path, folder: &Path, changed: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let (folder, changed) = (folder.to_owned(), Arc::clone(changed));
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // What is lost or broken counts as a change.
        if event.map_or(true, |event| is_change(&event, &folder)) {
            changed.notify_one();
        }
    })?;
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Whether there may be something new. To read a file is no change: else each look would lead to the next. To close one
/// that was written is: a dead owner's files are closed by the system.
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
        let heard = |kind, path: &str| is_change(&Event::new(kind).add_path(path.into()), folder);
        let (open, created) =
            (EventKind::Access(AccessKind::Open(AccessMode::Any)), EventKind::Create(CreateKind::Any));
        let closed = |mode| EventKind::Access(AccessKind::Close(mode));
        let record = "/run/callboard/project/test/@a.json";
        assert!(!heard(open, record) && !heard(closed(AccessMode::Read), record));
        assert!(heard(closed(AccessMode::Write), record) && heard(created, record));
        assert!(heard(created, "/run/callboard/project"), "on the way to it");
        assert!(!heard(created, "/run/callboard/other"), "not on the way");
        assert!(is_change(&Event::new(EventKind::Other).set_flag(Flag::Rescan), folder), "some were lost");
    }
}
