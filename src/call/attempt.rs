//! Sending a call, again where that is safe.

use std::sync::atomic::{AtomicU8, Ordering};

use callboard_core::{Address, Code};
use tonic::Status;
use tonic::body::Body;

use super::body::ResponseBody;
use super::deadline::Deadline;
use super::head::Head;
use super::pick::{Wish, choose};
use super::ticket::Ticket;
use super::{Idempotent, ServedBy, WaitForReady, status};
use crate::shared::Shared;
use crate::transport::{Failure, Incoming, Outgoing};

/// How far a call is, for the message of one that runs out of time.
#[derive(Debug, Default)]
pub(super) struct Progress(AtomicU8);

impl Progress {
    const CHOOSING: u8 = 0;
    const ANSWERING: u8 = 1;

    fn reached(&self, step: u8) {
        self.0.store(step, Ordering::Relaxed);
    }

    pub(super) fn describe(&self, shared: &Shared) -> String {
        let summary = &shared.published().summary;
        match self.0.load(Ordering::Relaxed) {
            Self::CHOOSING => format!("while waiting for a ready endpoint: {summary}"),
            _ => format!("while waiting for the response: {summary}"),
        }
    }
}

/// Makes attempts until there is a response, or a failure after which another attempt could do the call twice.
pub(super) async fn until_answered(
    shared: &Shared,
    request: http::Request<Body>,
    deadline: Option<Deadline>,
    progress: &Progress,
) -> Result<http::Response<Body>, Status> {
    let (parts, body) = request.into_parts();
    let mut head = Head::new(parts, &shared.defaults)?;
    let wait_for_ready = head.extension().map_or(shared.defaults.wait_for_ready, |WaitForReady(wait)| *wait);
    let mut body = Outgoing::of(body).await?;
    let mut rules = Repetition::of(&head);
    loop {
        progress.reached(Progress::CHOOSING);
        let wish = Wish { call: head.call(), wait_for_ready, avoid: rules.failed_at.as_ref() };
        let (slot, ticket) = choose(shared, wish).await?;
        let ticket = ticket.due(deadline);
        progress.reached(Progress::ANSWERING);
        let (failure, again) = match slot.send(head.attempt(deadline), body).await {
            Ok(response) => return answer(response, ticket, shared, deadline, head),
            Err(failed) => failed,
        };
        let address = ticket.endpoint().instance().address.clone();
        tracing::debug!(service = %shared.service, %address, ?failure, "attempt failed");
        let repeat = rules.permit(&failure, address);
        let status = status::of_failure(failure, &whence(shared, &ticket));
        ticket.done(status::from_tonic(status.code()));
        match again {
            Some(again) if repeat => {
                body = again;
                head.restore();
            }
            _ => return Err(status),
        }
    }
}

/// What a call may be sent again after: gRPC's A6, and what the caller permits.
struct Repetition {
    idempotent: bool,
    refused: bool,
    lost: u32,
    /// Where the last attempt failed; the next one goes elsewhere, if there is another endpoint.
    failed_at: Option<Address>,
}

impl Repetition {
    /// How often an idempotent call is sent again after a lost connection: with the first, gRPC's cap of five.
    const MOST: u32 = 4;

    fn of(head: &Head) -> Self {
        let idempotent = head.extension::<Idempotent>().is_some();
        Self { idempotent, refused: false, lost: 0, failed_at: None }
    }

    fn permit(&mut self, failure: &Failure, address: Address) -> bool {
        match failure {
            // It never left: as often as the deadline allows.
            Failure::Unsent(_) => true,
            // The server says that it has not processed it: once.
            Failure::Refused(_) => {
                self.failed_at = Some(address);
                !std::mem::replace(&mut self.refused, true)
            }
            // The connection was lost, and the server may have processed it.
            Failure::Broken(Code::Unavailable, _) if self.idempotent => {
                self.failed_at = Some(address);
                self.lost += 1;
                self.lost <= Self::MOST
            }
            Failure::Broken(..) | Failure::Body(_) => false,
        }
    }
}

fn answer(
    response: http::Response<Incoming>,
    ticket: Ticket,
    shared: &Shared,
    deadline: Option<Deadline>,
    head: Head,
) -> Result<http::Response<Body>, Status> {
    let served_by = ServedBy(ticket.endpoint().clone());
    let (mut parts, incoming) = response.into_parts();
    if let Some(status) = status::of_http(&parts, || whence(shared, &ticket)) {
        ticket.done(status::from_tonic(status.code()));
        return Err(status);
    }
    parts.extensions = head.into_room();
    parts.extensions.insert(served_by);
    if incoming.is_end() {
        // Trailers only: the status stands in the headers.
        ticket.done(code_in(&parts.headers).unwrap_or(Code::Unknown));
        return Ok(http::Response::from_parts(parts, Body::empty()));
    }
    let body = ResponseBody::new(incoming, ticket, shared.service.clone(), deadline);
    Ok(http::Response::from_parts(parts, Body::new(body)))
}

/// Where a failure comes from, for its message.
fn whence(shared: &Shared, ticket: &Ticket) -> String {
    format!("service {}, endpoint {}", shared.service, ticket.endpoint().instance().address)
}

/// The status in a block of headers or trailers, if there is one.
pub(super) fn code_in(headers: &http::HeaderMap) -> Option<Code> {
    let value = headers.get("grpc-status")?;
    Some(status::from_tonic(tonic::Code::from_bytes(value.as_bytes())))
}
