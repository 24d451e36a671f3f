//! All watches of a runtime: one task, and one stream of etcd's.

mod command;
mod task;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use callboard_core::{Error, ErrorKind};
use etcd_client::WatchOptions;
use tokio::sync::mpsc;
use tokio::time::timeout;

pub(crate) use self::task::LARGEST_ANSWER;

use self::command::{Answer, Begin, Command};
use self::task::Task;
use super::connection::Connection;
use super::shared_task::SharedTask;
use crate::error::timed_out;

/// How many answers of one watch are kept until they are read. A watch that is not read gets no more, and has to be
/// opened anew.
const UNREAD: usize = 128;

/// How long a watch may take to be opened. A thousand others may be before it, and answers to those do not make it more
/// likely that this one is answered.
const OPENED: Duration = Duration::from_secs(10);

/// Opens watches.
#[derive(Default)]
pub(super) struct Watches {
    task: SharedTask<Command>,
    /// The id of the last watch. No two on one stream may have the same.
    last: AtomicI64,
}

/// The answers to one watch. Dropping it ends the watch in etcd too.
pub(super) struct Answers {
    id: i64,
    answers: mpsc::Receiver<Answer>,
    /// Keeps the task running.
    task: mpsc::UnboundedSender<Command>,
}

impl Watches {
    /// Asks for a watch. The first answer says whether it is open.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn begin(&self, connection: &Arc<Connection>, key: &str, options: WatchOptions) -> Answers {
        let task = self.task.join(|commands| Task::new(Arc::clone(connection), commands).run());
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answers) = mpsc::channel(UNREAD);
        let begin = Begin { key: key.to_owned(), options: options.with_watch_id(id), answers: sender };
        // If the task was ended, with its runtime, the answers end too.
        let _ = task.send(Command::Begin(id, begin));
        Answers { id, answers, task }
    }
}

impl Answers {
    /// The first answer: whether the watch is open.
    pub(super) async fn first(&mut self) -> Answer {
        timeout(OPENED, self.next()).await.unwrap_or_else(|_| Err(timed_out("watch")))
    }

    /// The next answer.
    ///
    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Answer {
        let ended =
            || Error::new(ErrorKind::Unavailable, "cannot watch: the watch has ended, or was not read for long");
        self.answers.recv().await.unwrap_or_else(|| Err(ended()))
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        let _ = self.task.send(Command::End(self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_not_opened_is_an_error_and_not_silent_for_ever() {
        let ((_silent, answers), (task, _commands)) = (mpsc::channel(1), mpsc::unbounded_channel());
        let mut answers = Answers { id: 1, answers, task };
        let first = timeout(OPENED * 2, answers.first()).await.expect("it does not wait for ever");
        assert_eq!(first.expect_err("there was no answer").kind(), ErrorKind::Timeout);
    }
}
