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
use super::limits::Limits;
use super::origin::{self, Phase};
use super::pick::{Unchosen, Wish, choose, choose_now};
use super::repetition::Repetition;
use super::ticket::Ticket;
use super::{ServedBy, WaitForReady, credentials, early, hop, status, timeout};
use crate::control::Rules;
use crate::shared::Shared;
use crate::transport::{Answered, Heard, Incoming, Outgoing, Sent};

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
        Ok(Prepared { head, body, deadline, wait_for_ready, limits }) => {
            limits.on_response(attempts(shared, head, limits.on_request(body), deadline, wait_for_ready))
        }
        Err(status) => Box::pin(ready(Err(origin::local(status, Phase::Request, None)))),
    }
}

struct Prepared {
    head: Head,
    body: Body,
    deadline: Option<Deadline>,
    wait_for_ready: bool,
    limits: Limits,
}

fn prepare(
    shared: &Shared,
    request: http::Request<Body>,
    rules: Option<&Rules>,
    begun: Option<Instant>,
) -> Result<Prepared, Status> {
    let method = rules.and_then(|rules| rules.method(request.uri().path()));
    let of_method = method.and_then(|method| method.timeout);
    let timeout = timeout::of_call(request.extensions(), of_method, shared.defaults.timeout);
    let wait = method.and_then(|method| method.wait_for_ready).unwrap_or(shared.defaults.wait_for_ready);
    let deadline = Deadline::of(&request, timeout, begun, &shared.runtime)?;
    let (parts, body) = request.into_parts();
    let head = Head::new(http::Request::from_parts(parts, ()), &shared.defaults)?;
    let wait_for_ready = head.extension().map_or(wait, |WaitForReady(wait)| *wait);
    Ok(Prepared { head, body, deadline, wait_for_ready, limits: Limits::of(method) })
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
        let expiry = deadline.as_ref().map(|deadline| Arc::clone(deadline.expiry()));
        loop {
            if is_over(deadline.as_ref()) {
                return Err(unready(deadline.as_ref(), &shared, past.as_deref()));
            }
            let wish = Wish::new(head.call(), wait_for_ready, past.as_deref(), expiry.as_ref());
            let chosen = match choose_now(&shared, wish) {
                Some(chosen) => Some(chosen),
                None => deadline::until(&mut deadline, Box::pin(choose(&shared, wish))).await,
            };
            let chosen = match &shared.defaults.credentials {
                None => chosen,
                Some(credentials) => {
                    Box::pin(credentials::ask(credentials, &shared, &head, chosen, &mut deadline)).await
                }
            };
            let (slot, mut ticket) = match chosen {
                Some(Ok(chosen)) => chosen,
                Some(Err(Unchosen::Failed(status))) => return Err(origin::local(status, Phase::Choosing, None)),
                Some(Err(Unchosen::Down(down))) => {
                    Box::pin(again_when_up(&shared, &mut past, &mut deadline, &head, *down)).await?;
                    continue;
                }
                None => return Err(unready(deadline.as_ref(), &shared, past.as_deref())),
            };
            ticket.tell(head.extension());
            if is_over(deadline.as_ref()) {
                return Err(unsent(deadline.as_ref(), &shared, ticket));
            }
            let previous = Repetition::told(past.as_deref());
            let (request, kept) = head.attempt(deadline.as_ref(), previous, ticket.token(), &shared.defaults);
            let (cause, rest) = match credentials::send(slot, &mut ticket, request, body, expiry.as_ref()) {
                Err(failed) => {
                    ticket.unsent();
                    failed
                }
                Ok(mut sent) => {
                    let heard = deadline::until(&mut deadline, poll_fn(|cx| sent.poll_head(cx))).await;
                    match judge(heard, deadline.as_ref(), &ticket, &kept) {
                        Judged::Commits(response) => {
                            return answer(sent.answered(response), ticket, &shared, deadline, kept);
                        }
                        Judged::Late => return Err(unanswered(deadline.as_ref(), &shared, ticket)),
                        Judged::Over(heard) => Box::pin(Cause::of(sent, heard)).await,
                    }
                }
            };
            if cause.is_cut(deadline.as_ref()) {
                return Err(unanswered(deadline.as_ref(), &shared, ticket));
            }
            let failed = Failed { cause, ticket, kept, body: rest };
            (head, body) = match Box::pin(again(&shared, &mut past, &mut deadline, failed)).await {
                Ok(restored) => restored,
                Err(answer) => return answer,
            };
        }
    }
}

/// What is made of what was heard of an attempt.
enum Judged {
    /// The call is committed to it.
    Commits(Heard),
    /// Its time was up.
    Late,
    /// Another attempt may follow.
    Over(Answered),
}

fn judge(heard: Option<Answered>, deadline: Option<&Deadline>, ticket: &Ticket, kept: &Kept) -> Judged {
    match heard {
        None => Judged::Late,
        Some(Ok(response)) if is_over(deadline) && is_cut(head_code(&response), deadline) => Judged::Late,
        Some(Ok(response)) if !is_retryable(&response, ticket, kept) => Judged::Commits(response),
        Some(heard) => Judged::Over(heard),
    }
}

fn is_over(deadline: Option<&Deadline>) -> bool {
    deadline.is_some_and(Deadline::is_over)
}

/// Whether a call that ends with this code has run out of time in truth. Servers cancel calls whose time is up, and what
/// they say may come before this side's timer, which goes by milliseconds: gRPC's own clients tell the two apart by the
/// time, too.
pub(super) fn is_cut(code: Option<Code>, deadline: Option<&Deadline>) -> bool {
    code == Some(Code::Cancelled) && is_over(deadline)
}

/// The code that a response ends with that is all head.
fn head_code(response: &Heard) -> Option<Code> {
    status::in_head(response.status(), response.headers(), Sent::is_all(response))
}

/// Whether a response ends with its head, by a failure that the retry policy of its method has a say about. Any other
/// commits the call.
fn is_retryable(response: &Heard, ticket: &Ticket, kept: &Kept) -> bool {
    let Some(rules) = ticket.rules() else { return false };
    head_code(response).is_some_and(|code| code != Code::Ok) && rules.retry(kept.path()).is_some()
}

fn unanswered(deadline: Option<&Deadline>, shared: &Shared, ticket: Ticket) -> Status {
    let status = late(deadline, shared, &format!("the response of {}", ticket.whence(&shared.service)));
    let status = origin::local(status, Phase::Response, Some(ticket.endpoint()));
    ticket.done(Code::DeadlineExceeded);
    status
}

/// Its time was up before it was sent: it is not sent.
fn unsent(deadline: Option<&Deadline>, shared: &Shared, mut ticket: Ticket) -> Status {
    let status = late(deadline, shared, &format!("its turn to be sent to {}", ticket.whence(&shared.service)));
    let status = origin::local(status, Phase::Choosing, Some(ticket.endpoint()));
    ticket.unsent();
    ticket.done(Code::DeadlineExceeded);
    status
}

fn unready(deadline: Option<&Deadline>, shared: &Shared, past: Option<&Repetition>) -> Status {
    let status = late(deadline, shared, &format!("a ready endpoint{}", Repetition::report(past)));
    origin::local(status, Phase::Choosing, None)
}

/// The status of a call that has run out of time, and how the channel stands.
pub(super) fn late(deadline: Option<&Deadline>, shared: &Shared, awaited: &str) -> Status {
    deadline::exceeded(deadline, &format!("while waiting for {awaited}: {}", shared.published().summary))
}

fn answer(
    response: http::Response<Incoming>,
    mut ticket: Ticket,
    shared: &Shared,
    mut deadline: Option<Deadline>,
    kept: Kept,
) -> Answer {
    ticket.answered();
    let served_by = ServedBy(ticket.endpoint().clone());
    let (parts, incoming) = response.into_parts();
    if let Some(status) = status::of_http(&parts, |why| ticket.report(&shared.standing.now(), why)) {
        let status = origin::local(status, Phase::Response, Some(ticket.endpoint()));
        ticket.done(status::from_tonic(status.code()));
        return Err(status);
    }
    if incoming.is_end() {
        // Trailers only: the status stands in the headers.
        ticket.note_load(&parts.headers);
        ticket.done(status::in_fields(&parts.headers).unwrap_or(Code::Unknown));
        incoming.finish();
        return Ok(complete(parts, Body::empty(), served_by, kept));
    }
    // The stream ends at the deadline even if nobody reads it.
    let _ = deadline.as_mut().map(Deadline::arm);
    let body = ResponseBody::new(incoming, ticket, Arc::clone(&shared.standing), deadline);
    Ok(complete(parts, Body::new(body), served_by, kept))
}

/// A response as the caller gets it: who has served it stands in its extensions, and what that has told the channel
/// alone stands in its head no more.
pub(super) fn complete(mut parts: Parts, body: Body, served_by: ServedBy, kept: Kept) -> http::Response<Body> {
    hop::strip_response(&mut parts.headers);
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
