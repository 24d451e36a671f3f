//! Where a call's failure comes from.

use std::fmt;
use std::sync::Arc;

use callboard_core::{Endpoint, Error};
use tonic::Status;

use super::status;
use crate::transport::Failure;

/// Why a call has failed, if that was not a server's word: the [`source`](std::error::Error::source) of a status that the
/// channel itself has made.
///
/// A status that a server has sent has none. The message of the status says what happened; this says where, for code that
/// has to decide. Its own source, where no endpoint was ready, is why: the last error of a connection, or else the
/// registry's, down to what the system has said. Nothing of it goes along when a server hands the status on to its own
/// caller: what that gets is code, message and metadata.
///
/// ```
/// use callboard::{CallError, Phase};
///
/// fn report(status: &tonic::Status) -> String {
///     match CallError::of(status) {
///         None => format!("the server said {:?}", status.code()),
///         Some(error) if error.phase() == Phase::Choosing => "no server was asked".to_owned(),
///         Some(error) => format!("lost on the way: {error}"),
///     }
/// }
/// # assert_eq!(report(&tonic::Status::not_found("no")), "the server said NotFound");
/// ```
///
/// To learn which endpoint a call went to that a server has failed, see [`Peer`](crate::Peer).
#[derive(Clone)]
pub struct CallError {
    phase: Phase,
    endpoint: Option<Endpoint>,
    cause: Option<Error>,
}

/// How far a call was that the channel has failed. Of a call that was sent more than once, it is the last attempt's.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The request cannot be sent as it is: malformed, or larger than the service's config allows. More of it may have
    /// been sent before, if it is a stream.
    Request,
    /// No endpoint was chosen: none was ready, or had a free place, or the balancer has failed the call. This attempt was
    /// not sent.
    Choosing,
    /// The [credentials](crate::CallCredentials) could not be had. This attempt was not sent.
    Credentials,
    /// It was given to an endpoint's connection, and there is no response: the server may have processed it.
    Response,
    /// It was to be sent again, and its time ended before that.
    Waiting,
    /// The response had begun.
    Body,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "while the request was made ready",
            Self::Choosing => "while an endpoint was chosen",
            Self::Credentials => "while its credentials were asked for",
            Self::Response => "while its response was awaited",
            Self::Waiting => "while it was waiting to be sent again",
            Self::Body => "while its response was on its way",
        })
    }
}

impl CallError {
    /// Looks whether the channel has made this status.
    pub fn of(status: &Status) -> Option<&Self> {
        std::error::Error::source(status)?.downcast_ref()
    }

    /// How far the call was.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Where it was, or had been last. None if no endpoint was chosen.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        self.endpoint.as_ref()
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the channel has failed the call {}", self.phase)?;
        match &self.endpoint {
            Some(endpoint) => write!(f, ", endpoint {}", endpoint.instance().address()),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An endpoint is long, and a status prints its source.
        let address = self.endpoint.as_ref().map(|endpoint| endpoint.instance().address());
        let Self { phase, cause, .. } = self;
        f.debug_struct("CallError").field("phase", phase).field("endpoint", &address).field("cause", cause).finish()
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| cause as _)
    }
}

/// A status of the channel's own. If it says already where it is from, that stays.
pub(crate) fn local(status: Status, phase: Phase, endpoint: Option<&Endpoint>) -> Status {
    match CallError::of(&status) {
        None => by(status, CallError { phase, endpoint: endpoint.cloned(), cause: None }),
        Some(_) => status,
    }
}

/// The status of a call for which there is no endpoint, and why there is none, if that is known.
pub(crate) fn nowhere(status: Status, cause: Option<&Error>) -> Status {
    by(status, CallError { phase: Phase::Choosing, endpoint: None, cause: cause.cloned() })
}

/// The same status, of which there is more to say.
pub(crate) fn reworded(status: &Status, message: String) -> Status {
    let other = Status::new(status.code(), message);
    match CallError::of(status) {
        None => other,
        Some(error) => by(other, error.clone()),
    }
}

fn by(mut status: Status, error: CallError) -> Status {
    status.set_source(Arc::new(error));
    status
}

/// What the caller is told of an attempt at this endpoint that has failed. The error of his own request body he gets as
/// he has made it. `report` adds to the cause where that was.
pub(crate) fn of_failure(
    failure: Failure,
    phase: Phase,
    endpoint: &Endpoint,
    report: impl FnOnce(&str) -> String,
) -> Status {
    match failure {
        Failure::Body(status) => status,
        unsendable @ Failure::Unsendable(..) => {
            local(status::of_failure(unsendable, report), Phase::Request, Some(endpoint))
        }
        other => local(status::of_failure(other, report), phase, Some(endpoint)),
    }
}
