//! Sending a call, again where that is safe.

use std::future::{poll_fn, ready};
use std::sync::Arc;

use callboard_core::{Address, Code, Endpoint};
use futures_core::future::BoxFuture;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use super::body::ResponseBody;
use super::deadline::{self, Deadline};
use super::head::{Head, Kept, field};
use super::pick::{Wish, choose, choose_now};
use super::status::GRPC_STATUS;
use super::ticket::Ticket;
use super::{Idempotent, ServedBy, WaitForReady, early, status};
use crate::control::Rules;
use crate::shared::Shared;
use crate::transport::{Failure, Incoming, Outgoing};

/// What comes of a call in the end.
pub(crate) type Answer = Result<http::Response<Body>, Status>;

/// Makes the call. Its time begins here.
pub(crate) fn run(shared: Arc<Shared>, request: http::Request<Body>) -> BoxFuture<'static, Answer> {
    if shared.is_unruled() {
        return begin(shared, request, None, None);
    }
    let published = shared.published();
    match published.settled {
        true => begin(shared, request, published.rules.as_deref(), None),
        false => early::run(shared, request),
    }
}

/// Makes the call by what the service's config says of it. Its time begins here, unless it has begun before.
pub(super) fn begin(
    shared: Arc<Shared>,
    request: http::Request<Body>,
    rules: Option<&Rules>,
    begun: Option<Instant>,
) -> BoxFuture<'static, Answer> {
    match prepare(&shared, request, rules, begun) {
        Ok(Prepared { head, body, deadline, wait_for_ready }) => {
            Box::pin(attempts(shared, head, body, deadline, wait_for_ready))
        }
        Err(status) => Box::pin(ready(Err(status))),
    }
}

struct Prepared {
    head: Head,
    body: Body,
    deadline: Option<Deadline>,
    wait_for_ready: bool,
}

fn prepare(
    shared: &Shared,
    request: http::Request<Body>,
    rules: Option<&Rules>,
    begun: Option<Instant>,
) -> Result<Prepared, Status> {
    let method = rules.and_then(|rules| rules.method(request.uri().path()));
    let timeout = method.and_then(|method| method.timeout).or(shared.defaults.timeout);
    let wait = method.and_then(|method| method.wait_for_ready).unwrap_or(shared.defaults.wait_for_ready);
    let deadline = Deadline::of(&request, timeout, begun)?;
    let (parts, body) = request.into_parts();
    let head = Head::new(http::Request::from_parts(parts, ()), &shared.defaults)?;
    let wait_for_ready = head.extension().map_or(wait, |WaitForReady(wait)| *wait);
    Ok(Prepared { head, body, deadline, wait_for_ready })
}

/// Attempts until there is a response, or a failure after which another attempt could do the call twice.
///
/// A block and no `async fn`, which would have room for its arguments twice: every call allocates and moves this.
#[expect(clippy::manual_async_fn, reason = "see above")]
fn attempts(
    shared: Arc<Shared>,
    mut head: Head,
    body: Body,
    mut deadline: Option<Deadline>,
    wait_for_ready: bool,
) -> impl Future<Output = Answer> + Send {
    async move {
        let mut rules = Repetition::of(&head);
        let mut body = Outgoing::of(body).await?;
        loop {
            let wish = Wish { call: head.call(), wait_for_ready, avoid: &rules.failed_at };
            let chosen = match choose_now(&shared, wish) {
                Some(chosen) => Some(chosen),
                // Boxed, because it is rare: every call would carry the room for it.
                None => deadline::until(&mut deadline, Box::pin(choose(&shared, wish))).await,
            };
            let Some(chosen) = chosen else { return Err(late(deadline.as_ref(), &shared, "a ready endpoint")) };
            let (slot, ticket) = chosen?;
            let (request, kept) = head.attempt(deadline.as_ref(), &shared.defaults);
            let (failure, again) = match slot.send(request, body) {
                Err(failed) => failed,
                Ok(mut sent) => match deadline::until(&mut deadline, poll_fn(|cx| sent.poll_head(cx))).await {
                    Some(Ok(response)) => return answer(sent.answered(response), ticket, &shared, deadline, kept),
                    Some(Err(error)) => Box::pin(sent.failed(error)).await,
                    None => return Err(unanswered(deadline.as_ref(), &shared, ticket)),
                },
            };
            let repeat = rules.permit(&failure, ticket.endpoint());
            let status = failed(failure, &shared, ticket);
            match again {
                Some(again) if repeat => (body, head) = (again, kept.restored(&shared.defaults)),
                _ => return Err(status),
            }
        }
    }
}

fn failed(failure: Failure, shared: &Shared, ticket: Ticket) -> Status {
    let address = &ticket.endpoint().instance().address;
    tracing::debug!(service = %shared.service, %address, ?failure, "attempt failed");
    let status = status::of_failure(failure, |why| ticket.report(&shared.standing.now(), why));
    ticket.done(status::from_tonic(status.code()));
    status
}

fn unanswered(deadline: Option<&Deadline>, shared: &Shared, ticket: Ticket) -> Status {
    let status = late(deadline, shared, &format!("the response of {}", ticket.whence(&shared.service)));
    ticket.done(Code::DeadlineExceeded);
    status
}

/// The status of a call that has run out of time, and how the channel stands.
fn late(deadline: Option<&Deadline>, shared: &Shared, awaited: &str) -> Status {
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

    fn permit(&mut self, failure: &Failure, endpoint: &Endpoint) -> bool {
        let address = || endpoint.instance().address.clone();
        match failure {
            // It never left: as often as the deadline allows.
            Failure::Unsent(_) => true,
            // The server says that it has not processed it: once.
            Failure::Refused(_) => {
                self.failed_at.push(address());
                !std::mem::replace(&mut self.refused, true)
            }
            // The connection was lost, and the server may have processed it.
            Failure::Broken(Code::Unavailable, _) if self.idempotent => {
                self.failed_at.push(address());
                self.lost += 1;
                self.lost <= Self::MOST
            }
            Failure::Broken(..) | Failure::Body(_) => false,
        }
    }
}

fn answer(
    response: http::Response<Incoming>,
    mut ticket: Ticket,
    shared: &Shared,
    deadline: Option<Deadline>,
    kept: Kept,
) -> Answer {
    let served_by = ServedBy(ticket.endpoint().clone());
    let (mut parts, incoming) = response.into_parts();
    if let Some(status) = status::of_http(&parts, |why| ticket.report(&shared.standing.now(), why)) {
        ticket.done(status::from_tonic(status.code()));
        return Err(status);
    }
    parts.extensions = kept.into_room();
    parts.extensions.insert(served_by);
    if incoming.is_end() {
        // Trailers only: the status stands in the headers.
        ticket.note_load(&parts.headers);
        ticket.done(code_in(&parts.headers).unwrap_or(Code::Unknown));
        return Ok(http::Response::from_parts(parts, Body::empty()));
    }
    let body = ResponseBody::new(incoming, ticket, Arc::clone(&shared.standing), deadline);
    Ok(http::Response::from_parts(parts, Body::new(body)))
}

/// The status in a block of headers or trailers, if there is one.
pub(super) fn code_in(headers: &http::HeaderMap) -> Option<Code> {
    let value = field(headers, &GRPC_STATUS)?;
    Some(status::from_tonic(tonic::Code::from_bytes(value.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, D, E, F: Future>(_: fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    /// What is larger, malloc gives slowly. Each call allocates it, and moves it once.
    #[test]
    fn what_a_call_carries_stays_within_a_kibibyte() {
        let size = size_of_future(attempts);
        assert!(size <= 1 << 10, "{size}");
    }
}
