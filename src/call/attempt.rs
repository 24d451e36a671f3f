//! One attempt of a call.

use std::fmt;
use std::sync::Arc;

use callboard_core::{CallMetadata, Code, Endpoint, Load, Member, Outcome, ServiceName};
use http::HeaderMap;
use tokio::time::Instant;
use tonic::Status;

use super::Peer;
use crate::config::Rules;
use crate::control::{Chooser, Summary};
use crate::transport::{SentBytes, Streamed};
use callboard_protocols::orca;

/// One attempt of a call, from sending to its end: counts it on its endpoint, and tells the picker how it went. Dropped
/// without [`done`](Self::done), it was cancelled.
pub(super) struct Attempt {
    chooser: Arc<Chooser>,
    /// The one that was picked.
    member: Member,
    /// What the pick adds.
    metadata: Option<Arc<CallMetadata>>,
    begun: Instant,
    code: Code,
    /// Boxed, as most calls have none.
    notes: Option<Box<Notes>>,
    /// Which attempt of its call it is, from 1.
    number: u32,
    /// What the service's config says, if there is one.
    rules: Option<Arc<Rules>>,
    /// Whether the request may have left.
    sent: bool,
    /// Whether anything was received.
    received: bool,
    /// Of a request that was sent at once; else its notes have it.
    bytes_sent: u64,
    bytes_received: u64,
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
    /// How much of a streamed request is sent.
    streamed: Option<Streamed>,
}

/// Who has served a call, and what the pick adds to its response.
pub(super) struct Served {
    pub(super) by: Endpoint,
    pub(super) metadata: Option<Arc<CallMetadata>>,
}

impl Attempt {
    /// A call for which this member was picked.
    pub(super) fn new(
        chooser: Arc<Chooser>,
        member: Member,
        metadata: Option<Arc<CallMetadata>>,
        number: u32,
        rules: Option<Arc<Rules>>,
    ) -> Self {
        let (begun, code, notes) = (Instant::now(), Code::Cancelled, None);
        let (sent, received, bytes_sent, bytes_received) = (true, false, 0, 0);
        let attempt = Self {
            chooser,
            member,
            metadata,
            begun,
            code,
            number,
            rules,
            notes,
            sent,
            received,
            bytes_sent,
            bytes_received,
        };
        attempt.endpoint().call_started();
        attempt
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
        &self.chooser.members[self.member]
    }

    /// Which attempt of its call it is, from 1.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// What the service's config said when the endpoint was chosen.
    pub(super) fn rules(&self) -> Option<&Rules> {
        self.rules.as_deref()
    }

    /// Where the call is, for messages about it.
    pub(super) fn whence(&self, service: &ServiceName) -> String {
        let address = self.endpoint().instance().address();
        match self.number {
            1 => format!("service {service}, endpoint {address}"),
            number => format!("service {service}, endpoint {address}, attempt {number}"),
        }
    }

    /// What a call has failed by, with all that there is to know of it: where it is, and how the registry stands.
    pub(super) fn report(&self, summary: &Summary, why: &str) -> String {
        format!("{}: {why}; {}", self.whence(summary.service()), summary.registry())
    }

    /// What the balancer adds to the call.
    pub(super) fn metadata(&self) -> Option<&CallMetadata> {
        self.metadata.as_deref()
    }

    /// Who serves it.
    pub(super) fn served(&self) -> Served {
        Served { by: self.endpoint().clone(), metadata: self.metadata.clone() }
    }

    /// Notes how much of the request is sent.
    pub(super) fn sends(&mut self, bytes: SentBytes) {
        match bytes {
            SentBytes::Whole(bytes) => self.bytes_sent = bytes,
            SentBytes::Stream(bytes) => self.notes().streamed = Some(bytes),
        }
    }

    /// Notes that the server has answered.
    pub(super) fn answered(&mut self) {
        self.received = true;
    }

    /// Notes that so much of the response has come.
    pub(super) fn received(&mut self, bytes: usize) {
        self.bytes_received += bytes as u64;
    }

    /// Notes that the request never left.
    pub(super) fn unsent(&mut self) {
        self.sent = false;
    }

    /// Notes what the trailers report of the endpoint's load, if they do.
    pub(super) fn note_load(&mut self, trailers: &HeaderMap) {
        if let Some(load) = orca::load_in(trailers) {
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

impl Drop for Attempt {
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
        let Notes { load, streamed, .. } = self.notes.take().map_or_else(Notes::default, |notes| *notes);
        let mut outcome = Outcome::new(self.code, latency).load(load);
        let bytes_sent = streamed.map_or(self.bytes_sent, |streamed| streamed.count());
        (outcome.sent, outcome.received) = (self.sent, self.received);
        (outcome.bytes_sent, outcome.bytes_received) = (bytes_sent, self.bytes_received);
        self.chooser.picker.done(self.member, &outcome);
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").field("endpoint", self.endpoint()).field("begun", &self.begun).finish_non_exhaustive()
    }
}
