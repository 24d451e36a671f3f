//! The call credentials of one attempt.

use std::sync::Arc;

use callboard_core::Code;
use http::{HeaderMap, Request};
use tonic::Status;

use super::after_failure::Cause;
use super::attempt::Attempt;
use super::ending::late;
use super::pick::{Chosen, Unchosen};
use crate::control::{News, Shared, Verdict};
use crate::grpc::{self, Credentials, Deadline, Head, Phase, RequestInfo, of_attempt, until};
use crate::transport::{Expiry, Outgoing, Sent, Slot};

/// Asks the call credentials for metadata, once an endpoint is chosen, within the deadline.
///
/// The chosen slot and attempt are moved in and out: they are large, and the future of calls without credentials should
/// not hold them twice.
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
    // The slot is freed at the deadline, even if this is not polled any more.
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
            // It was never sent, so it says nothing about the endpoint.
            attempt.unsent();
            attempt.done(Code::Cancelled);
            Some(Err(Unchosen::Failed(status)))
        }
    }
}

/// A slot that is held until the deadline.
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

/// Sends the attempt with the metadata of the credentials, which replaces what the request has under the same names. If
/// the credentials have failed, the attempt is not sent.
pub(super) fn send(
    slot: Slot,
    attempt: &mut Attempt,
    mut request: Request<()>,
    body: Outgoing,
    deadline: Option<&Arc<Expiry>>,
) -> Result<Sent, (Cause, Option<Outgoing>)> {
    match attempt.given() {
        None => {}
        // As `extend` does: the first value of a name replaces, the following ones are added.
        Some(Ok(given)) => request.headers_mut().extend(given),
        Some(Err(status)) => return Err(Cause::refused(status, body)),
    }
    slot.send(request, body, deadline).map_err(Cause::failure)
}

/// The result of the credentials, unless the channel's task ends first: then the deadline is not enforced any more.
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
