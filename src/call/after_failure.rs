//! What follows a failed attempt: another one, perhaps after a wait, or the end of the call.

use std::pin::pin;
use std::time::Duration;

use callboard_core::{Address, Code};
use http::response::Parts;
use tonic::Status;
use tonic::body::Body;

use super::attempt::Attempt;
use super::ending::{complete, is_cut};
use super::pick::Down;
use super::retry::{Pushback, Retries};
use crate::control::Shared;
use crate::grpc::{self, Answer, Deadline, Head, Kept, Phase, status, until};
use crate::transport::{self, Answered, Failure, Outgoing, Sent};

/// An attempt that has failed before the call was committed to it, and what another attempt needs.
pub(super) struct Failed {
    pub(super) cause: Cause,
    pub(super) attempt: Attempt,
    pub(super) kept: Kept,
    /// None if it cannot be sent again.
    pub(super) body: Option<Outgoing>,
}

/// How an attempt has failed.
pub(super) enum Cause {
    /// There is no response.
    Failure(Failure),
    /// There is a response, of headers alone.
    Answer(Box<Parts>),
    /// The call credentials have failed, so it was not sent.
    Refused(Box<Status>),
}

impl Cause {
    pub(super) fn failure((failure, body): transport::Failed) -> (Self, Option<Outgoing>) {
        (Self::Failure(failure), body)
    }

    /// The cause of a failed attempt. Discards the rest of the response, and returns the request's body if it can be
    /// sent again.
    pub(super) async fn of(sent: Sent, answered: Answered) -> (Self, Option<Outgoing>) {
        match answered {
            Ok(head) => {
                let (parts, body) = sent.dismissed(head).await;
                (Self::Answer(Box::new(parts)), body)
            }
            Err(error) => Self::failure(sent.failed(error).await),
        }
    }

    /// Whether the server has cancelled it at the deadline.
    pub(super) fn is_cut(&self, deadline: Option<&Deadline>) -> bool {
        match self {
            Self::Failure(failure) => is_cut(failure.code(), deadline),
            Self::Answer(_) | Self::Refused(_) => false,
        }
    }

    pub(super) fn refused(status: Status, body: Outgoing) -> (Self, Option<Outgoing>) {
        (Self::Refused(Box::new(status)), Some(body))
    }

    /// How long to wait before another attempt. None if there is none.
    fn wait(&self, retries: &mut Retries, at: &Address, within: bool) -> Option<Duration> {
        match self {
            Self::Failure(failure) => retries.after_failure(failure, at, within),
            Self::Answer(parts) => {
                let code = status::in_head(parts.status, &parts.headers, true).unwrap_or(Code::Unknown);
                retries.after_status(code, Pushback::of(&parts.headers), at, within)
            }
            Self::Refused(status) => retries.after_local(status::from_tonic(status.code()), within),
        }
    }

    /// Ends the attempt. Returns what the caller gets if no other attempt follows.
    fn end(self, shared: &Shared, mut attempt: Attempt) -> Result<Box<Parts>, Status> {
        match &self {
            Self::Failure(Failure::Unsent(_)) | Self::Refused(_) => attempt.unsent(),
            Self::Failure(_) => {}
            Self::Answer(parts) => {
                attempt.answered();
                attempt.note_load(&parts.headers);
            }
        }
        let report = |why: &str| attempt.report(&shared.standing.now(), why);
        let at = attempt.endpoint();
        let (code, ended) = match self {
            Self::Failure(failure) => {
                let status = grpc::of_failure(failure, Phase::Response, at, report);
                (status::from_tonic(status.code()), Err(status))
            }
            Self::Answer(parts) => match status::of_http(&parts, report) {
                Some(status) => {
                    (status::from_tonic(status.code()), Err(grpc::local(status, Phase::Response, Some(at))))
                }
                None => (status::in_fields(&parts.headers).unwrap_or(Code::Unknown), Ok(parts)),
            },
            Self::Refused(status) => {
                let status = Status::new(status.code(), report(status.message()));
                // It says nothing about the endpoint.
                (Code::Cancelled, Err(grpc::local(status, Phase::Credentials, Some(at))))
            }
        };
        tracing::debug!(service = %shared.service, address = %attempt.endpoint().instance().address(), ?code, "attempt failed");
        attempt.done(code);
        ended
    }
}

/// Waits and returns what to send again, or else the end of the call.
pub(super) async fn again(
    shared: &Shared,
    past: &mut Option<Box<Retries>>,
    deadline: &mut Option<Deadline>,
    failed: Failed,
) -> Result<(Head, Outgoing), Answer> {
    let Failed { cause, attempt, kept, body } = failed;
    let begin = || Box::new(Retries::new(kept.extension(), attempt.rules(), kept.path()));
    let retries = past.get_or_insert_with(begin);
    let within = |body: &Outgoing| body.is_within(shared.defaults.retry_buffer);
    let at = attempt.endpoint().instance().address();
    let wait = body.as_ref().and_then(|body| cause.wait(retries, at, within(body)));
    let served = attempt.served();
    let ended = cause.end(shared, attempt);
    let (Some(wait), Some(body)) = (wait, body) else {
        return Err(ended.map(|parts| complete(*parts, Body::empty(), served, kept)));
    };
    let status = ended.map_or_else(|status| status, |parts| status_of(&parts));
    let late = |status| Err(grpc::local(status, Phase::Waiting, Some(&served.by)));
    pause(shared, retries, deadline, wait, &status).await.map_err(late)?;
    Ok((kept.restored(&shared.defaults), body))
}

/// The same for an attempt that found no endpoint.
pub(super) async fn again_when_up(
    shared: &Shared,
    past: &mut Option<Box<Retries>>,
    deadline: &mut Option<Deadline>,
    head: &Head,
    down: Down,
) -> Result<(), Status> {
    let Down { status, rules } = down;
    let before = Retries::report(past.as_deref());
    let begin = || Box::new(Retries::new(head.extension(), Some(&rules), head.path()));
    let retries = past.get_or_insert_with(begin);
    match retries.after_no_endpoint() {
        Some(wait) => {
            let late = |status| grpc::local(status, Phase::Waiting, None);
            pause(shared, retries, deadline, wait, &status).await.map_err(late)
        }
        None => Err(grpc::reworded(&status, format!("{}{before}", status.message()))),
    }
}

/// Waits before the next attempt, within the deadline.
async fn pause(
    shared: &Shared,
    retries: &Retries,
    deadline: &mut Option<Deadline>,
    wait: Duration,
    last: &Status,
) -> Result<(), Status> {
    let attempt = Retries::number(Some(retries));
    tracing::debug!(service = %shared.service, attempt, code = ?last.code(), ?wait, "the call is sent again");
    if wait.is_zero() {
        return Ok(());
    }
    // A wait that exceeds the deadline is not cut short, as in grpc-go: the call ends with DEADLINE_EXCEEDED.
    let so_far = || {
        let last = format!("{:?}: {}", last.code(), last.message());
        format!("while waiting to send the call again{}; the last: {last}", Retries::report(Some(retries)))
    };
    match until(deadline, pin!(shared.runtime.sleep(wait))).await {
        Some(true) => Ok(()),
        Some(false) => Err(Status::unavailable(format!("the channel's runtime has ended {}", so_far()))),
        None => Err(grpc::exceeded(deadline.as_ref(), &so_far())),
    }
}

/// The status in a response of headers alone.
fn status_of(parts: &Parts) -> Status {
    Status::from_header_map(&parts.headers).unwrap_or_else(|| Status::unknown("the response has no grpc-status"))
}
