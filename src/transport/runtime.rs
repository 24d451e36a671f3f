//! The runtime that a channel was built in.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use tokio::runtime::{EnterGuard, Handle};
use tokio::time::{Duration, sleep};

/// The runtime of a channel's tasks and timers. Calls may be polled on another one.
#[derive(Debug)]
pub(crate) struct Runtime {
    handle: Handle,
    ended: AtomicBool,
}

impl Runtime {
    pub(crate) fn new(handle: &Handle) -> Arc<Self> {
        Arc::new(Self { handle: handle.clone(), ended: AtomicBool::new(false) })
    }

    /// Timers that are made while the guard lives belong to this runtime.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// Whether it has been shut down. Polling one of its timers then would panic.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Notes that it is being shut down. Tasks are dropped before timers end, so the drop of a task is the time to call
    /// this.
    pub(crate) fn note_end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    /// Sleeps for this time, on whatever runtime it is polled. False if this runtime ends first.
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
