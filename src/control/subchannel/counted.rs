//! What a subchannel contributes to the figures of the channel.

use callboard_core::{ConnectivityState, later};
use tokio::time::Duration;

use super::Subchannel;
use super::phase::Phase;
use super::status::WhyNotConnected;
use crate::control::counts::{Bounds, Counted, Due, Hope};

impl Subchannel {
    /// How long calls without wait-for-ready may wait for it, given the time that an attempt may take.
    fn hope(&self, connect_timeout: Duration) -> Hope {
        // One second longer than an attempt, so that its event arrives first.
        let until = |due| Hope::Until(later(due, connect_timeout.saturating_add(Duration::from_secs(1))));
        match self.phase {
            Phase::Ready { .. } => Hope::None,
            _ if self.is_failing() => Hope::None,
            Phase::Connecting { due, .. } => until(due),
            Phase::Idle { since } if self.wanted => until(since),
            _ => Hope::Always,
        }
    }

    /// Its figures.
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

    /// Why it is not connected, whether or not that is a failure.
    pub(in crate::control) fn why_not_connected(&self) -> WhyNotConnected {
        let why = match &self.phase {
            Phase::Resting { why, .. } => Some(why),
            _ => self.last_error(),
        };
        let failed = self.state() == ConnectivityState::TransientFailure;
        WhyNotConnected { connection_error: why.cloned(), retry_at: self.phase.wake_at().filter(|_| failed) }
    }
}
