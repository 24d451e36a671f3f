//! A task that begins with its first user and ends with its last.

use std::future::Future;
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, WeakUnboundedSender, unbounded_channel};

/// A task that several users share. Each user holds a sender, which keeps the task running; this handle does not.
pub(super) struct SharedTask<T>(Mutex<Option<WeakUnboundedSender<T>>>);

impl<T> SharedTask<T> {
    /// A sender to the task. The task is begun if there is none.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn join<F>(&self, begin: impl FnOnce(UnboundedReceiver<T>) -> F) -> UnboundedSender<T>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut task = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = task.as_ref().and_then(WeakUnboundedSender::upgrade);
        // A task that has ended before its senders has panicked.
        running.filter(|sender| !sender.is_closed()).unwrap_or_else(|| {
            let (sender, receiver) = unbounded_channel();
            *task = Some(sender.downgrade());
            tokio::spawn(begin(receiver));
            sender
        })
    }
}

impl<T> Default for SharedTask<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_has_ended_is_begun_anew_although_a_user_still_holds_its_sender() {
        let shared = SharedTask::<()>::default();
        let first = shared.join(|commands| async { drop(commands) });
        first.closed().await;
        let second = shared.join(|mut commands| async move { while commands.recv().await.is_some() {} });
        second.send(()).expect("there is a task");
        assert!(second.same_channel(&shared.join(|commands| async { drop(commands) })), "one is enough");
    }
}
