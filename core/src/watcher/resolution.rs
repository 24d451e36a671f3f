//! What is known of a service at one moment.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{Error, Instance};

/// Why and since when a [`Resolution`] may be out of date.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Stale {
    /// How old the set is: when the last watch that yielded one ended. Until then the registry would have reported a change.
    /// None if the registry has never answered.
    pub as_of: Option<Instant>,
    /// The last error.
    pub error: Error,
}

/// What is known of a service: its instances, its config, and how the registry is doing.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct Resolution {
    /// The instances, one of each id, in the registry's order. None until the first set has come.
    ///
    /// An instance that has not changed is the same allocation as in the resolution before, and so is the whole set:
    /// [`Arc::ptr_eq`] finds what has changed. Weights are the registry's, unclamped.
    pub instances: Option<Arc<[Arc<Instance>]>>,
    /// Set while the registry does not answer. The instances are the last ones that were known.
    pub stale: Option<Stale>,
    /// How many records of the last set could not be read. If none could be, the instances are those of the last set that
    /// had some.
    pub skipped: usize,
    /// How many records of the last set were left out, because there are more than
    /// [`max_instances`](crate::WatchSettings::max_instances).
    pub left_out: usize,
    /// Set while the registry lists no instances and that is not believed yet: when it will be.
    pub empty_from: Option<Instant>,
    /// The service's config as it is in the registry, not parsed. None if there is none. It stays the same allocation as
    /// long as it does not change.
    pub config: Option<Arc<[u8]>>,
}

impl Resolution {
    /// Whether the other one is equal. Errors are equal if their texts are.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        let place = |resolution: &Self| resolution.instances.as_ref().map(Arc::as_ptr);
        let stale = |resolution: &Self| resolution.stale.as_ref().map(|s| (s.as_of, s.error.kind(), s.error.chain()));
        let rest = |resolution: &Self| {
            (
                resolution.skipped,
                resolution.left_out,
                resolution.empty_from,
                resolution.config.as_ref().map(Arc::as_ptr),
            )
        };
        place(self) == place(other) && rest(self) == rest(other) && stale(self) == stale(other)
    }
}
