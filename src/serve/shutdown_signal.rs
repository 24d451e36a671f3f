//! The future that tells the parts of a server to shut down.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::watch;

/// Resolves when the server has to shut down gracefully: send GOAWAY, accept no more connections, and finish the calls
/// in flight. Pass it to tonic as the `signal` of `serve_with_incoming_shutdown`.
///
/// Clones resolve at the same time, and a clone that is made later resolves at once. A handler whose call has no end of
/// its own keeps a clone, and ends when it resolves. Otherwise such a call lasts until the [drain
/// timeout](crate::Serve::drain_timeout).
///
/// ```
/// # use callboard::Shutdown;
/// # async fn next_message() -> Option<u32> { None }
/// # async fn handler(shutdown: Shutdown) {
/// let mut over = shutdown.clone();
/// loop {
///     tokio::select! {
///         message = next_message() => if message.is_none() { break },
///         () = &mut over => break, // with the status UNAVAILABLE, which clients may retry
///     }
/// }
/// # }
/// ```
pub struct Shutdown {
    /// Closes when the shutdown begins. Nothing is ever sent.
    asked: watch::Receiver<()>,
    waiting: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
}

impl Shutdown {
    /// Makes a future that resolves when the sender is dropped.
    pub(super) fn new() -> (watch::Sender<()>, Self) {
        let (sender, asked) = watch::channel(());
        (sender, Self::heard(asked))
    }

    fn heard(asked: watch::Receiver<()>) -> Self {
        let mut changes = asked.clone();
        let waiting = Box::pin(async move { while changes.changed().await.is_ok() {} });
        Self { asked, waiting }
    }

    /// Returns whether the shutdown has begun.
    pub fn has_begun(&self) -> bool {
        self.asked.has_changed().is_err()
    }
}

impl Clone for Shutdown {
    fn clone(&self) -> Self {
        Self::heard(self.asked.clone())
    }
}

impl Future for Shutdown {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // This check comes first, so that the future may be polled after it has resolved.
        if self.has_begun() { Poll::Ready(()) } else { self.waiting.as_mut().poll(cx) }
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").field("has_begun", &self.has_begun()).finish_non_exhaustive()
    }
}
