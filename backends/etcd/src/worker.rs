//! A task that begins with the first who needs it, and ends with the last.

use std::future::Future;
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, WeakUnboundedSender, unbounded_channel};

/// How a task is found that several share. Each of them holds a sender of its own, which is what keeps the task going;
/// this one does not.
pub(crate) struct Worker<T>(Mutex<Option<WeakUnboundedSender<T>>>);

impl<T> Worker<T> {
    /// How to tell the task something. It is begun, if there is none.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn join<F>(&self, begin: impl FnOnce(UnboundedReceiver<T>) -> F) -> UnboundedSender<T>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut task = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let going = task.as_ref().and_then(WeakUnboundedSender::upgrade);
        // One that has ended before its senders has panicked.
        going.filter(|sender| !sender.is_closed()).unwrap_or_else(|| {
            let (sender, receiver) = unbounded_channel();
            *task = Some(sender.downgrade());
            tokio::spawn(begin(receiver));
            sender
        })
    }
}

impl<T> Default for Worker<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_has_ended_is_begun_anew_although_somebody_still_holds_on_to_it() {
        let worker = Worker::<()>::default();
        let first = worker.join(|orders| async { drop(orders) });
        first.closed().await;
        let second = worker.join(|mut orders| async move { while orders.recv().await.is_some() {} });
        second.send(()).expect("there is a task");
        assert!(second.same_channel(&worker.join(|orders| async { drop(orders) })), "one is enough");
    }
}
