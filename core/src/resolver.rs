//! Where a client learns a service's instances.

use std::fmt;

use futures_core::stream::BoxStream;

use crate::{Result, ServiceName, Snapshot};

/// What a watch yields: complete sets, until an error ends it.
pub type Snapshots = BoxStream<'static, Result<Snapshot>>;

/// Turns a service into a stream of complete sets: the client's side of a backend.
///
/// # Contract
/// - `watch` itself does no I/O and cannot fail; everything happens as the stream is polled.
/// - **The first item is the set as it is now**, and comes even if the set is empty. A service that nobody has ever
///   heard of is an empty set, not an error. While nothing is known yet, the stream yields nothing.
/// - **Each item is complete.** A backend that receives changes folds them into sets. Equal sets in a row are allowed.
/// - **One attempt.** The stream yields an error at the first doubt (connection gone, session expired, history
///   compacted) and is then dropped, not polled again. [`watch`](crate::watch) watches again, for ever, and keeps
///   the last good set meanwhile. The end of the stream counts as such an error.
/// - A record that cannot be read is skipped and counted ([`Snapshot::skipped`]); it never fails the set.
/// - Dropping the stream ends the watch: nothing is left in the registry, no task goes on.
pub trait Resolver: fmt::Debug + Send + Sync + 'static {
    /// Watches one service.
    fn watch(&self, service: &ServiceName) -> Snapshots;
}

impl<R: Resolver + ?Sized> Resolver for std::sync::Arc<R> {
    fn watch(&self, service: &ServiceName) -> Snapshots {
        (**self).watch(service)
    }
}
