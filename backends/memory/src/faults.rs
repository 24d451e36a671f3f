//! How tests break it.

use std::sync::Arc;

use callboard_core::{CONFIG_NAME, Error, Result, ServiceName};

use crate::{Entry, Memory};

/// What is wrong with a [`Memory`]; for tests. Nothing is, by default.
///
/// ```
/// use callboard_core::{Error, ErrorKind};
/// use callboard_memory::Memory;
///
/// let memory = Memory::default();
/// memory.faults(|faults| faults.down = Some(Error::new(ErrorKind::Unavailable, "connection refused")));
/// memory.faults(|faults| faults.down = None);
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The registry is out of reach: calls fail with this error, and watches end with it, even those that are not
    /// polled before it is over. Entries stay and leases hold.
    pub down: Option<Error>,
    /// The registry is silent: calls get no answer.
    pub hang: bool,
    /// Updates are held back: watches yield nothing, not even their first set, and then the latest.
    pub hold: bool,
    /// Nobody may read: watches end with this error. Servers are not concerned.
    pub deaf: Option<Error>,
    /// How many bytes of a record are taken: one that is longer is refused as [`Invalid`](callboard_core::ErrorKind::Invalid).
    /// Any number, if it is None.
    pub largest: Option<usize>,
    pub(crate) outages: Vec<Error>,
}

impl Faults {
    pub(crate) fn take(&self, stored: &[u8]) -> Result<()> {
        match self.largest {
            Some(largest) if stored.len() > largest => Err(Error::invalid(format!(
                "a record of {} bytes, more than the {largest} that are taken",
                stored.len()
            ))),
            _ => Ok(()),
        }
    }

    /// Whether a watch may say something, if it is not ended: by an outage now or since it was opened.
    pub(crate) fn let_through(&self, opened: usize) -> Result<bool> {
        self.down
            .as_ref()
            .or(self.deaf.as_ref())
            .or(self.outages.get(opened))
            .map_or(Ok(!self.hold), |error| Err(error.clone()))
    }
}

impl Memory {
    /// Changes what is wrong, until it is changed again. For tests.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        self.0.send_modify(|board| {
            change(&mut board.faults);
            let now = board.faults.down.clone();
            board.faults.outages.extend(now);
        });
    }

    /// Stores these bytes under a service and an id (or, for its config, [`CONFIG_NAME`]), past every check, or removes what is there. A lease on that
    /// entry is lost. For tests: garbage, expired leases, deletions by hand.
    pub fn put(&self, service: &ServiceName, id: &str, stored: Option<&[u8]>) {
        let key = (service.clone(), id.to_owned());
        if id == CONFIG_NAME {
            return self.0.send_modify(|board| match stored {
                Some(stored) => drop(board.configs.insert(key.0, Arc::from(stored))),
                None => drop(board.configs.remove(&key.0)),
            });
        }
        let entry = stored.map(|stored| Entry::read(&key, stored, false));
        self.0.send_modify(|board| match entry {
            Some(entry) => drop(board.entries.insert(key, entry)),
            None => drop(board.entries.remove(&key)),
        });
    }

    /// Forgets every entry: all leases are lost. For tests.
    pub fn wipe(&self) {
        self.0.send_modify(|board| {
            board.entries.clear();
            board.configs.clear();
        });
    }

    /// How many watches, and leases that wait to be lost, there are at this moment. For tests.
    pub fn watches(&self) -> usize {
        self.0.receiver_count()
    }

    /// Waits while the registry is silent; fails while it is out of reach.
    pub(crate) async fn reach(&self) -> Result<()> {
        let mut board = self.0.subscribe();
        let board = board.wait_for(|board| !board.faults.hang).await.expect("self holds the sender");
        board.faults.down.clone().map_or(Ok(()), Err)
    }
}
