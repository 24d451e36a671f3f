//! The state that a channel's task publishes for its calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::state::{Published, Since};

/// The published state, and the notifications of its changes.
#[derive(Debug)]
pub(crate) struct Publication {
    latest: ArcSwap<Published>,
    /// Whether it is known that no service config affects calls. Then a call can begin without loading the state.
    unruled: AtomicBool,
    /// Notified after each publication.
    anew: Notify,
    /// Notified when something has changed for calls that wait for an endpoint.
    changed: Notify,
    /// Notified when something has changed for calls that wait for a stream: the connections.
    moved: Notify,
}

/// Notifications of what is published after a look. Each resolves when there is a reason to look again.
#[derive(Debug)]
pub(crate) struct News<'a> {
    /// Any publication. Not for calls, as there may be many of them.
    pub(crate) anything: Notified<'a>,
    /// A change for calls that wait for an endpoint.
    pub(crate) changed: Notified<'a>,
    /// A change for calls that wait for a stream.
    pub(crate) moved: Notified<'a>,
}

impl Publication {
    pub(crate) fn new(published: Published) -> Self {
        Self {
            unruled: AtomicBool::new(published.is_unruled()),
            latest: ArcSwap::from_pointee(published),
            anew: Notify::new(),
            changed: Notify::new(),
            moved: Notify::new(),
        }
    }

    /// The current state. Takes no lock; do not hold the guard across an await.
    pub(crate) fn now(&self) -> Guard<Arc<Published>> {
        self.latest.load()
    }

    /// Reads the current state. Everything that is published after that completes the returned notifications, even if
    /// they are not polled yet.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Published) -> T) -> (T, News<'_>) {
        // Made before the look: a `Notified` misses no notification after it is made.
        let news =
            News { anything: self.anew.notified(), changed: self.changed.notified(), moved: self.moved.notified() };
        (look(&self.now()), news)
    }

    /// Whether it is known that no service config affects calls that begin now.
    pub(crate) fn is_unruled(&self) -> bool {
        self.unruled.load(Ordering::Relaxed)
    }

    /// Replaces the published state. Called by one task only.
    pub(crate) fn publish(&self, published: Published) {
        // Stored first, so that every reader of the new state sees this too.
        self.unruled.store(published.is_unruled(), Ordering::Relaxed);
        let published = Arc::new(published);
        let former = self.latest.swap(Arc::clone(&published));
        self.anew.notify_waiters();
        // Many calls may wait, so they are woken only for changes that matter to them.
        match published.since(&former) {
            Since::Alike => {}
            Since::Renewed => self.changed.notify_waiters(),
            Since::Moved => {
                self.changed.notify_waiters();
                self.moved.notify_waiters();
            }
        }
    }
}
