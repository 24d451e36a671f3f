//! Keeping leases alive: one task and one stream for all the leases of a client.

mod task;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use callboard_core::{Error, ErrorKind};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::task::Task;
use crate::connection::Connection;

/// Keeps leases alive. Its task begins with the first lease, and ends with the last.
#[derive(Default)]
pub(crate) struct Keeper {
    /// How the task is told of a new lease. Each lease holds a sender of its own, which is what keeps the task going;
    /// this one does not.
    task: Mutex<Option<mpsc::WeakUnboundedSender<Kept>>>,
}

/// A lease that is kept alive for as long as this exists.
pub(crate) struct Beat {
    ended: watch::Receiver<Option<Error>>,
    /// Keeps the task going.
    _task: mpsc::UnboundedSender<Kept>,
}

/// A lease, as the task knows it.
struct Kept {
    lease: i64,
    ttl: Duration,
    /// When the lease has ended, if etcd has not heard since.
    deadline: Instant,
    /// When etcd is to hear next.
    beat_at: Instant,
    /// Since when an answer is waited for.
    asked: Option<Instant>,
    /// Where the end is told. Closed, once nobody wants the lease any more.
    ended: watch::Sender<Option<Error>>,
}

/// How many times etcd hears of a lease within its time to live.
const BEATS: u32 = 3;

impl Keeper {
    /// Keeps a lease alive that was asked for at this moment.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn keep(&self, connection: &Arc<Connection>, lease: i64, ttl: Duration, granted: Instant) -> Beat {
        let (ended, end) = watch::channel(None);
        let kept = Kept { lease, ttl, deadline: granted + ttl, beat_at: granted + ttl / BEATS, asked: None, ended };
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = task.as_ref().and_then(mpsc::WeakUnboundedSender::upgrade).unwrap_or_else(|| {
            let (sender, leases) = mpsc::unbounded_channel();
            *task = Some(sender.downgrade());
            tokio::spawn(Task::new(Arc::clone(connection), leases).run());
            sender
        });
        // It cannot be closed while there is a sender, unless the task was ended from outside, with its runtime: then
        // the end is told by `ended`, which is dropped here.
        let _ = sender.send(kept);
        Beat { ended: end, _task: sender }
    }
}

impl Beat {
    /// Waits until the lease is not kept alive any more, and says why.
    ///
    /// Cancel-safe.
    pub(crate) async fn ended(&mut self) -> Error {
        let ended = self.ended.wait_for(Option::is_some).await;
        let why = ended.ok().and_then(|why| why.clone());
        why.unwrap_or_else(|| Error::new(ErrorKind::Lost, "the task that kept the lease alive was ended"))
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keeper(..)")
    }
}

impl fmt::Debug for Beat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Beat(..)")
    }
}
