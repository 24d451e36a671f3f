//! The connections that an endpoint has beside its first one.

use std::sync::Arc;

use tokio::time::{Duration, Instant};

use crate::transport::{Connection, Event, Opening};

/// How long no further connection is tried after one was begun that has failed or was lost.
const PAUSE: Duration = Duration::from_secs(1);

/// Further connections of one endpoint, opened when all that it has are full. They come and go without a backoff of
/// their own: the first connection says whether the endpoint can be reached.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: Vec<Line>,
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct Line {
    id: u64,
    begun: Instant,
    /// None while it is being opened.
    connection: Option<Arc<Connection>>,
    _opening: Opening,
}

impl Lines {
    /// Those that are open.
    pub(super) fn connections(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.lines.iter().filter_map(|line| line.connection.as_ref())
    }

    pub(super) fn owns(&self, id: u64) -> bool {
        self.lines.iter().any(|line| line.id == id)
    }

    /// Whether one more may be opened, if there may be so many.
    pub(super) fn has_room(&self, most: usize, now: Instant) -> bool {
        let opening = self.lines.iter().any(|line| line.connection.is_none());
        !opening && self.lines.len() < most && self.not_before.is_none_or(|at| at <= now)
    }

    /// When a further connection may be tried again. Calls that wait for a place have to be told then.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.not_before
    }

    /// Notes that it may be tried again, if that is so.
    pub(super) fn end_pause(&mut self, now: Instant) {
        self.not_before = self.not_before.filter(|at| *at > now);
    }

    pub(super) fn add(&mut self, id: u64, opening: Opening) {
        self.lines.push(Line { id, begun: Instant::now(), connection: None, _opening: opening });
    }

    pub(super) fn take_event(&mut self, id: u64, event: Event) {
        match event {
            Event::Ready(connection) => {
                if let Some(line) = self.lines.iter_mut().find(|line| line.id == id) {
                    line.connection = Some(connection);
                }
            }
            Event::Failed(_) | Event::Closing(_) | Event::Closed(_) => {
                let Some(index) = self.lines.iter().position(|line| line.id == id) else { return };
                self.not_before = Some(self.lines.remove(index).begun + PAUSE);
            }
        }
    }

    /// One that is open, to take the place of the first connection, which was lost.
    pub(super) fn promote(&mut self) -> Option<(u64, Arc<Connection>)> {
        let index = self.lines.iter().position(|line| line.connection.is_some())?;
        let line = self.lines.remove(index);
        line.connection.map(|connection| (line.id, connection))
    }

    pub(super) fn close_all(&mut self) {
        self.lines.clear();
    }
}
