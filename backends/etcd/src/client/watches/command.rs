//! What the task that carries all watches is asked to do.

use callboard_core::Result;
use etcd_client::WatchOptions;
use etcd_client::proto::PbWatchResponse;
use tokio::sync::mpsc;

/// A command to the task, for the watch of this id.
pub(super) enum Command {
    Begin(i64, Begin),
    End(i64),
}

/// A watch that is to be opened.
pub(super) struct Begin {
    pub(super) key: String,
    pub(super) options: WatchOptions,
    /// Where its answers go.
    pub(super) answers: mpsc::Sender<Answer>,
}

/// An answer to one watch, or why there are no more.
pub(super) type Answer = Result<Box<PbWatchResponse>>;
