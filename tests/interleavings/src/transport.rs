//! The places of connections.

#[path = "../../../src/transport/expiry.rs"]
mod expiry;
mod hold;
use crate::runtime;
#[path = "../../../src/transport/connection/queue.rs"]
mod queue;
#[path = "../../../src/transport/connection/slot.rs"]
#[allow(dead_code, reason = "not all of it is about places")]
mod slot;
#[path = "../../../src/transport/connection/streams.rs"]
#[allow(dead_code, reason = "not all of it is about places")]
mod streams;

use self::streams::Streams;
use crate::sync::Arc;

pub(crate) use self::expiry::Expiry;
pub(crate) use self::hold::{end, hold};
pub(crate) use self::queue::{Turn, Wait};
pub(crate) use self::slot::Slot;

/// What stands for a connection: its places.
#[derive(Debug)]
pub(crate) struct Connection {
    streams: Arc<Streams>,
}

impl Connection {
    /// With so many places.
    pub(crate) fn new(places: usize) -> Arc<Self> {
        let connection = Self { streams: Arc::default() };
        connection.allow(places);
        Arc::new(connection)
    }

    /// The peer says how many requests it takes.
    pub(crate) fn allow(&self, places: usize) {
        self.streams.set_limit(places);
    }

    pub(crate) fn used(&self) -> usize {
        self.streams.used()
    }

    /// The peer takes no new requests.
    pub(crate) fn close(&self) {
        self.streams.close();
    }
}

/// Gives a turn up, as a deadline does.
pub(crate) fn give_up(turn: &Turn) {
    turn.give_up();
}

/// What stands for the count of early resets, which has a lock of its own.
mod resets {
    #[derive(Debug, Default)]
    pub(super) struct Resets;
}
