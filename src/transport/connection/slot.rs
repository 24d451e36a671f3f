//! The place of one request on a connection.

use std::sync::Arc;

use super::Connection;

/// The place of one request on a connection. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Connection>);

impl Slot {
    /// Of a place that was taken.
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
    /// Takes the place of one request. None if there is no free one, or if no new request can be sent any more.
    pub(crate) fn try_reserve(self: &Arc<Self>) -> Option<Slot> {
        self.streams.try_reserve().then(|| Slot::new(Arc::clone(self)))
    }
}
