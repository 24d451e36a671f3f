//! Where a channel learns which endpoints there are.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use callboard_core::{Balancer, Instance, Resolution, Watcher};
use futures_core::future::BoxFuture;

/// Where a channel learns which endpoints there are. A [`Watcher`] of the registry is one; who has more to say, such as an
/// external balancer, stands in front of it.
pub(crate) trait Source: Send {
    /// Resolves when something has changed that the other methods give. Cancel-safe.
    fn changed(&mut self) -> BoxFuture<'_, ()>;

    /// What the registry says.
    fn registry(&self) -> &Resolution;

    /// The endpoints to connect.
    fn set(&self) -> Set;

    /// The balancer that decides in the place of the channel's own.
    fn balancer(&self) -> Option<&Arc<dyn Balancer>> {
        None
    }

    /// Takes note of whether any endpoint is ready. True if by that something has changed that the other methods give.
    fn note_ready(&mut self, any: bool) -> bool {
        let _ = any;
        false
    }

    /// What there is to say of this source, beside what the registry says.
    fn status(&self) -> Option<Arc<dyn SourceStatus>> {
        None
    }
}

/// The endpoints to connect, if they are known.
#[derive(Clone, Debug)]
pub(crate) enum Set {
    /// The registry has not answered yet.
    Unanswered,
    /// The registry has answered, and something else is awaited: what that is, for messages.
    Awaited(&'static str),
    Known(Arc<[Arc<Instance>]>),
}

/// What a source has to say of itself, in one line, for messages about calls.
pub(crate) trait SourceStatus: fmt::Display + fmt::Debug + Send + Sync {
    /// What it means that the set is empty, if that is not what it means in a registry.
    fn why_empty(&self) -> Option<&'static str>;

    /// For whoever knows what it is.
    fn as_any(&self) -> &dyn Any;
}

impl Source for Watcher {
    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            Watcher::changed(self).await;
        })
    }

    fn registry(&self) -> &Resolution {
        self.resolution()
    }

    fn set(&self) -> Set {
        self.resolution().instances.clone().map_or(Set::Unanswered, Set::Known)
    }
}
