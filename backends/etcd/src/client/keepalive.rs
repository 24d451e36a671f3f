//! Keeping leases alive: one task and one stream for all leases of a runtime.

mod lease;
mod task;
mod timing;

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Error, ErrorKind};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub(crate) use self::timing::check_ttl;

use self::lease::LeaseState;
use self::task::Task;
use super::connection::Connection;
use super::shared_task::SharedTask;

/// Keeps leases alive. Its task begins with the first lease and ends with the last.
#[derive(Default)]
pub(super) struct KeepAlive {
    /// Takes new leases.
    task: SharedTask<LeaseState>,
}

/// A lease that is kept alive for as long as this exists.
pub(crate) struct KeptAlive {
    ended: watch::Receiver<Option<Error>>,
    /// Keeps the task running.
    _task: mpsc::UnboundedSender<LeaseState>,
}

impl KeepAlive {
    /// Keeps a lease alive that was requested at `requested`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn keep(
        &self,
        connection: &Arc<Connection>,
        lease: i64,
        ttl: Duration,
        requested: Instant,
    ) -> KeptAlive {
        let (sender, ended) = watch::channel(None);
        let state = LeaseState::new(lease, ttl, requested, sender);
        let task = self.task.join(|leases| Task::new(Arc::clone(connection), leases).run());
        // This fails only if the task was ended from outside, with its runtime. The state is dropped then, and with it
        // the sender, so that `ended` returns.
        let _ = task.send(state);
        KeptAlive { ended, _task: task }
    }
}

impl KeptAlive {
    /// Waits until the lease is not kept alive any more, and says why.
    ///
    /// Cancel-safe.
    pub(crate) async fn ended(&mut self) -> Error {
        let ended = self.ended.wait_for(Option::is_some).await;
        let why = ended.ok().and_then(|why| why.clone());
        why.unwrap_or_else(|| Error::new(ErrorKind::Lost, "the task that kept the lease alive was ended"))
    }
}
