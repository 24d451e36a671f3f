//! What a watch yields.

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{ErrorKind, Result, ServiceName, Snapshot, Snapshots};
use futures_util::{StreamExt, stream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::ear::Ear;
use crate::failure::{blocking, error};
use crate::place::Place;
use crate::scan::{Board, scan, snapshot};

/// How long a look waits after something was heard, so that changes that come together are seen together.
const SETTLE: Duration = Duration::from_millis(10);

/// When it looks once more after it has heard something. A dead owner's file is closed, which is heard, an instant before
/// its lock is free; on a busy machine that may be after the first look.
const ECHO: Duration = Duration::from_millis(200);

/// How often the place to listen at may move while one is looked for: each directory on the way may be made meanwhile.
const MOST_MOVES: usize = 64;

/// The sets of a service, until something fails.
pub(crate) fn snapshots(place: Place, service: ServiceName, poll: Duration) -> Snapshots {
    let watch = Watch { place, service, poll, changed: Arc::default(), echo: false, heard: None };
    stream::try_unfold(watch, |mut watch| async move {
        let snapshot = watch.next().await.map_err(|error| error.for_service(&watch.service))?;
        Ok(Some((snapshot, watch)))
    })
    .boxed()
}

struct Watch {
    place: Place,
    service: ServiceName,
    poll: Duration,
    changed: Arc<Notify>,
    /// Whether the last look was because something was heard.
    echo: bool,
    /// None before the first set.
    heard: Option<Heard>,
}

/// Where it listens, and what there was last.
struct Heard {
    ear: Ear,
    board: Board,
}

impl Watch {
    /// Looks until there is something new. The first time, anything is.
    async fn next(&mut self) -> Result<Snapshot> {
        loop {
            if self.heard.is_some() {
                let wait = if self.echo { self.poll.min(ECHO) } else { self.poll };
                self.echo = timeout(wait, self.changed.notified()).await.is_ok();
                if self.echo {
                    sleep(SETTLE).await;
                }
            }
            let (place, changed, heard) = (self.place.clone(), Arc::clone(&self.changed), self.heard.take());
            let (heard, new) = blocking(move || look(&place, &changed, heard)).await?;
            let heard = self.heard.insert(heard);
            if new {
                return Ok(snapshot(&self.place, &heard.board));
            }
        }
    }
}

/// Listens where it should by now, and then reads: whatever happens after that is heard.
fn look(place: &Place, changed: &Arc<Notify>, heard: Option<Heard>) -> Result<(Heard, bool)> {
    let (ear, before) = heard.map(|Heard { ear, board }| (ear, board)).unzip();
    let ear = listen(place, changed, ear)?;
    let board = scan(place, before.as_ref())?;
    let new = before.is_none_or(|before| before != board);
    Ok((Heard { ear, board }, new))
}

/// Keeps the ear, or makes another one, until it is known to be at the nearest directory that is there: what is made
/// while an ear is made may not have been heard. If that goes on and on, the poll has to do.
fn listen(place: &Place, changed: &Arc<Notify>, mut ear: Option<Ear>) -> Result<Ear> {
    for _ in 0..MOST_MOVES {
        let (directory, identity) = place.check()?;
        match ear {
            Some(ear) if ear.is_at(&directory, identity) => return Ok(ear),
            _ => ear = Some(Ear::at(directory, identity, &place.folder, changed)),
        }
    }
    ear.ok_or_else(|| error(ErrorKind::Unavailable, "the directories on the way change all the time"))
}
