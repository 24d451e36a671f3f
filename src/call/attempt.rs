//! Sending a call, again where that is safe.

use std::sync::Arc;

use callboard_core::{Address, Code};
use tonic::Status;
use tonic::body::Body;

use super::body::ResponseBody;
use super::deadline::{self, Deadline};
use super::head::Head;
use super::pick::{Wish, choose, choose_now};
use super::status::GRPC_STATUS;
use super::ticket::Ticket;
use super::{Idempotent, ServedBy, WaitForReady, status};
use crate::shared::Shared;
use crate::transport::{Failure, Incoming, Outgoing};

/// Makes the call: attempts until there is a response, or a failure after which another attempt could do the call twice.
pub(crate) async fn run(shared: Arc<Shared>, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
    let deadline = Deadline::of(&request, shared.defaults.timeout)?;
    let (parts, body) = request.into_parts();
    let mut head = Head::new(parts, &shared.defaults)?;
    let wait_for_ready = head.extension().map_or(shared.defaults.wait_for_ready, |WaitForReady(wait)| *wait);
    let mut body = Outgoing::of(body).await?;
    let mut rules = Repetition::of(&head);
    loop {
        let wish = Wish { call: head.call(), wait_for_ready, avoid: &rules.failed_at };
        let chosen = match choose_now(&shared, &wish) {
            Some(chosen) => Some(chosen),
            // Boxed, because it is rare: every call would carry the room for it.
            None => deadline::until(deadline, Box::pin(choose(&shared, wish))).await,
        };
        let (slot, ticket) = match chosen {
            Some(chosen) => chosen?,
            None => return Err(late(deadline, &shared, "a ready endpoint")),
        };
        let sent = deadline::until(deadline, slot.send(head.attempt(deadline), body)).await;
        let (failure, again) = match sent {
            Some(Ok(response)) => return answer(response, ticket, &shared, deadline, head),
            Some(Err(failed)) => failed,
            None => {
                let status = late(deadline, &shared, &format!("the response of {}", ticket.whence(&shared.service)));
                ticket.done(Code::DeadlineExceeded);
                return Err(status);
            }
        };
        let address = ticket.endpoint().instance().address.clone();
        tracing::debug!(service = %shared.service, %address, ?failure, "attempt failed");
        let repeat = rules.permit(&failure, address);
        let status = status::of_failure(failure, |why| ticket.report(&shared.standing.now(), why));
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

/// The status of a call that has run out of time, and how the channel stands.
fn late(deadline: Option<Deadline>, shared: &Shared, awaited: &str) -> Status {
    deadline::exceeded(deadline, &format!("while waiting for {awaited}: {}", shared.published().summary))
}

/// What a call may be sent again after: gRPC's A6, and what the caller permits.
struct Repetition {
    idempotent: bool,
    refused: bool,
    lost: u32,
    /// Where attempts have failed; the next one goes elsewhere, if there is another endpoint.
    failed_at: Vec<Address>,
}

impl Repetition {
    /// How often an idempotent call is sent again after a lost connection: with the first, gRPC's cap of five.
    const MOST: u32 = 4;

    fn of(head: &Head) -> Self {
        let idempotent = head.extension::<Idempotent>().is_some();
        Self { idempotent, refused: false, lost: 0, failed_at: Vec::new() }
    }

    fn permit(&mut self, failure: &Failure, address: Address) -> bool {
        match failure {
            // It never left: as often as the deadline allows.
            Failure::Unsent(_) => true,
            // The server says that it has not processed it: once.
            Failure::Refused(_) => {
                self.failed_at.push(address);
                !std::mem::replace(&mut self.refused, true)
            }
            // The connection was lost, and the server may have processed it.
            Failure::Broken(Code::Unavailable, _) if self.idempotent => {
                self.failed_at.push(address);
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
    if let Some(status) = status::of_http(&parts, |why| ticket.report(&shared.standing.now(), why)) {
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
    let body = ResponseBody::new(incoming, ticket, Arc::clone(&shared.standing), deadline);
    Ok(http::Response::from_parts(parts, Body::new(body)))
}

/// The status in a block of headers or trailers, if there is one.
pub(super) fn code_in(headers: &http::HeaderMap) -> Option<Code> {
    let value = headers.get(GRPC_STATUS)?;
    Some(status::from_tonic(tonic::Code::from_bytes(value.as_bytes())))
}
