//! The stream of connections that a server accepts.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use callboard_core::{Backoff, BackoffState};
use futures_core::Stream;
use tokio::time::{Sleep, sleep};

use super::listener::{Bound, Listener};

/// The connections that a listener accepts, as a stream. For servers that take one: tonic's and hyper's.
///
/// The stream never ends and never fails. If the system cannot accept a connection, such as for lack of file
/// descriptors, that is logged once as a warning. The next attempt comes after 5 ms, and each further one after twice
/// as long, up to 1 s ([`Backoff::ACCEPT`]): an attempt at once would fail at once, for ever. Meanwhile, clients wait
/// in the listener's queue. A connection that has ended before it was accepted is skipped.
///
/// TCP connections have `TCP_NODELAY`. tonic sets that only on listeners that it has bound itself.
///
/// Poll it within a Tokio runtime.
#[derive(Debug)]
pub struct Incoming<L> {
    listener: L,
    retry: BackoffState,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<L: Listener> Incoming<L> {
    /// Makes the stream of this listener's connections.
    pub fn new(listener: L) -> Self {
        Self { listener, retry: BackoffState::new(Backoff::ACCEPT), pause: None }
    }

    fn note_success(&mut self) {
        if self.retry.failures() > 0 {
            tracing::info!(failures = self.retry.failures(), "accepting connections again");
            self.retry.succeeded();
        }
    }

    fn pause_after(&mut self, error: &io::Error) {
        let wait = self.retry.failed();
        if self.retry.failures() == 1 {
            let at = Bound::of(&self.listener).map_or_else(|error| error.to_string(), |bound| bound.to_string());
            tracing::warn!(at, %error, retry_in = ?wait, "cannot accept connections: they wait for the next attempt");
        } else {
            tracing::debug!(%error, retry_in = ?wait, "still cannot accept connections");
        }
        self.pause = Some(Box::pin(sleep(wait)));
    }
}

impl<L: Listener> Stream for Incoming<L> {
    type Item = io::Result<L::Connection>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(cx));
                this.pause = None;
            }
            match ready!(this.listener.poll_accept(cx)) {
                Ok(connection) => {
                    this.note_success();
                    return Poll::Ready(Some(Ok(connection)));
                }
                Err(error) if is_of_one_connection(&error) => tracing::debug!(%error, "a connection ended at once"),
                Err(error) => this.pause_after(&error),
            }
        }
    }
}

/// Whether the error concerns the first connection in the queue alone, which has been removed from it.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
