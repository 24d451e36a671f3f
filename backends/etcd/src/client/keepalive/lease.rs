//! The state of one lease that is kept alive.

use std::time::Duration;

use callboard_core::{Error, ErrorKind, later};
use tokio::sync::watch;
use tokio::time::Instant;

use super::timing;

const NOT_RENEWED: &str = "the lease could not be renewed for its whole time to live";
const UNKNOWN: &str = "etcd does not know the lease any more";

/// A lease, as the task that keeps it alive knows it.
pub(super) struct LeaseState {
    pub(super) id: i64,
    pub(super) ttl: Duration,
    /// When the lease has ended, if etcd receives no further keep-alive.
    pub(super) deadline: Instant,
    /// When the next keep-alive is due.
    pub(super) due: Instant,
    /// When the keep-alive was sent whose answer is awaited.
    pub(super) asked: Option<Instant>,
    /// Why etcd may refuse to keep it alive. Such a lease is asked for alone, as it would end the stream of all.
    pub(super) refused: Option<Error>,
    /// Where its end is reported. Closed once the lease is not wanted any more.
    ended: watch::Sender<Option<Error>>,
}

impl LeaseState {
    pub(super) fn new(id: i64, ttl: Duration, requested: Instant, ended: watch::Sender<Option<Error>>) -> Self {
        let (deadline, due) = (later(requested, ttl), later(requested, timing::interval(ttl)));
        Self { id, ttl, deadline, due, asked: None, refused: None, ended }
    }

    /// Notes that etcd has renewed it. An answer counts only if one is awaited: what was asked on an earlier stream
    /// does not renew it.
    pub(super) fn renewed(&mut self) {
        if let Some(asked) = self.asked.take() {
            self.refused = None;
            self.deadline = later(asked, self.ttl);
            self.due = later(asked, timing::interval(self.ttl));
        }
    }

    /// Notes that etcd refuses it. It is asked for again after a pause.
    pub(super) fn refuse(&mut self, error: Error) {
        (self.asked, self.refused) = (None, Some(error));
        self.due = later(Instant::now(), timing::longest_pause(self.ttl));
    }

    pub(super) fn is_wanted(&self) -> bool {
        !self.ended.is_closed()
    }

    /// Reports that its time to live has passed. The cause is why it was refused, or else why the stream broke.
    pub(super) fn expired(&self, stream_error: Option<&Error>) {
        let why = Error::new(ErrorKind::Lost, NOT_RENEWED);
        let cause = self.refused.as_ref().or(stream_error).cloned();
        self.ended.send_replace(Some(cause.into_iter().fold(why, Error::with_source)));
    }

    /// Reports that etcd does not know it any more.
    pub(super) fn unknown(&self) {
        self.ended.send_replace(Some(Error::new(ErrorKind::Lost, UNKNOWN)));
    }
}
