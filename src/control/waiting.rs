//! Counts and bounds the calls that wait.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// Counts the calls that wait for an endpoint or for a stream, and bounds their number.
#[derive(Debug)]
pub(crate) struct Waiting {
    count: AtomicUsize,
    most: usize,
    /// Notified when one more may wait after none could.
    room: Arc<Notify>,
}

/// One call that waits. Dropping it ends the wait.
#[derive(Debug)]
pub(crate) struct Waiter<'a>(&'a Waiting);

impl Waiting {
    /// `most` is the bound. None for no bound.
    pub(crate) fn new(most: Option<usize>) -> Self {
        Self { count: AtomicUsize::new(0), most: most.unwrap_or(usize::MAX), room: Arc::default() }
    }

    /// Counts one more waiting call. None if the bound is reached.
    pub(crate) fn begin(&self) -> Option<Waiter<'_>> {
        let fits = |count| (count < self.most).then_some(count + 1);
        self.count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits).ok().map(|_| Waiter(self))
    }

    /// How many calls wait now.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Waits until one more call may wait. `room` holds the notification meanwhile.
    pub(crate) fn poll_room(&self, room: &mut Option<Pin<Box<OwnedNotified>>>, cx: &mut Context<'_>) -> Poll<()> {
        while !self.has_room() {
            let waited =
                room.get_or_insert_with(|| Box::pin(Arc::clone(&self.room).notified_owned())).as_mut().poll(cx);
            // Checked again after registering, so that no change is missed.
            if waited.is_pending() && !self.has_room() {
                return Poll::Pending;
            }
            *room = None;
        }
        *room = None;
        Poll::Ready(())
    }

    /// Whether one more may wait. True also if the bound is 0: then there is nothing to wait for.
    fn has_room(&self) -> bool {
        self.most == 0 || self.count() < self.most
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::SeqCst) == self.0.most {
            self.0.room.notify_waiters();
        }
    }
}
