//! The states of an endpoint's first connection.

use std::sync::Arc;

use callboard_core::{ConnectivityState, Error};
use tokio::time::Instant;

use super::pace::Rest;
use crate::transport::{Connection, Opening};

/// The state of an endpoint's first connection.
#[derive(Debug)]
pub(in crate::control) enum Phase {
    Idle {
        since: Instant,
    },
    /// Idle until a given time, because its connections do not last.
    Resting {
        rest: Rest,
        why: Error,
    },
    Connecting {
        id: u64,
        since: Instant,
        /// From when on it was due before the attempt started.
        due: Instant,
        _opening: Opening,
    },
    Ready {
        id: u64,
        begun: Instant,
        since: Instant,
        connection: Arc<Connection>,
    },
    Failing {
        until: Instant,
    },
}

impl Phase {
    pub(in crate::control) fn idle() -> Self {
        Self::Idle { since: Instant::now() }
    }

    pub(in crate::control) fn state(&self) -> ConnectivityState {
        match self {
            Self::Idle { .. } | Self::Resting { .. } => ConnectivityState::Idle,
            Self::Connecting { .. } => ConnectivityState::Connecting,
            Self::Ready { .. } => ConnectivityState::Ready,
            Self::Failing { .. } => ConnectivityState::TransientFailure,
        }
    }

    pub(in crate::control) fn connection(&self) -> Option<&Arc<Connection>> {
        match self {
            Self::Ready { connection, .. } => Some(connection),
            _ => None,
        }
    }

    /// When it may be dialled again, if that was delayed.
    pub(in crate::control) fn wake_at(&self) -> Option<Instant> {
        match self {
            Self::Failing { until } => Some(*until),
            Self::Resting { rest, .. } => Some(rest.until),
            _ => None,
        }
    }

    /// From when on it may be dialled: in the past, if it may be now. None while there is a connection or an attempt.
    pub(in crate::control) fn due_at(&self) -> Option<Instant> {
        match self {
            Self::Idle { since } => Some(*since),
            _ => self.wake_at(),
        }
    }
}
