//! All watches of a runtime: one task, and one stream of etcd's.

mod task;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use callboard_core::{Error, ErrorKind, Result};
use etcd_client::WatchOptions;
use etcd_client::proto::PbWatchResponse;
use tokio::sync::mpsc;
use tokio::time::timeout;

use self::task::Task;
use crate::connection::Connection;
use crate::failure::silence;
use crate::worker::Worker;

/// How many answers may wait for who watches. Who does not read them is not told more, and has to ask anew.
const UNREAD: usize = 128;

/// How long a watch may take to be opened. There may be a thousand others before it; what is said of those meanwhile does
/// not make it any likelier that this one is answered.
const OPENED: Duration = Duration::from_secs(10);

/// Opens watches.
#[derive(Default)]
pub(crate) struct Feeds {
    task: Worker<Order>,
    /// The number of the last watch. No two on one stream may have the same.
    last: AtomicI64,
}

/// What the task is told.
enum Order {
    Begin(i64, Wanted),
    End(i64),
}

/// A watch that is wanted.
struct Wanted {
    key: String,
    options: WatchOptions,
    /// Where its answers go.
    said: mpsc::Sender<Said>,
}

/// An answer to one watch, or why there are no more.
type Said = Result<Box<PbWatchResponse>>;

/// The answers to one watch. Dropping it ends the watch in etcd too.
pub(crate) struct Answers {
    number: i64,
    said: mpsc::Receiver<Said>,
    /// Keeps the task going.
    task: mpsc::UnboundedSender<Order>,
}

impl Feeds {
    /// Asks for a watch. The first answer says whether it is open.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn begin(&self, connection: &Arc<Connection>, key: &str, options: WatchOptions) -> Answers {
        let task = self.task.join(|orders| Task::new(Arc::clone(connection), orders).run());
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, said) = mpsc::channel(UNREAD);
        let wanted = Wanted { key: key.to_owned(), options: options.with_watch_id(number), said: sender };
        // If the task was ended, with its runtime, the answers end too.
        let _ = task.send(Order::Begin(number, wanted));
        Answers { number, said, task }
    }
}

impl Answers {
    /// What etcd says first: whether the watch is open.
    pub(crate) async fn first(&mut self) -> Said {
        timeout(OPENED, self.next()).await.unwrap_or_else(|_| Err(silence("watch")))
    }

    /// What etcd says next.
    ///
    /// Cancel-safe.
    pub(crate) async fn next(&mut self) -> Said {
        let ended =
            || Error::new(ErrorKind::Unavailable, "cannot watch: the watch has ended, or was not read for long");
        self.said.recv().await.unwrap_or_else(|| Err(ended()))
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        let _ = self.task.send(Order::End(self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_not_opened_is_an_error_and_not_silent_for_ever() {
        let ((_says_nothing, said), (task, _orders)) = (mpsc::channel(1), mpsc::unbounded_channel());
        let mut answers = Answers { number: 1, said, task };
        let first = timeout(OPENED * 2, answers.first()).await.expect("it does not wait for ever");
        assert_eq!(first.expect_err("nothing was said").kind(), ErrorKind::Timeout);
    }
}
