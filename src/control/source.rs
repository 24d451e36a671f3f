//! The source of a channel's endpoints.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use callboard_core::{Balancer, Instance, Resolution, Watcher};
use futures_core::future::BoxFuture;

/// The source of a channel's endpoints. A [`Watcher`] of the registry is one. A source with its own endpoints, such as
/// an external balancer, wraps it.
pub(crate) trait Source: Send {
    /// Resolves when something has changed that the other methods return. Cancel-safe.
    fn changed(&mut self) -> BoxFuture<'_, ()>;

    /// The state of the registry.
    fn registry(&self) -> &Resolution;

    /// The endpoints to connect.
    fn set(&self) -> Set;

    /// The balancer to use in place of the channel's own.
    fn balancer(&self) -> Option<&Arc<dyn Balancer>> {
        None
    }

    /// Notes whether any endpoint is ready. True if that changes what the other methods return.
    fn note_ready(&mut self, any: bool) -> bool {
        let _ = any;
        false
    }

    /// The status of this source, if it is not the registry alone.
    fn status(&self) -> Option<Arc<dyn SourceStatus>> {
        None
    }
}

/// The endpoints to connect, if they are known.
#[derive(Clone, Debug)]
pub(crate) enum Set {
    /// The registry has not answered yet.
    Unanswered,
    /// The registry has answered, and something else is awaited. The text names it, for messages.
    Awaited(&'static str),
    Known(Arc<[Arc<Instance>]>),
}

/// The status of a source, displayed in one line in messages about calls.
pub(crate) trait SourceStatus: fmt::Display + fmt::Debug + Send + Sync {
    /// Why the set is empty, if the reason is not the registry.
    fn why_empty(&self) -> Option<&'static str>;

    /// For downcasting to the concrete type.
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
