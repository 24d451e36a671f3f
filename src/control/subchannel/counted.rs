//! What is to be known of a subchannel by others.

use callboard_core::{ConnectivityState, later};
use tokio::time::Duration;

use super::Subchannel;
use super::phase::Phase;
use super::status::WhyNotConnected;
use crate::control::counts::{Bounds, Counted, Due, Hope};

impl Subchannel {
    /// How long calls that do not wait for ready may wait for it, if an attempt may take so long.
    fn hope(&self, connect_timeout: Duration) -> Hope {
        // The end of an attempt is to be heard of first.
        let until = |due| Hope::Until(later(due, connect_timeout.saturating_add(Duration::from_secs(1))));
        match self.phase {
            Phase::Ready { .. } => Hope::None,
            _ if self.is_failing() => Hope::None,
            Phase::Connecting { due, .. } => until(due),
            Phase::Idle { since } if self.wanted => until(since),
            _ => Hope::Always,
        }
    }

    /// What is counted of it.
    pub(in crate::control) fn counted(&self, Bounds { extra_idle, connect_timeout }: Bounds) -> Counted {
        let (state, doubtful) = (self.state(), !self.proven);
        let due = self.phase.due_at().filter(|_| self.wanted);
        let connecting = state == ConnectivityState::Connecting;
        Counted {
            state,
            failing: self.is_failing(),
            resting: matches!(self.phase, Phase::Resting { .. }),
            attempts: usize::from(connecting) + self.extra.openings(),
            doubtful: connecting && doubtful,
            due: due.map(|at| Due { at, lot: self.lot, doubtful }),
            hope: self.hope(connect_timeout),
            extra_connections_at: self.extra.wake_at(extra_idle),
        }
    }

    /// Why it is not connected, be it a failure or not.
    pub(in crate::control) fn why_not_connected(&self) -> WhyNotConnected {
        let why = match &self.phase {
            Phase::Resting { why, .. } => Some(why),
            _ => self.last_error(),
        };
        let failed = self.state() == ConnectivityState::TransientFailure;
        WhyNotConnected { connection_error: why.cloned(), retry_at: self.phase.wake_at().filter(|_| failed) }
    }
}
