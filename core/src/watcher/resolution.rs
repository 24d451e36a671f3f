//! What is believed of a service at one moment.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{Error, Instance};

/// Why and since when a view may be out of date.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Stale {
    /// When the registry was last heard: the set is as old as that. It is the end of the last watch that yielded a
    /// set, as until then the registry would have said if the set had changed. None if it was never heard.
    pub as_of: Option<Instant>,
    /// The last error.
    pub error: Error,
}

/// What is believed of a service.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct Resolution {
    /// The instances, one of each id, in the registry's order. None until the first set has come.
    ///
    /// An instance that has not changed is the same allocation as in the view before, and so is the whole set:
    /// [`Arc::ptr_eq`] tells what has changed. Weights are the registry's, unclamped.
    pub instances: Option<Arc<[Arc<Instance>]>>,
    /// Set while the registry cannot be heard. The instances are those that were believed before.
    pub stale: Option<Stale>,
    /// How many records of the last set could not be read. If none could be, the instances are those of the last set with
    /// some.
    pub skipped: usize,
    /// How many records of the last set were left out, because there are more than
    /// [`max_instances`](crate::WatchSettings::max_instances).
    pub left_out: usize,
    /// Set while the registry says that nobody is there and that is not yet believed: when it will be.
    pub empty_from: Option<Instant>,
    /// The service's config, as it stands in the registry: unread. None if there is none. It is the same allocation for as
    /// long as it has not changed.
    pub config: Option<Arc<[u8]>>,
}

impl Resolution {
    /// Whether the other view says the same. Errors are the same if they read the same.
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
