//! Why an endpoint is not connected, for [`Channel::endpoints`](crate::Channel::endpoints).

use std::sync::{Mutex, PoisonError};

use callboard_core::Error;
use tokio::time::Instant;

/// Why and until when an endpoint is not connected.
#[derive(Clone, Debug, Default)]
pub(in crate::control) struct WhyNotConnected {
    pub(in crate::control) connection_error: Option<Error>,
    pub(in crate::control) retry_at: Option<Instant>,
}

/// Why an endpoint is not connected now. It is shared, as the endpoint's state is, so that with thousands of endpoints
/// a change of one does not copy all. Calls do not read it.
#[derive(Debug, Default)]
pub(in crate::control) struct Status(Mutex<WhyNotConnected>);

impl Status {
    pub(in crate::control) fn set(&self, trouble: WhyNotConnected) {
        let former = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), trouble);
        // Dropped after the lock is released.
        drop(former);
    }

    pub(in crate::control) fn get(&self) -> WhyNotConnected {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
