//! Sending a call, again where that is safe or the service's config says so.

use std::future::{poll_fn, ready};
use std::sync::Arc;

use callboard_core::Code;
use futures_core::future::BoxFuture;
use http::response::Parts;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use super::again::{Cause, Failed, again, again_when_up};
use super::body::ResponseBody;
use super::deadline::{self, Deadline};
use super::head::{Head, Kept};
use super::pick::{Unchosen, Wish, choose, choose_now};
use super::repetition::Repetition;
use super::ticket::Ticket;
use super::{ServedBy, WaitForReady, early, status};
use crate::control::Rules;
use crate::shared::Shared;
use crate::transport::{Heard, Incoming, Outgoing, Sent};

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

/// Attempts until there is a response that the call is committed to, or a failure that no other attempt may follow.
///
/// A block and no `async fn`, which would have room for its arguments twice: every call allocates and moves this. What
/// is rare is boxed, else every call would carry the room for it.
#[expect(clippy::manual_async_fn, reason = "see above")]
fn attempts(
    shared: Arc<Shared>,
    mut head: Head,
    body: Body,
    mut deadline: Option<Deadline>,
    wait_for_ready: bool,
) -> impl Future<Output = Answer> + Send {
    async move {
        let mut past: Option<Box<Repetition>> = None;
        let mut body = Outgoing::of(body, shared.defaults.retry_buffer).await?;
        loop {
            let wish = Wish::new(head.call(), wait_for_ready, past.as_deref());
            let chosen = match choose_now(&shared, wish) {
                Some(chosen) => Some(chosen),
                None => deadline::until(&mut deadline, Box::pin(choose(&shared, wish))).await,
            };
            let (slot, mut ticket) = match chosen {
                Some(Ok(chosen)) => chosen,
                Some(Err(Unchosen::Failed(status))) => return Err(status),
                Some(Err(Unchosen::Down(down))) => {
                    Box::pin(again_when_up(&shared, &mut past, &mut deadline, &head, *down)).await?;
                    continue;
                }
                None => return Err(unready(deadline.as_ref(), &shared, past.as_deref())),
            };
            let previous = Repetition::told(past.as_deref());
            let (request, kept) = head.attempt(deadline.as_ref(), previous, ticket.token(), &shared.defaults);
            let (cause, again_body) = match slot.send(request, body) {
                Err(failed) => {
                    ticket.unsent();
                    Cause::failure(failed)
                }
                Ok(mut sent) => match deadline::until(&mut deadline, poll_fn(|cx| sent.poll_head(cx))).await {
                    Some(Ok(response)) if !is_retryable(&response, &ticket, &kept) => {
                        return answer(sent.answered(response), ticket, &shared, deadline, kept);
                    }
                    Some(Ok(response)) => Cause::answer(Box::pin(sent.dismissed(response)).await),
                    Some(Err(error)) => Cause::failure(Box::pin(sent.failed(error)).await),
                    None => return Err(unanswered(deadline.as_ref(), &shared, ticket)),
                },
            };
            let failed = Failed { cause, ticket, kept, body: again_body };
            (head, body) = match Box::pin(again(&shared, &mut past, &mut deadline, failed)).await {
                Ok(restored) => restored,
                Err(answer) => return answer,
            };
        }
    }
}

/// Whether a response ends with its head, by a failure that the retry policy of its method has a say about. Any other
/// commits the call.
fn is_retryable(response: &Heard, ticket: &Ticket, kept: &Kept) -> bool {
    let Some(rules) = ticket.rules() else { return false };
    let code = status::in_head(response.status(), response.headers(), Sent::is_all(response));
    code.is_some_and(|code| code != Code::Ok) && rules.retry(kept.path()).is_some()
}

fn unanswered(deadline: Option<&Deadline>, shared: &Shared, ticket: Ticket) -> Status {
    let status = late(deadline, shared, &format!("the response of {}", ticket.whence(&shared.service)));
    ticket.done(Code::DeadlineExceeded);
    status
}

fn unready(deadline: Option<&Deadline>, shared: &Shared, past: Option<&Repetition>) -> Status {
    late(deadline, shared, &format!("a ready endpoint{}", Repetition::report(past)))
}

/// The status of a call that has run out of time, and how the channel stands.
pub(super) fn late(deadline: Option<&Deadline>, shared: &Shared, awaited: &str) -> Status {
    deadline::exceeded(deadline, &format!("while waiting for {awaited}: {}", shared.published().summary))
}

fn answer(
    response: http::Response<Incoming>,
    mut ticket: Ticket,
    shared: &Shared,
    deadline: Option<Deadline>,
    kept: Kept,
) -> Answer {
    ticket.answered();
    let served_by = ServedBy(ticket.endpoint().clone());
    let (parts, incoming) = response.into_parts();
    if let Some(status) = status::of_http(&parts, |why| ticket.report(&shared.standing.now(), why)) {
        ticket.done(status::from_tonic(status.code()));
        return Err(status);
    }
    if incoming.is_end() {
        // Trailers only: the status stands in the headers.
        ticket.note_load(&parts.headers);
        ticket.done(status::in_fields(&parts.headers).unwrap_or(Code::Unknown));
        return Ok(complete(parts, Body::empty(), served_by, kept));
    }
    let body = ResponseBody::new(incoming, ticket, Arc::clone(&shared.standing), deadline);
    Ok(complete(parts, Body::new(body), served_by, kept))
}

/// A response as the caller gets it: who has served it stands in its extensions.
pub(super) fn complete(mut parts: Parts, body: Body, served_by: ServedBy, kept: Kept) -> http::Response<Body> {
    parts.extensions = kept.into_room();
    parts.extensions.insert(served_by);
    http::Response::from_parts(parts, body)
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
