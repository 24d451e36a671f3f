//! Runs a call: one attempt, and further ones where that is safe or the retry policy permits it.

use std::future::{poll_fn, ready};
use std::sync::Arc;

use callboard_core::{CallMetadata, Code, ConnectivityState};
use futures_core::future::BoxFuture;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use super::after_failure::{Cause, Failed, again, again_when_up};
use super::attempt::Attempt;
use super::body::ResponseBody;
use super::ending::{complete, is_cut, is_over, late};
use super::limits::Limits;
use super::pick::{Unchosen, Wish, choose, choose_now};
use super::retry::Retries;
use super::{WaitForReady, await_config, credentials};
use crate::config::Rules;
use crate::control::Shared;
use crate::grpc::{self, Answer, Deadline, Head, Kept, Phase, status, until};
use crate::transport::{Answered, Incoming, Outgoing, ResponseHead, Sent};

/// Runs a call. Its deadline counts from here.
pub(crate) fn run(shared: Arc<Shared>, request: http::Request<Body>) -> BoxFuture<'static, Answer> {
    if shared.is_unruled() {
        return begin(shared, request, None, None);
    }
    let published = shared.published();
    match published.settled {
        true => begin(shared, request, published.rules.as_deref(), None),
        false => {
            drop(published);
            Box::pin(run_later(shared, request, Instant::now()))
        }
    }
}

/// Runs a call once the service config is known. Its deadline counts from `begun`.
async fn run_later(shared: Arc<Shared>, request: http::Request<Body>, begun: Instant) -> Answer {
    let wait = await_config::wait(&shared, &request, begun);
    wait.await?;
    let call = {
        let published = shared.published();
        begin(Arc::clone(&shared), request, published.rules.as_deref(), Some(begun))
    };
    call.await
}

/// Runs a call by the rules of the service config. Its deadline counts from here, or from `begun` if that is given.
fn begin(
    shared: Arc<Shared>,
    request: http::Request<Body>,
    rules: Option<&Rules>,
    begun: Option<Instant>,
) -> BoxFuture<'static, Answer> {
    match prepare(&shared, request, rules, begun) {
        Ok(Prepared { head, body, deadline, wait_for_ready, limits }) => {
            limits.on_response(attempts(shared, head, limits.on_request(body), deadline, wait_for_ready))
        }
        Err(status) => Box::pin(ready(Err(grpc::local(status, Phase::Request, None)))),
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
    let timeout = grpc::of_call(request.extensions(), of_method, shared.defaults.timeout);
    let wait = method.and_then(|method| method.wait_for_ready).unwrap_or(shared.defaults.wait_for_ready);
    let deadline = Deadline::of(&request, timeout, begun, &shared.runtime)?;
    let (parts, body) = request.into_parts();
    let head = Head::new(http::Request::from_parts(parts, ()), &shared.defaults)?;
    let wait_for_ready = head.extension().map_or(wait, |WaitForReady(wait)| *wait);
    Ok(Prepared { head, body, deadline, wait_for_ready, limits: Limits::of(method) })
}

/// Makes attempts until there is a response that commits the call, or a failure that permits no other attempt.
///
/// Not an `async fn`, because that would store its arguments twice: every call allocates and moves this future. Rare
/// values are boxed to keep it small.
#[expect(clippy::manual_async_fn, reason = "see above")]
fn attempts(
    shared: Arc<Shared>,
    mut head: Head,
    body: Body,
    mut deadline: Option<Deadline>,
    wait_for_ready: bool,
) -> impl Future<Output = Answer> + Send {
    async move {
        let mut past: Option<Box<Retries>> = None;
        let mut body = Outgoing::of(body, shared.defaults.retry_buffer).await?;
        let expiry = deadline.as_ref().map(|deadline| Arc::clone(deadline.expiry()));
        loop {
            if is_over(deadline.as_ref()) {
                return Err(unready(deadline.as_ref(), &shared, past.as_deref()));
            }
            let wish = Wish::new(head.call(), wait_for_ready, past.as_deref(), expiry.as_ref());
            let chosen = match choose_now(&shared, wish) {
                Some(chosen) => Some(chosen),
                None => until(&mut deadline, Box::pin(choose(&shared, wish))).await,
            };
            let chosen = match &shared.defaults.credentials {
                None => chosen,
                Some(credentials) => {
                    Box::pin(credentials::ask(credentials, &shared, &head, chosen, &mut deadline)).await
                }
            };
            let (slot, mut attempt) = match chosen {
                Some(Ok(chosen)) => chosen,
                Some(Err(Unchosen::Failed(status))) => return Err(grpc::local(status, Phase::Choosing, None)),
                Some(Err(Unchosen::Down(down))) => {
                    Box::pin(again_when_up(&shared, &mut past, &mut deadline, &head, *down)).await?;
                    continue;
                }
                None => return Err(unready(deadline.as_ref(), &shared, past.as_deref())),
            };
            attempt.set_peer(head.extension());
            if is_over(deadline.as_ref()) {
                return Err(unsent(deadline.as_ref(), &shared, attempt));
            }
            let previous = Retries::previous_attempts(past.as_deref());
            let added = attempt.metadata().map(CallMetadata::for_request);
            let (request, kept) = head.attempt(deadline.as_ref(), previous, added, &shared.defaults);
            let (cause, rest) = match credentials::send(slot, &mut attempt, request, body, expiry.as_ref()) {
                Err(failed) => {
                    attempt.unsent();
                    failed
                }
                Ok(mut sent) => {
                    attempt.sends(sent.bytes());
                    let answered = until(&mut deadline, poll_fn(|cx| sent.poll_head(cx))).await;
                    match judge(answered, deadline.as_ref(), &attempt, &kept) {
                        Judged::Commits(response) => {
                            return answer(sent.answered(response), attempt, &shared, deadline, kept);
                        }
                        Judged::Late => return Err(unanswered(deadline.as_ref(), &shared, attempt)),
                        Judged::Over(answered) => Box::pin(Cause::of(sent, answered)).await,
                    }
                }
            };
            if cause.is_cut(deadline.as_ref()) {
                return Err(unanswered(deadline.as_ref(), &shared, attempt));
            }
            let failed = Failed { cause, attempt, kept, body: rest };
            (head, body) = match Box::pin(again(&shared, &mut past, &mut deadline, failed)).await {
                Ok(restored) => restored,
                Err(answer) => return answer,
            };
        }
    }
}

/// The verdict on the result of an attempt.
enum Judged {
    /// The response commits the call.
    Commits(ResponseHead),
    /// The deadline has passed.
    Late,
    /// Another attempt may follow.
    Over(Answered),
}

fn judge(answered: Option<Answered>, deadline: Option<&Deadline>, attempt: &Attempt, kept: &Kept) -> Judged {
    match answered {
        None => Judged::Late,
        Some(Ok(response)) if is_over(deadline) && is_cut(head_code(&response), deadline) => Judged::Late,
        Some(Ok(response)) if !is_retryable(&response, attempt, kept) => Judged::Commits(response),
        Some(answered) => Judged::Over(answered),
    }
}

/// The code of a response of headers alone.
fn head_code(response: &ResponseHead) -> Option<Code> {
    status::in_head(response.status(), response.headers(), Sent::is_all(response))
}

/// Whether a response ends with its head, by a failure that the method's retry policy covers. Any other response
/// commits the call.
fn is_retryable(response: &ResponseHead, attempt: &Attempt, kept: &Kept) -> bool {
    let Some(rules) = attempt.rules() else { return false };
    head_code(response).is_some_and(|code| code != Code::Ok) && rules.retry(kept.path()).is_some()
}

fn unanswered(deadline: Option<&Deadline>, shared: &Shared, attempt: Attempt) -> Status {
    let status = late(deadline, shared, &format!("the response of {}", attempt.whence(&shared.service)));
    let status = grpc::local(status, Phase::Response, Some(attempt.endpoint()));
    attempt.done(Code::DeadlineExceeded);
    status
}

/// Ends an attempt whose deadline has passed before it was sent.
fn unsent(deadline: Option<&Deadline>, shared: &Shared, mut attempt: Attempt) -> Status {
    let status = late(deadline, shared, &format!("its turn to be sent to {}", attempt.whence(&shared.service)));
    let status = grpc::local(status, Phase::Choosing, Some(attempt.endpoint()));
    attempt.unsent();
    attempt.done(Code::DeadlineExceeded);
    status
}

fn unready(deadline: Option<&Deadline>, shared: &Shared, past: Option<&Retries>) -> Status {
    let (ready, balancer) = {
        let published = shared.published();
        (published.state == ConnectivityState::Ready, published.config.balancer.clone())
    };
    let awaited = match ready {
        true => format!("a pick of the balancer {balancer:?}, or a free place at what it picks"),
        false => "a ready endpoint".to_owned(),
    };
    let status = late(deadline, shared, &format!("{awaited}{}", Retries::report(past)));
    grpc::local(status, Phase::Choosing, None)
}

fn answer(
    response: http::Response<Incoming>,
    mut attempt: Attempt,
    shared: &Shared,
    mut deadline: Option<Deadline>,
    kept: Kept,
) -> Answer {
    attempt.answered();
    let (parts, incoming) = response.into_parts();
    if let Some(status) = status::of_http(&parts, |why| attempt.report(&shared.standing.now(), why)) {
        let status = grpc::local(status, Phase::Response, Some(attempt.endpoint()));
        attempt.done(status::from_tonic(status.code()));
        return Err(status);
    }
    if incoming.is_end() {
        // Trailers only: the status is in the headers.
        attempt.note_load(&parts.headers);
        let code = status::in_fields(&parts.headers).unwrap_or(Code::Unknown);
        let response = complete(parts, Body::empty(), attempt.served(), kept);
        attempt.done(code);
        incoming.finish();
        return Ok(response);
    }
    // The stream ends at the deadline even if the body is not polled.
    let _ = deadline.as_mut().map(Deadline::arm);
    let served = attempt.served();
    let body = ResponseBody::new(incoming, attempt, Arc::clone(&shared.standing), deadline);
    Ok(complete(parts, Body::new(body), served, kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, D, E, F: Future>(_: fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    /// Each call allocates its future and moves it once. malloc is slow for larger sizes.
    #[test]
    fn what_a_call_carries_stays_within_a_kibibyte() {
        let size = size_of_future(attempts);
        assert!(size <= 1 << 10, "{size}");
    }
}
