//! The slot of one request on a connection.

use std::sync::Arc;

use super::Connection;

/// The slot of one request on a connection: one of the streams that the peer permits. Dropping it frees the slot.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Connection>);

impl Slot {
    /// A slot that was reserved.
    pub(in crate::transport) fn new(connection: Arc<Connection>) -> Self {
        Self(connection)
    }

    pub(in crate::transport) fn connection(&self) -> &Arc<Connection> {
        &self.0
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.streams.release();
    }
}

impl Connection {
    /// Reserves the slot of one request. None if none is free, or if no new request can be sent any more.
    pub(crate) fn try_reserve(self: &Arc<Self>) -> Option<Slot> {
        self.streams.try_reserve().then(|| Slot::new(Arc::clone(self)))
    }
}
