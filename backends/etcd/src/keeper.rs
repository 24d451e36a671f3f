//! Keeping leases alive: one task and one stream for all the leases of a runtime.

mod task;
mod timing;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Error, ErrorKind, later};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::task::Task;
use crate::connection::Connection;
use crate::worker::Worker;

/// Keeps leases alive. Its task begins with the first lease, and ends with the last.
#[derive(Default)]
pub(crate) struct Keeper {
    /// Is told of each new lease.
    task: Worker<Kept>,
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
    /// Why etcd may refuse to keep it alive. It is asked for this one alone, as it would end the stream of all.
    refused: Option<Error>,
    /// Where the end is told. Closed, once nobody wants the lease any more.
    ended: watch::Sender<Option<Error>>,
}

impl Keeper {
    /// Keeps a lease alive that was asked for at this moment.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn keep(&self, connection: &Arc<Connection>, lease: i64, ttl: Duration, granted: Instant) -> Beat {
        let (ended, end) = watch::channel(None);
        let kept = Kept {
            lease,
            ttl,
            deadline: later(granted, ttl),
            beat_at: later(granted, timing::beat(ttl)),
            asked: None,
            refused: None,
            ended,
        };
        let sender = self.task.join(|leases| Task::new(Arc::clone(connection), leases).run());
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
