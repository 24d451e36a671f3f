//! Waiting for a one-shot watch of the client library.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use zookeeper_client as zk;

/// Waits until a watch has fired, for whatever reason. It is a reason to read again, and says nothing by itself.
///
/// The library panics in it if the runtime of its own task has ended; that is a reason to read again too.
pub(crate) fn fired(watcher: zk::OneshotWatcher) -> BoxFuture<'static, ()> {
    AssertUnwindSafe(watcher.changed()).catch_unwind().map(drop).boxed()
}
