//! Asking for the credentials of one attempt.

use std::sync::Arc;

use callboard_core::Code;
use http::{HeaderMap, HeaderName, Request, header};
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::again::Cause;
use super::attempt::late;
use super::deadline::{self, Deadline};
use super::head::Head;
use super::hop::LB_TOKEN;
use super::origin::{self, Phase};
use super::pick::{Chosen, Unchosen};
use super::status;
use super::ticket::Ticket;
use crate::control::Verdict;
use crate::credentials::{Attempt, Credentials};
use crate::publication::News;
use crate::shared::Shared;
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
    let Some(Ok((slot, mut ticket))) = chosen else { return chosen };
    let (number, time_left) = (ticket.attempt(), deadline.as_ref().map(Deadline::left));
    let attempt = Attempt { number, time_left, ..head.described(ticket.endpoint(), &shared.defaults) };
    // The place is free at the deadline, even if nobody polls this any more.
    let expiry = deadline.as_ref().map(|deadline| Arc::clone(deadline.expiry()));
    let kept = Kept::new(slot, expiry);
    let given = deadline::until(deadline, Box::pin(while_it_lasts(shared, of_attempt(credentials, &attempt)))).await;
    match given.zip(kept.back()) {
        Some((given, slot)) => {
            ticket.give(given);
            Some(Ok((slot, ticket)))
        }
        None => {
            let awaited = format!("the call credentials for {}", ticket.whence(&shared.service));
            let status = late(deadline.as_ref(), shared, &awaited);
            let status = origin::local(status, Phase::Credentials, Some(ticket.endpoint()));
            // It was never sent, and that says nothing of the endpoint.
            ticket.unsent();
            ticket.done(Code::Cancelled);
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
    ticket: &mut Ticket,
    mut request: Request<()>,
    body: Outgoing,
    deadline: Option<&Arc<Expiry>>,
) -> Result<Sent, (Cause, Option<Outgoing>)> {
    match ticket.given() {
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

/// What they say of this attempt, as far as it is theirs to say.
pub(super) async fn of_attempt(credentials: &Credentials, attempt: &Attempt<'_>) -> Result<HeaderMap, Status> {
    let given = credentials.0.metadata(attempt).await;
    given.map_err(|status| refused(&status)).and_then(checked)
}

fn refused(status: &Status) -> Status {
    let (code, message) = (status::from_tonic(status.code()), status.message());
    match status::is_for_servers_alone(code) {
        true => Status::internal(format!("the call credentials failed with {code:?}, which is for servers: {message}")),
        false => Status::new(status.code(), format!("the call credentials failed: {message}")),
    }
}

fn checked(given: MetadataMap) -> Result<HeaderMap, Status> {
    let mut headers = given.into_headers();
    if let Some(name) = headers.keys().find(|name| is_reserved(name)) {
        return Err(Status::internal(format!("the call credentials gave {name}, which is not theirs to set")));
    }
    headers.values_mut().for_each(|value| value.set_sensitive(true));
    Ok(headers)
}

fn is_reserved(name: &HeaderName) -> bool {
    const RESERVED: [HeaderName; 4] = [header::TE, header::CONTENT_TYPE, header::USER_AGENT, LB_TOKEN];
    RESERVED.contains(name) || name.as_str().starts_with("grpc-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_they_give_is_not_printed() {
        let mut given = MetadataMap::new();
        given.insert("authorization", "Bearer hunter2".parse().expect("a value"));
        let headers = checked(given).expect("theirs to set");
        assert_eq!(headers["authorization"], "Bearer hunter2");
        assert!(!format!("{headers:?}").contains("hunter2"), "{headers:?}");
    }
}
