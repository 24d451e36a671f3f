//! What is kept of a call while it runs.

use std::fmt;
use std::sync::Arc;

use callboard_core::{Code, Endpoint, Outcome, Picker, Service};
use tokio::time::Instant;

use crate::control::Summary;

/// One attempt of a call, from sending to its end: counts it on its endpoint, and tells the picker how it went. Dropped
/// without [`done`](Self::done), it was cancelled.
pub(super) struct Ticket {
    endpoint: Endpoint,
    picker: Arc<dyn Picker>,
    index: usize,
    begun: Instant,
    code: Code,
}

impl Ticket {
    pub(super) fn new(endpoint: Endpoint, picker: Arc<dyn Picker>, index: usize) -> Self {
        endpoint.call_started();
        Self { endpoint, picker, index, begun: Instant::now(), code: Code::Cancelled }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Where the call is, for messages about it.
    pub(super) fn whence(&self, service: &Service) -> String {
        format!("service {service}, endpoint {}", self.endpoint.instance().address)
    }

    /// What a call has failed by, with all that there is to know of it: where it is, and how the registry stands.
    pub(super) fn report(&self, summary: &Summary, why: &str) -> String {
        format!("{}: {why}; {}", self.whence(summary.service()), summary.registry())
    }

    /// Notes how the call ended.
    pub(super) fn done(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let latency = self.begun.elapsed();
        // A call that was given up, or whose connection died, says nothing about the server's speed.
        let telling = !matches!(self.code, Code::Cancelled | Code::Unavailable);
        self.endpoint.call_ended(telling.then_some(latency));
        self.picker.done(self.index, &Outcome::new(self.code, latency));
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("endpoint", &self.endpoint).field("begun", &self.begun).finish_non_exhaustive()
    }
}
