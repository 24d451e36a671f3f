//! How many requests a connection may carry, and how many it does.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The streams of one connection, shared by its driver and its users.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// The peer's MAX_CONCURRENT_STREAMS; 0 until its SETTINGS have arrived.
    limit: AtomicUsize,
    used: AtomicUsize,
    /// Those who wait in [`freed`](Self::freed), so that nobody has to be notified on the common path.
    waiting: AtomicUsize,
    freed: Notify,
    /// No new stream can be opened: a GOAWAY came, or the connection is gone.
    closing: AtomicBool,
    /// Why the connection ended, once it has.
    ended: OnceLock<String>,
}

impl Streams {
    /// Takes the place of one request, if there is one.
    pub(super) fn try_reserve(&self) -> bool {
        if self.is_closing() {
            return false;
        }
        // Not "add, then look": a place that is taken for a moment and given back would wake those who wait, for nothing.
        let fits = |used| (used < self.limit()).then_some(used + 1);
        self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits).is_ok()
    }

    pub(super) fn release(&self) {
        self.used.fetch_sub(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }

    /// Resolves when a place may be free again. It has to be [`enable`](Notified::enable)d, and `try_reserve` tried
    /// again, before it is awaited.
    pub(super) fn freed(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting { streams: self, notified: Box::pin(self.freed.notified()) }
    }

    /// Wakes another one of those who wait if a place is free. For who was woken and does not take it.
    pub(super) fn pass_on(&self) {
        if self.used() < self.limit() && self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::SeqCst)
    }

    /// Notes what the peer allows. Whoever waits is woken if that is more than before.
    pub(super) fn set_limit(&self, limit: usize) {
        if self.limit.swap(limit, Ordering::SeqCst) < limit {
            self.wake_all();
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Notes that no new stream can be opened. Whoever waits is woken, to go elsewhere.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.wake_all();
    }

    /// Notes why the connection ended. Called before its streams learn that it has, so that they can tell.
    pub(super) fn end(&self, why: String) {
        // Only the driver calls this, once.
        let _ = self.ended.set(why);
        self.close();
    }

    pub(super) fn ended(&self) -> Option<&str> {
        self.ended.get().map(String::as_str)
    }

    fn wake_all(&self) {
        self.freed.notify_waiters();
    }
}

/// A wait for a free place.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    streams: &'a Streams,
    notified: std::pin::Pin<Box<Notified<'a>>>,
}

impl Waiting<'_> {
    /// From here on, a place that becomes free is not missed.
    pub(crate) fn enable(&mut self) {
        self.notified.as_mut().enable();
    }

    /// Resolves when a place may be free.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.notified.as_mut().poll(cx)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.streams.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn never_more_than_the_limit_and_nobody_waits_for_ever() {
        let streams = Arc::new(Streams::default());
        streams.set_limit(3);
        let running = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..200)
            .map(|_| {
                let (streams, running) = (Arc::clone(&streams), Arc::clone(&running));
                tokio::spawn(async move {
                    while !streams.try_reserve() {
                        let mut waiting = streams.freed();
                        waiting.enable();
                        if streams.try_reserve() {
                            break;
                        }
                        std::future::poll_fn(|cx| waiting.poll(cx)).await;
                    }
                    assert!(running.fetch_add(1, Ordering::SeqCst) < 3);
                    tokio::task::yield_now().await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    streams.release();
                })
            })
            .collect();
        for task in tasks {
            tokio::time::timeout(std::time::Duration::from_secs(20), task).await.expect("in time").expect("no panic");
        }
        assert_eq!(streams.used(), 0);
    }
}
