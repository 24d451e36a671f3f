//! The connections of an endpoint beside its first one.

use std::sync::Arc;

use callboard_core::later;
use tokio::time::{Duration, Instant};

use crate::transport::{Connection, Event, Opening, Parting};

/// How long no extra connection is tried after the start of one that has failed, or that was lost without a response.
const PAUSE: Duration = Duration::from_secs(1);

/// The extra connections of one endpoint, opened when all its connections are full. They have no backoff of their own:
/// the first connection shows whether the endpoint can be reached.
#[derive(Debug, Default)]
pub(in crate::control) struct ExtraConnections {
    list: Vec<Extra>,
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct Extra {
    id: u64,
    begun: Instant,
    /// None while it is being opened.
    connection: Option<Arc<Connection>>,
    _opening: Opening,
    /// Since when it has been idle, and the last request by then.
    idle: Option<(Instant, u32)>,
}

impl ExtraConnections {
    /// The open connections.
    pub(in crate::control) fn connections(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.list.iter().filter_map(|extra| extra.connection.as_ref())
    }

    pub(in crate::control) fn owns(&self, id: u64) -> bool {
        self.list.iter().any(|extra| extra.id == id)
    }

    /// Whether one more may be opened. `most` bounds their number.
    pub(in crate::control) fn has_room(&self, most: usize, now: Instant) -> bool {
        let opening = self.list.iter().any(|extra| extra.connection.is_none());
        !opening && self.list.len() < most && self.not_before.is_none_or(|at| at <= now)
    }

    /// How many are being opened.
    pub(in crate::control) fn openings(&self) -> usize {
        self.list.iter().filter(|extra| extra.connection.is_none()).count()
    }

    /// When to call [`tend`](Self::tend) next: in the past if one has just been opened.
    pub(in crate::control) fn wake_at(&self, idle: Duration) -> Option<Instant> {
        let open = self.list.iter().filter(|extra| extra.connection.is_some());
        let idle_at = open.map(|extra| extra.idle.map_or(extra.begun, |(since, _)| later(since, idle)));
        idle_at.chain(self.not_before).min()
    }

    /// Closes those that have been idle for this long. Calls are sent on the first connection with a free stream, so
    /// extra ones become idle first. True if an extra connection may be tried again from now on, after one has failed.
    pub(in crate::control) fn tend(&mut self, now: Instant, idle: Duration) -> bool {
        self.list.retain_mut(|extra| extra.connection.is_none() || now < later(extra.idle_since(now), idle));
        self.not_before.take_if(|at| *at <= now).is_some()
    }

    pub(in crate::control) fn add(&mut self, id: u64, opening: Opening) {
        self.list.push(Extra { id, begun: Instant::now(), connection: None, _opening: opening, idle: None });
    }

    pub(in crate::control) fn take_event(&mut self, id: u64, event: Event) {
        match event {
            Event::Ready(connection) => {
                if let Some(extra) = self.list.iter_mut().find(|extra| extra.id == id) {
                    extra.connection = Some(connection);
                }
            }
            Event::Failed(_) | Event::Closing(_) | Event::Closed(_) => {
                let flooded = matches!(&event, Event::Closed(end) if end.parting == Parting::Flooded);
                let Some(index) = self.list.iter().position(|extra| extra.id == id) else { return };
                let extra = self.list.remove(index);
                // A connection that has had responses was ended by the peer for its own reason, such as a limit of
                // requests.
                if flooded || !extra.connection.is_some_and(|connection| connection.has_answered()) {
                    self.not_before = Some(extra.begun + PAUSE);
                }
            }
        }
    }

    /// Takes an open connection, to replace the first one, which was lost.
    pub(in crate::control) fn promote(&mut self) -> Option<(u64, Arc<Connection>)> {
        let index = self.list.iter().position(|extra| extra.connection.is_some())?;
        let extra = self.list.remove(index);
        extra.connection.map(|connection| (extra.id, connection))
    }

    /// Ends the pause after a failed extra connection.
    pub(in crate::control) fn forget_failure(&mut self) {
        self.not_before = None;
    }

    pub(in crate::control) fn close_all(&mut self) {
        self.list.clear();
    }
}

impl Extra {
    /// Since when it has been idle; now, if it is not.
    fn idle_since(&mut self, now: Instant) -> Instant {
        let Some(connection) = &self.connection else { return now };
        let last = connection.last_request();
        match self.idle {
            Some((since, known)) if known == last && !connection.is_busy() => since,
            _ => {
                self.idle = Some((now, last));
                now
            }
        }
    }
}
