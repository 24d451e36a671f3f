//! What a channel's task tells its calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::state::{Published, Since};

/// What is published, and who is told when there is something new.
#[derive(Debug)]
pub(crate) struct Publication {
    latest: ArcSwap<Published>,
    /// It is known that no config says anything of calls: they need not look at what is published to begin.
    unruled: AtomicBool,
    /// Told after each publication.
    anew: Notify,
    /// Told when there is something new for calls that wait for an endpoint.
    changed: Notify,
    /// Told when there is something new for calls that wait for a place: other connections than before.
    moved: Notify,
}

/// What is published after a look. Each resolves when there is reason to look again.
#[derive(Debug)]
pub(crate) struct News<'a> {
    /// Anything at all. Not for calls, of which there may be many.
    pub(crate) anything: Notified<'a>,
    /// Something new for calls that wait for an endpoint.
    pub(crate) changed: Notified<'a>,
    /// Something new for calls that wait for a place.
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

    /// What is known now. Without a lock; not to be held across an await.
    pub(crate) fn now(&self) -> Guard<Arc<Published>> {
        self.latest.load()
    }

    /// Looks at what is known now. What comes after that is among the news, even if nobody awaits them yet.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Published) -> T) -> (T, News<'_>) {
        // Before the look: from when it is made, a `Notified` misses nothing.
        let news =
            News { anything: self.anew.notified(), changed: self.changed.notified(), moved: self.moved.notified() };
        (look(&self.now()), news)
    }

    /// Whether it is known that no config says anything of calls that begin now.
    pub(crate) fn is_unruled(&self) -> bool {
        self.unruled.load(Ordering::Relaxed)
    }

    /// Replaces what is published. One task does.
    pub(crate) fn publish(&self, published: Published) {
        // Before the rest: whoever sees what is published sees this too.
        self.unruled.store(published.is_unruled(), Ordering::Relaxed);
        let published = Arc::new(published);
        let former = self.latest.swap(Arc::clone(&published));
        self.anew.notify_waiters();
        // Many calls may wait: they are woken only for what can make a difference to them.
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
