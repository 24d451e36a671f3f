//! One attempt of a call.

use std::fmt;
use std::sync::Arc;

use callboard_core::{CallMetadata, Code, Endpoint, Load, Member, Outcome, ServiceName};
use callboard_protocols::orca;
use http::HeaderMap;
use tokio::time::Instant;
use tonic::Status;

use super::Peer;
use crate::config::Rules;
use crate::control::{Chooser, Summary};
use crate::transport::{SentBytes, Streamed};

/// One attempt of a call, from the pick to its end. It counts as in flight on its endpoint, and reports its outcome to
/// the picker. Dropped without [`done`](Self::done), it was cancelled.
pub(super) struct Attempt {
    chooser: Arc<Chooser>,
    /// The member that was picked.
    member: Member,
    /// The metadata of the pick.
    metadata: Option<Arc<CallMetadata>>,
    begun: Instant,
    code: Code,
    /// Boxed, as most calls have none.
    notes: Option<Box<Notes>>,
    /// The number of the attempt in its call, from 1.
    number: u32,
    /// The rules of the service config, if there is one.
    rules: Option<Arc<Rules>>,
    /// Whether the request may have been sent.
    sent: bool,
    /// Whether anything was received.
    received: bool,
    /// The size of a request that was sent at once. For a streamed request see [`Notes::streamed`].
    bytes_sent: u64,
    bytes_received: u64,
}

/// Data that only few attempts have.
#[derive(Default)]
struct Notes {
    /// The caller's [`Peer`], if there is one.
    peer: Option<Peer>,
    /// The metadata of the call credentials, or their failure, until the attempt is sent.
    given: Option<Result<HeaderMap, Status>>,
    /// The load report of the response.
    load: Option<Load>,
    /// How many bytes of a streamed request are sent.
    streamed: Option<Streamed>,
}

/// The endpoint that has served a call, and the metadata that the pick adds to its response.
pub(super) struct Served {
    pub(super) by: Endpoint,
    pub(super) metadata: Option<Arc<CallMetadata>>,
}

impl Attempt {
    /// An attempt for which this member was picked.
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

    /// Sets the caller's [`Peer`]. It is given the endpoint now, and the load report at the end.
    pub(super) fn set_peer(&mut self, peer: Option<&Peer>) {
        if let Some(peer) = peer {
            peer.chosen(self.endpoint());
            self.notes().peer = Some(peer.clone());
        }
    }

    fn notes(&mut self) -> &mut Notes {
        self.notes.get_or_insert_default()
    }

    /// Notes the result of the call credentials.
    pub(super) fn give(&mut self, given: Result<HeaderMap, Status>) {
        self.notes().given = Some(given);
    }

    /// Takes the result of the call credentials. None if there are none.
    pub(super) fn given(&mut self) -> Option<Result<HeaderMap, Status>> {
        self.notes.as_mut()?.given.take()
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.chooser.members[self.member]
    }

    /// The number of the attempt in its call, from 1.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// The rules of the service config when the endpoint was chosen.
    pub(super) fn rules(&self) -> Option<&Rules> {
        self.rules.as_deref()
    }

    /// The service, the endpoint and the attempt, for messages.
    pub(super) fn whence(&self, service: &ServiceName) -> String {
        let address = self.endpoint().instance().address();
        match self.number {
            1 => format!("service {service}, endpoint {address}"),
            number => format!("service {service}, endpoint {address}, attempt {number}"),
        }
    }

    /// A message about the failure of the attempt: the place, the reason, and the state of the registry.
    pub(super) fn report(&self, summary: &Summary, why: &str) -> String {
        format!("{}: {why}; {}", self.whence(summary.service()), summary.registry())
    }

    /// The metadata that the balancer adds to the call.
    pub(super) fn metadata(&self) -> Option<&CallMetadata> {
        self.metadata.as_deref()
    }

    /// The endpoint that serves it, and the metadata for the response.
    pub(super) fn served(&self) -> Served {
        Served { by: self.endpoint().clone(), metadata: self.metadata.clone() }
    }

    /// Notes how many bytes of the request are sent.
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

    /// Notes that so many bytes of the response were received.
    pub(super) fn received(&mut self, bytes: usize) {
        self.bytes_received += bytes as u64;
    }

    /// Notes that the request was never sent.
    pub(super) fn unsent(&mut self) {
        self.sent = false;
    }

    /// Notes the load report in the trailers, if there is one.
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
        // A call that was cancelled, or whose connection was lost, says nothing about the server's latency.
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
