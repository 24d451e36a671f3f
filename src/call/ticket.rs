//! What is kept of a call while it runs.

use std::fmt;
use std::sync::Arc;

use callboard_core::{Code, Endpoint, Load, Outcome, Service};
use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use crate::control::{Choice, Rules, Summary};
use crate::load;
use crate::lookaside::Errand;

/// One attempt of a call, from sending to its end: counts it on its endpoint, and tells the picker how it went. Dropped
/// without [`done`](Self::done), it was cancelled.
pub(super) struct Ticket {
    choice: Arc<Choice>,
    /// Which of its endpoints.
    index: usize,
    begun: Instant,
    code: Code,
    /// What the response has reported. Boxed, as most report nothing.
    load: Option<Box<Load>>,
    /// Which attempt of its call it is, from 1.
    attempt: u32,
    /// What the service's config says, if there is one.
    rules: Option<Arc<Rules>>,
    /// Where a balancer's list has sent it, if one has.
    errand: Option<Errand>,
}

impl Ticket {
    /// A call that this endpoint was chosen for; there must be one of this index.
    pub(super) fn new(
        choice: Arc<Choice>,
        index: usize,
        attempt: u32,
        rules: Option<Arc<Rules>>,
        errand: Option<Errand>,
    ) -> Self {
        let (begun, code, load) = (Instant::now(), Code::Cancelled, None);
        let ticket = Self { choice, index, begun, code, attempt, rules, errand, load };
        ticket.endpoint().call_started();
        ticket
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.choice.endpoints[self.index]
    }

    /// What the service's config said when the endpoint was chosen.
    pub(super) fn rules(&self) -> Option<&Rules> {
        self.rules.as_deref()
    }

    /// Where the call is, for messages about it.
    pub(super) fn whence(&self, service: &Service) -> String {
        let address = &self.endpoint().instance().address;
        match self.attempt {
            1 => format!("service {service}, endpoint {address}"),
            attempt => format!("service {service}, endpoint {address}, attempt {attempt}"),
        }
    }

    /// What a call has failed by, with all that there is to know of it: where it is, and how the registry stands.
    pub(super) fn report(&self, summary: &Summary, why: &str) -> String {
        format!("{}: {why}; {}", self.whence(summary.service()), summary.registry())
    }

    /// What an external balancer wants the server to be told.
    pub(super) fn token(&self) -> Option<&HeaderValue> {
        self.errand.as_ref().and_then(Errand::token)
    }

    /// Notes that the server has answered.
    pub(super) fn answered(&mut self) {
        if let Some(errand) = &mut self.errand {
            errand.received();
        }
    }

    /// Notes that the request never left.
    pub(super) fn unsent(&mut self) {
        if let Some(errand) = &mut self.errand {
            errand.unsent();
        }
    }

    /// Notes what the trailers report of the endpoint's load, if they do.
    pub(super) fn note_load(&mut self, trailers: &HeaderMap) {
        if let Some(load) = load::report_in(trailers).map(Load::now) {
            self.endpoint().set_load(load.clone());
            self.load = Some(Box::new(load));
        }
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
        self.endpoint().call_ended(telling.then_some(latency));
        if self.code == Code::Ok
            && let Some(throttle) = self.rules().and_then(Rules::throttle)
        {
            throttle.succeeded();
        }
        self.choice.picker.done(self.index, &Outcome::new(self.code, latency).load(self.load.take().map(|load| *load)));
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("endpoint", self.endpoint()).field("begun", &self.begun).finish_non_exhaustive()
    }
}
