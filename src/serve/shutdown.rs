//! How everything in a server hears that it shuts down.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::watch;

/// Resolves when the server has to shut down gracefully: to send GOAWAY, to accept no more connections, and to finish the
/// calls in flight. For what tonic calls `signal` in `serve_with_incoming_shutdown`.
///
/// Clones resolve at the same time, and one that is made later resolves at once: a handler whose call has no end of its own
/// keeps one, and ends when it resolves. Else such a call lasts until the [grace](crate::Serve::drain_timeout) is over.
///
/// ```
/// # use callboard::Shutdown;
/// # async fn next_message() -> Option<u32> { None }
/// # async fn handler(shutdown: Shutdown) {
/// let mut over = shutdown.clone();
/// loop {
///     tokio::select! {
///         message = next_message() => if message.is_none() { break },
///         () = &mut over => break, // with a status of UNAVAILABLE, which clients know how to take
///     }
/// }
/// # }
/// ```
pub struct Shutdown {
    /// Its end is what is waited for: nothing is ever sent.
    asked: watch::Receiver<()>,
    waiting: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
}

impl Shutdown {
    /// It resolves when the sender is dropped.
    pub(super) fn new() -> (watch::Sender<()>, Self) {
        let (sender, asked) = watch::channel(());
        (sender, Self::heard(asked))
    }

    fn heard(asked: watch::Receiver<()>) -> Self {
        let mut changes = asked.clone();
        let waiting = Box::pin(async move { while changes.changed().await.is_ok() {} });
        Self { asked, waiting }
    }

    /// Whether it has begun.
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
        // Asked first, so that it may be polled on after it has resolved.
        if self.has_begun() { Poll::Ready(()) } else { self.waiting.as_mut().poll(cx) }
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").field("has_begun", &self.has_begun()).finish_non_exhaustive()
    }
}
