//! Why an endpoint is not connected, for those who look at a channel.

use std::sync::{Mutex, PoisonError};

use callboard_core::Error;
use tokio::time::Instant;

/// Why and until when an endpoint is not connected.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    pub(super) connection_error: Option<Error>,
    pub(super) retry_at: Option<Instant>,
}

/// An endpoint's latest trouble. It is shared, as the endpoint's state is, so that with thousands of endpoints a change of
/// one is not told by a copy of all. Calls do not look at it.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<Trouble>);

impl Shown {
    pub(super) fn set(&self, trouble: Trouble) {
        let former = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), trouble);
        // Dropped once the lock is free.
        drop(former);
    }

    pub(super) fn get(&self) -> Trouble {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
