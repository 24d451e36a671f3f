//! The client's side: a list and the events after it, as a stream of complete sets.

mod entries;
mod list;
mod patience;

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Breaks, Result, ServiceName, Snapshot, Snapshots, later};
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep_until};

pub(crate) use self::entries::Entries;

use self::list::{list, remembers};
use self::patience::Patience;
use crate::client::{Client, Events, Position};
use crate::error::in_service;
use crate::record::Directory;

/// Watches a service, whose keys are in this directory.
pub(crate) fn watch(client: Arc<Client>, service: &ServiceName, directory: Directory, relist: Duration) -> Snapshots {
    let watch = Watch {
        client,
        entries: Entries::new(directory),
        relist,
        state: None,
        relist_at: Instant::now(),
        patience: Patience::default(),
    };
    stream::try_unfold((watch, service.clone()), |(mut watch, service)| async move {
        match watch.next().await {
            Ok(snapshot) => Ok(Some((snapshot, (watch, service)))),
            Err(error) => Err(in_service(error, &service)),
        }
    })
    .boxed()
}

struct Watch {
    client: Arc<Client>,
    entries: Entries,
    relist: Duration,
    /// None before the first list, and when everything has to be listed again.
    state: Option<State>,
    /// When everything is listed again, whether or not there seems to be a reason.
    relist_at: Instant,
    patience: Patience,
}

/// As of when the entries are right.
enum State {
    /// Listed at that moment.
    Listed(Position, Instant),
    /// Up to the last event; the watch in etcd is open.
    Watching(Box<Events>),
    /// Up to here. Then the watch in etcd broke.
    Interrupted(Position),
}

/// How long after a list etcd cannot have been wiped and then filled up to the same revision. The next set may be asked
/// for much later.
const JUST_NOW: Duration = Duration::from_secs(1);

/// With so many events a set is made of them, although more have come.
const MOST_EVENTS: usize = 1_000;

impl Watch {
    /// The next set.
    async fn next(&mut self) -> Result<Snapshot> {
        loop {
            let outcome = match self.state.take() {
                None => self.list().await.map(|()| true),
                Some(State::Listed(position, at)) if at.elapsed() < JUST_NOW => {
                    self.open(position).await.map(|()| false)
                }
                Some(State::Listed(position, _) | State::Interrupted(position)) => {
                    self.resume(position).await.map(|()| false)
                }
                Some(State::Watching(events)) => self.receive(events).await,
            };
            match outcome {
                Ok(true) => return Ok(self.entries.snapshot().await),
                Ok(false) => {}
                Err(error) => self.patience.after(error).await?,
            }
        }
    }

    async fn list(&mut self) -> Result<()> {
        let position = list(&self.client, &mut self.entries).await?;
        let (least, varied) = (self.relist / 10 * 9, (self.relist / 5).mul_f64(fastrand::f64()));
        self.relist_at = later(later(Instant::now(), least), varied);
        self.state = Some(State::Listed(position, Instant::now()));
        Ok(())
    }

    async fn open(&mut self, after: Position) -> Result<()> {
        // If this fails, the entries are still right as of then.
        self.state = Some(State::Interrupted(after));
        let directory = self.entries.directory();
        let events = self.client.events(directory.start(), Some(directory.end()), after).await?;
        self.state = Some(State::Watching(Box::new(events)));
        Ok(())
    }

    /// Goes on where the last watch broke. If etcd does not know that position any more, everything is listed again.
    async fn resume(&mut self, after: Position) -> Result<()> {
        self.state = Some(State::Interrupted(after));
        if remembers(&self.client, &self.entries, after).await? {
            return self.open(after).await;
        }
        self.state = None;
        Ok(())
    }

    /// Receives events. Says whether the set may have changed.
    async fn receive(&mut self, mut events: Box<Events>) -> Result<bool> {
        let received = tokio::select! {
            received = events.next_batch(MOST_EVENTS) => received,
            () = sleep_until(self.relist_at) => return Ok(false),
        };
        match received {
            Ok(batch) => {
                let (mut changed, mut breaks) = (false, Breaks::new());
                for event in batch {
                    changed |= self.entries.apply(event);
                    breaks.take().await;
                }
                self.state = Some(State::Watching(events));
                Ok(changed)
            }
            Err(error) => {
                self.patience.worked_for(events.opened().elapsed());
                self.state = Some(State::Interrupted(events.position()));
                Err(error)
            }
        }
    }
}
