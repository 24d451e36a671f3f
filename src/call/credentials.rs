//! Asking for the credentials of one attempt.

use std::sync::Arc;

use callboard_core::Code;
use http::{HeaderMap, Request};
use tonic::Status;

use super::attempt::Attempt;
use super::ending::late;
use super::failure::Cause;
use super::pick::{Chosen, Unchosen};
use crate::control::{News, Shared, Verdict};
use crate::grpc::{self, Credentials, Deadline, Head, Phase, RequestInfo, of_attempt, until};
use crate::transport::{Expiry, Outgoing, Sent, Slot};

/// Asks for what is to be added to the attempt that an endpoint was chosen for, within the deadline.
///
/// What was chosen goes in and comes out again: it is large, and no call without credentials is to have the room for it.
pub(super) async fn ask(
    credentials: &Credentials,
    shared: &Shared,
    head: &Head,
    chosen: Option<Chosen>,
    deadline: &mut Option<Deadline>,
) -> Option<Chosen> {
    let Some(Ok((slot, mut attempt))) = chosen else { return chosen };
    let (number, time_left) = (attempt.number(), deadline.as_ref().map(Deadline::left));
    let info = RequestInfo { number, time_left, ..head.described(attempt.endpoint(), &shared.defaults) };
    // The place is free at the deadline, even if nobody polls this any more.
    let expiry = deadline.as_ref().map(|deadline| Arc::clone(deadline.expiry()));
    let kept = Kept::new(slot, expiry);
    let given =
        until(deadline, Box::pin(while_it_lasts(shared, of_attempt(credentials, &info, &shared.defaults.own_fields))))
            .await;
    match given.zip(kept.back()) {
        Some((given, slot)) => {
            attempt.give(given);
            Some(Ok((slot, attempt)))
        }
        None => {
            let awaited = format!("the call credentials for {}", attempt.whence(&shared.service));
            let status = late(deadline.as_ref(), shared, &awaited);
            let status = grpc::local(status, Phase::Credentials, Some(attempt.endpoint()));
            // It was never sent, and that says nothing of the endpoint.
            attempt.unsent();
            attempt.done(Code::Cancelled);
            Some(Err(Unchosen::Failed(status)))
        }
    }
}

/// A place that is kept until the deadline.
enum Kept {
    Here(Slot),
    Until(Arc<Expiry>),
}

impl Kept {
    fn new(slot: Slot, expiry: Option<Arc<Expiry>>) -> Self {
        match expiry {
            None => Self::Here(slot),
            Some(expiry) => {
                expiry.keep(slot);
                Self::Until(expiry)
            }
        }
    }

    /// None if the deadline has come.
    fn back(self) -> Option<Slot> {
        match self {
            Self::Here(slot) => Some(slot),
            Self::Until(expiry) => expiry.take_back(),
        }
    }
}

/// Sends the attempt with what was given, in the place of what the request has under the same names. It is not sent
/// without credentials that could not be had.
pub(super) fn send(
    slot: Slot,
    attempt: &mut Attempt,
    mut request: Request<()>,
    body: Outgoing,
    deadline: Option<&Arc<Expiry>>,
) -> Result<Sent, (Cause, Option<Outgoing>)> {
    match attempt.given() {
        None => {}
        // As a map extends: a name's first value replaces, those that follow are added.
        Some(Ok(given)) => request.headers_mut().extend(given),
        Some(Err(status)) => return Err(Cause::refused(status, body)),
    }
    slot.send(request, body, deadline).map_err(Cause::failure)
}

/// What they say, unless the channel's task ends before: then nobody keeps the call's time any more.
async fn while_it_lasts(
    shared: &Shared,
    asked: impl Future<Output = Result<HeaderMap, Status>>,
) -> Result<HeaderMap, Status> {
    let ended = async {
        loop {
            let (over, News { changed, .. }) = shared.look(|published| matches!(published.verdict, Verdict::Ended));
            if over {
                return;
            }
            changed.await;
        }
    };
    tokio::select! {
        given = asked => given,
        () = ended => Err(Status::unavailable("the channel's task has ended while its credentials were asked for")),
    }
}
