//! Why an endpoint is not connected, for those who look at a channel.

use std::sync::{Mutex, PoisonError};

use callboard_core::Error;
use tokio::time::Instant;

/// Why and until when an endpoint is not connected.
#[derive(Clone, Debug, Default)]
pub(in crate::control) struct WhyNotConnected {
    pub(in crate::control) connection_error: Option<Error>,
    pub(in crate::control) retry_at: Option<Instant>,
}

/// Why an endpoint is not connected now. It is shared, as the endpoint's state is, so that with thousands of endpoints a change of
/// one is not told by a copy of all. Calls do not look at it.
#[derive(Debug, Default)]
pub(in crate::control) struct Status(Mutex<WhyNotConnected>);

impl Status {
    pub(in crate::control) fn set(&self, trouble: WhyNotConnected) {
        let former = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), trouble);
        // Dropped once the lock is free.
        drop(former);
    }

    pub(in crate::control) fn get(&self) -> WhyNotConnected {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
