//! What is kept of a call while it runs.

use std::fmt;
use std::sync::Arc;

use callboard_core::{Code, Endpoint, Outcome, Picker};
use tokio::time::Instant;

use super::deadline::Deadline;

/// One attempt of a call, from sending to its end: counts it on its endpoint, and tells the picker how it went. Dropped
/// without [`done`](Self::done), it was cancelled, or has run out of time if its deadline has passed.
pub(super) struct Ticket {
    endpoint: Endpoint,
    picker: Arc<dyn Picker>,
    index: usize,
    begun: Instant,
    deadline: Option<Deadline>,
    /// None until it is known how the call ended.
    code: Option<Code>,
}

impl Ticket {
    pub(super) fn new(endpoint: Endpoint, picker: Arc<dyn Picker>, index: usize) -> Self {
        endpoint.call_started();
        Self { endpoint, picker, index, begun: Instant::now(), deadline: None, code: None }
    }

    /// Notes when the call has to be over.
    pub(super) fn due(mut self, deadline: Option<Deadline>) -> Self {
        self.deadline = deadline;
        self
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Notes how the call ended.
    pub(super) fn done(mut self, code: Code) {
        self.code = Some(code);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let now = Instant::now();
        let latency = now.saturating_duration_since(self.begun);
        let late = self.deadline.is_some_and(|deadline| deadline.at <= now);
        let code = self.code.unwrap_or(if late { Code::DeadlineExceeded } else { Code::Cancelled });
        // A call that was given up, or whose connection died, says nothing about the server's speed.
        let telling = !matches!(code, Code::Cancelled | Code::Unavailable);
        self.endpoint.call_ended(telling.then_some(latency));
        self.picker.done(self.index, &Outcome::new(code, latency));
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("endpoint", &self.endpoint).field("begun", &self.begun).finish_non_exhaustive()
    }
}
