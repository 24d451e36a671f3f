//! What is kept of a call while it runs.

use std::fmt;
use std::sync::Arc;

use callboard_core::{Code, Endpoint, Load, Outcome, ServiceName};
use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use tonic::Status;

use super::Peer;
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
    /// Boxed, as most calls have none.
    notes: Option<Box<Notes>>,
    /// Which attempt of its call it is, from 1.
    attempt: u32,
    /// What the service's config says, if there is one.
    rules: Option<Arc<Rules>>,
    /// Where a balancer's list has sent it, if one has.
    errand: Option<Errand>,
    /// Whether the request has left.
    sent: bool,
}

/// What few attempts have to carry along.
#[derive(Default)]
struct Notes {
    /// Who wants to know where it goes.
    peer: Option<Peer>,
    /// What the credentials add to it, or why they do not, until it is sent.
    given: Option<Result<HeaderMap, Status>>,
    /// What the response has reported.
    load: Option<Load>,
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
        let (begun, code, notes) = (Instant::now(), Code::Cancelled, None);
        let ticket = Self { choice, index, begun, code, attempt, rules, errand, notes, sent: true };
        ticket.endpoint().call_started();
        ticket
    }

    /// Tells somebody where it goes, and at its end what is reported of that.
    pub(super) fn tell(&mut self, peer: Option<&Peer>) {
        if let Some(peer) = peer {
            peer.chosen(self.endpoint());
            self.notes().peer = Some(peer.clone());
        }
    }

    fn notes(&mut self) -> &mut Notes {
        self.notes.get_or_insert_default()
    }

    /// Notes what the credentials say.
    pub(super) fn give(&mut self, given: Result<HeaderMap, Status>) {
        self.notes().given = Some(given);
    }

    /// What the credentials have said, once. None if nobody was asked.
    pub(super) fn given(&mut self) -> Option<Result<HeaderMap, Status>> {
        self.notes.as_mut()?.given.take()
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.choice.endpoints[self.index]
    }

    /// Which attempt of its call it is, from 1.
    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What the service's config said when the endpoint was chosen.
    pub(super) fn rules(&self) -> Option<&Rules> {
        self.rules.as_deref()
    }

    /// Where the call is, for messages about it.
    pub(super) fn whence(&self, service: &ServiceName) -> String {
        let address = self.endpoint().instance().address();
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
        self.sent = false;
        if let Some(errand) = &mut self.errand {
            errand.unsent();
        }
    }

    /// Notes what the trailers report of the endpoint's load, if they do.
    pub(super) fn note_load(&mut self, trailers: &HeaderMap) {
        if let Some(load) = load::load_in(trailers) {
            self.endpoint().set_load(load.clone());
            let notes = self.notes();
            notes.peer.iter().for_each(|peer| peer.reported(&load));
            notes.load = Some(load);
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
        let telling = self.sent && !matches!(self.code, Code::Cancelled | Code::Unavailable);
        self.endpoint().call_ended(telling.then_some(latency));
        if self.code == Code::Ok
            && let Some(throttle) = self.rules().and_then(Rules::throttle)
        {
            throttle.succeeded();
        }
        let load = self.notes.take().and_then(|notes| notes.load);
        let mut outcome = Outcome::new(self.code, latency).load(load);
        outcome.sent = self.sent;
        self.choice.picker.done(self.index, &outcome);
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("endpoint", self.endpoint()).field("begun", &self.begun).finish_non_exhaustive()
    }
}
