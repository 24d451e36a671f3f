//! What is remembered of addresses that have left the registry.

use std::collections::HashMap;

use callboard_core::Address;
use tokio::time::Instant;

use super::super::subchannel::Subchannel;

/// How many addresses are remembered. More of them are dialled at once when they come back.
const MOST: usize = 10_000;

/// Addresses that are not to be dialled at once if they come back: those that come and go all the time would be dialled all
/// the time. Each is forgotten when its wait is over.
#[derive(Debug, Default)]
pub(in crate::control) struct Removed(HashMap<Address, (Subchannel, Instant)>);

impl Removed {
    /// Ends a subchannel, and keeps what is to be remembered.
    pub(in crate::control) fn add(&mut self, subchannel: Subchannel) {
        let address = subchannel.address().clone();
        tracing::debug!(%address, "endpoint removed");
        let left = subchannel.remove().filter(|_| self.0.len() < MOST);
        if let Some(left) = left {
            let until = left.kept_until();
            self.0.insert(address, (left, until));
        }
    }

    /// What is left of one that comes back.
    pub(in crate::control) fn take(&mut self, address: &Address) -> Option<Subchannel> {
        // Nearly always there is none.
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
