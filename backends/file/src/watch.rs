//! Watching a service: its directory is read whenever it changes, and now and then.

mod directory_watch;
mod scan;

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{ErrorKind, Result, ServiceName, Snapshot, Snapshots};
use futures_util::{StreamExt, stream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use self::directory_watch::DirectoryWatch;
use self::scan::{ServiceFiles, scan, snapshot};
use crate::error::{blocking, error};
use crate::record::Layout;

/// How long it waits after a change before it reads, so that changes that come together are seen together.
const SETTLE: Duration = Duration::from_millis(10);

/// How long after a change it reads once more. When a process dies, the system closes its file, which is a change, an
/// instant before it frees the lock. On a busy machine that may be after the first read.
const READ_AGAIN: Duration = Duration::from_millis(200);

/// How often the directory to watch may move on while a watch is made: each directory on the way may be made meanwhile.
const MOST_MOVES: usize = 64;

/// The snapshots of a service, until something fails.
pub(crate) fn watch(layout: Layout, service: ServiceName, poll: Duration) -> Snapshots {
    let watch = Watch { layout, service, poll, changed: Arc::default(), read_again: false, seen: None };
    stream::try_unfold(watch, |mut watch| async move {
        let snapshot = watch.next().await.map_err(|error| error.for_service(&watch.service))?;
        Ok(Some((snapshot, watch)))
    })
    .boxed()
}

struct Watch {
    layout: Layout,
    service: ServiceName,
    poll: Duration,
    changed: Arc<Notify>,
    /// Whether the last read was because of a change.
    read_again: bool,
    /// None before the first set.
    seen: Option<Seen>,
}

/// The directory that is watched, and the files as they were read last.
struct Seen {
    watch: DirectoryWatch,
    files: ServiceFiles,
}

impl Watch {
    /// Reads until there is something new. The first time, anything is.
    async fn next(&mut self) -> Result<Snapshot> {
        loop {
            if self.seen.is_some() {
                let wait = if self.read_again { self.poll.min(READ_AGAIN) } else { self.poll };
                self.read_again = timeout(wait, self.changed.notified()).await.is_ok();
                if self.read_again {
                    sleep(SETTLE).await;
                }
            }
            let (layout, changed, seen) = (self.layout.clone(), Arc::clone(&self.changed), self.seen.take());
            let (seen, new) = blocking(move || look(&layout, &changed, seen)).await?;
            let seen = self.seen.insert(seen);
            if new {
                return Ok(snapshot(&self.layout, &seen.files));
            }
        }
    }
}

/// Makes sure that the right directory is watched, and then reads: a change after that is noticed.
fn look(layout: &Layout, changed: &Arc<Notify>, seen: Option<Seen>) -> Result<(Seen, bool)> {
    let (watch, before) = seen.map(|Seen { watch, files }| (watch, files)).unzip();
    let watch = watch_nearest(layout, changed, watch)?;
    let files = scan(layout, before.as_ref())?;
    let new = before.is_none_or(|before| before != files);
    Ok((Seen { watch, files }, new))
}

/// Keeps the watch, or makes another one, until it is known to be on the nearest directory that is there. What is made
/// while a watch is made may not have been noticed. If that goes on and on, the poll has to do.
fn watch_nearest(layout: &Layout, changed: &Arc<Notify>, mut watch: Option<DirectoryWatch>) -> Result<DirectoryWatch> {
    for _ in 0..MOST_MOVES {
        let (directory, identity) = layout.check()?;
        match watch {
            Some(watch) if watch.is_on(&directory, identity) => return Ok(watch),
            _ => watch = Some(DirectoryWatch::new(directory, identity, &layout.folder, changed)),
        }
    }
    watch.ok_or_else(|| error(ErrorKind::Unavailable, "the directories on the way change all the time"))
}
