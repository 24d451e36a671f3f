//! Backoffs of addresses that the registry does not list any more.

use std::collections::HashMap;

use callboard_core::Address;
use tokio::time::Instant;

use super::super::subchannel::Subchannel;

/// How many addresses are remembered. Others are dialled at once when they are listed again.
const MOST: usize = 10_000;

/// Addresses that are not to be dialled at once if they are listed again. Otherwise an address that appears and
/// disappears all the time would be dialled all the time. Each is forgotten when its wait is over.
#[derive(Debug, Default)]
pub(in crate::control) struct Removed(HashMap<Address, (Subchannel, Instant)>);

impl Removed {
    /// Removes a subchannel, and remembers its backoff if it has one.
    pub(in crate::control) fn add(&mut self, subchannel: Subchannel) {
        let address = subchannel.address().clone();
        tracing::debug!(%address, "endpoint removed");
        let left = subchannel.remove().filter(|_| self.0.len() < MOST);
        if let Some(left) = left {
            let until = left.kept_until();
            self.0.insert(address, (left, until));
        }
    }

    /// The remembered subchannel of an address that is listed again.
    pub(in crate::control) fn take(&mut self, address: &Address) -> Option<Subchannel> {
        // The common case.
        if self.0.is_empty() {
            return None;
        }
        let (left, until) = self.0.remove(address)?;
        (Instant::now() < until).then_some(left)
    }

    pub(in crate::control) fn forget_what_is_over(&mut self) {
        let now = Instant::now();
        self.0.retain(|_, (_, until)| now < *until);
    }
}
