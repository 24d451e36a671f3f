//! The owner of a stream: the task that polls it, or its deadline.

use std::sync::Arc;

use super::Connection;
use super::expiry::Expiry;
use super::hold::Hold;

/// Holds a stream: directly, or through the [`Expiry`](super::expiry::Expiry) that ends it at its deadline. Dropping it
/// ends the stream.
#[derive(Debug)]
pub(super) enum Grip {
    Own(Hold, Arc<Connection>),
    Until(Arc<Expiry>, Arc<Connection>),
}

impl Grip {
    pub(super) fn new(hold: Hold, connection: Arc<Connection>, deadline: Option<&Arc<Expiry>>) -> Self {
        match deadline {
            None => Self::Own(hold, connection),
            Some(expiry) => {
                expiry.hold(hold);
                Self::Until(Arc::clone(expiry), connection)
            }
        }
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        match self {
            Self::Own(_, connection) | Self::Until(_, connection) => connection,
        }
    }

    /// Notes that the stream has ended, and frees its slot.
    pub(super) fn finish(&mut self) {
        match self {
            Self::Own(hold, _) => hold.finish(),
            Self::Until(expiry, _) => {
                if let Some(mut hold) = expiry.release() {
                    hold.finish();
                }
            }
        }
    }
}

impl Drop for Grip {
    fn drop(&mut self) {
        if let Self::Until(expiry, _) = self
            && let Some(hold) = expiry.release()
        {
            match expiry.is_over() {
                true => hold.expire(),
                false => drop(hold),
            }
        }
    }
}
