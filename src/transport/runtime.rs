//! The runtime that a channel was built in.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use tokio::runtime::{EnterGuard, Handle};
use tokio::time::{Duration, sleep};

/// Where a channel's tasks and timers run, wherever its calls are polled.
#[derive(Debug)]
pub(crate) struct Runtime {
    handle: Handle,
    ended: AtomicBool,
}

impl Runtime {
    pub(crate) fn new(handle: &Handle) -> Arc<Self> {
        Arc::new(Self { handle: handle.clone(), ended: AtomicBool::new(false) })
    }

    /// Makes timers that are made meanwhile its own.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// Whether it has been shut down. No timer of it may be polled then: that panics.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Notes that it is being shut down. Tasks are dropped before timers end, so a task that is dropped can tell.
    pub(crate) fn note_end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    /// Waits for so long, wherever it is polled. False if the runtime ends before.
    pub(crate) async fn sleep(&self, time: Duration) -> bool {
        let timer = {
            let _entered = self.enter();
            sleep(time)
        };
        let mut timer = pin!(timer);
        poll_fn(|cx| match self.has_ended() {
            true => Poll::Ready(false),
            false => timer.as_mut().poll(cx).map(|()| true),
        })
        .await
    }
}
