//! Events of a subchannel's connections.

use callboard_core::Error;
use tokio::time::Instant;

use super::pace::{Life, Next};
use super::phase::Phase;
use super::{Subchannel, lost};
use crate::transport::{End, Event, Parting};

impl Subchannel {
    /// Handles an event of a connection. Ignores it if its attempt was cancelled meanwhile.
    pub(in crate::control) fn take_event(&mut self, attempt: u64, event: Event) {
        if !self.owns(attempt) {
            return;
        }
        if let Event::Closing(end) | Event::Closed(end) = &event
            && end.calm
        {
            self.calm = (self.calm + 1).min(10);
        }
        if self.extra.owns(attempt) {
            self.extra.take_event(attempt, event);
            self.stand_in();
            return self.note_state();
        }
        let (id, address) = (self.endpoint.instance().id(), self.address());
        match event {
            Event::Failed(error) => {
                tracing::debug!(instance = id, %address, error = error.chain(), "connection attempt failed");
                // gRPC counts the wait from the start of the attempt.
                let begun = self.connecting_since().unwrap_or_else(Instant::now);
                let until = self.pace.failed(begun);
                self.fail(until, error);
            }
            Event::Ready(connection) => {
                tracing::debug!(instance = id, %address, "connected");
                let (now, begun) = (Instant::now(), self.connecting_since());
                self.phase = Phase::Ready { id: attempt, begun: begun.unwrap_or(now), since: now, connection };
                self.pace.ready();
                self.last_error = None;
                self.proven = true;
            }
            Event::Closing(end) | Event::Closed(end) => {
                if end.parting == Parting::Flooded {
                    tracing::warn!(instance = id, %address, why = end.why, "the server floods the channel");
                }
                tracing::debug!(instance = id, %address, why = end.why, "connection lost");
                self.lose(end);
            }
        }
        self.note_state();
    }

    fn fail(&mut self, until: Instant, error: Error) {
        self.phase = Phase::Failing { until };
        self.last_error = Some(error);
        self.proven = false;
    }

    /// Promotes an extra connection if there is no first one.
    fn stand_in(&mut self) {
        if !self.is_ready()
            && let Some((id, connection)) = self.extra.promote()
        {
            let now = Instant::now();
            self.phase = Phase::Ready { id, begun: now, since: now, connection };
            self.last_error = None;
        }
    }

    pub(in crate::control) fn lose(&mut self, end: End) {
        let next = match &self.phase {
            Phase::Ready { begun, since, connection, .. } => self.pace.ended(Life {
                begun: *begun,
                ready: *since,
                answered: connection.has_answered(),
                used: connection.was_used(),
                parting: end.parting,
            }),
            _ => Next::Now,
        };
        match next {
            Next::Now => self.phase = Phase::idle(),
            Next::Later(rest) => {
                self.phase = Phase::Resting { rest, why: lost(end) };
                self.proven = false;
            }
            Next::Failed(until) => self.fail(until, lost(end)),
        }
        if self.on_demand {
            (self.wanted, self.on_demand) = (false, false);
        }
        self.stand_in();
    }
}
