//! tokio's `Notify`, each use of which is one step.

use loom::sync::atomic::AtomicUsize;
use real_tokio::sync::futures;

use super::Arc;
use super::atomic::Ordering;
use crate::pin::Pin;
use crate::task::{Context, Poll};

/// The real one, which loom does not see inside of. Each use of it counts as one that takes a lock, as most do: what came
/// before one use is seen after the next.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    steps: Arc<Steps>,
    real: Arc<real_tokio::sync::Notify>,
}

#[derive(Debug, Default)]
struct Steps(AtomicUsize);

impl Steps {
    fn one(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn notified(&self) -> Notified<'_> {
        self.steps.one();
        Awaited { steps: Arc::clone(&self.steps), real: Box::pin(self.real.notified()) }
    }

    pub(crate) fn notified_owned(self: Arc<Self>) -> OwnedNotified {
        self.steps.one();
        Awaited { steps: Arc::clone(&self.steps), real: Box::pin(Arc::clone(&self.real).notified_owned()) }
    }

    pub(crate) fn notify_waiters(&self) {
        self.steps.one();
        self.real.notify_waiters();
    }
}

#[derive(Debug)]
pub(crate) struct Awaited<F> {
    steps: Arc<Steps>,
    real: Pin<Box<F>>,
}

pub(crate) type Notified<'a> = Awaited<futures::Notified<'a>>;
pub(crate) type OwnedNotified = Awaited<futures::OwnedNotified>;

impl<F: Future<Output = ()>> Future for Awaited<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.steps.one();
        self.real.as_mut().poll(cx)
    }
}
