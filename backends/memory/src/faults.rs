//! What tests can make wrong with the registry.

use callboard_core::{Error, Result};

/// What is wrong with a [`Memory`](crate::Memory); for tests. Nothing is, by default.
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
    /// Reading is denied: watches end with this error. Registering is not affected.
    pub read_denied: Option<Error>,
    /// How many bytes a record may have: a longer one is refused as [`Invalid`](callboard_core::ErrorKind::Invalid).
    /// Any number, if it is None.
    pub largest: Option<usize>,
    /// Every outage so far, so that a watch ends with one that is over before the watch is polled.
    pub(crate) outages: Vec<Error>,
}

impl Faults {
    /// Refuses a record that is too long.
    pub(crate) fn take(&self, stored: &[u8]) -> Result<()> {
        match self.largest {
            Some(largest) if stored.len() > largest => Err(Error::invalid(format!(
                "a record of {} bytes, more than the {largest} that are taken",
                stored.len()
            ))),
            _ => Ok(()),
        }
    }

    /// Whether a watch may yield a set. An outage now, or since the watch was opened, is an error.
    pub(crate) fn let_through(&self, opened: usize) -> Result<bool> {
        self.down
            .as_ref()
            .or(self.read_denied.as_ref())
            .or(self.outages.get(opened))
            .map_or(Ok(!self.hold), |error| Err(error.clone()))
    }
}
