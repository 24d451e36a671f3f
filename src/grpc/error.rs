//! The origin of a failed call's status.

use std::fmt;
use std::sync::Arc;

use callboard_core::{Endpoint, Error};
use tonic::Status;

use super::status;
use crate::transport::Failure;

/// Why a call has failed, if the status is not from a server: the [`source`](std::error::Error::source) of a status
/// that the channel itself has made.
///
/// A status from a server has none. The message of the status describes the failure; this value says where it happened,
/// for code that has to decide. If no endpoint was ready, its own source is the reason: the last error of a connection,
/// or else of the registry, with all its causes. It is local: when a server passes the status on to its own caller,
/// that gets the code, the message and the metadata only.
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
/// To learn the endpoint of a call that a server has failed, see [`Peer`](crate::Peer).
#[derive(Clone)]
pub struct CallError {
    phase: Phase,
    endpoint: Option<Endpoint>,
    cause: Option<Error>,
}

/// The phase of a call that the channel has failed. If there were several attempts, it is that of the last one.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The request cannot be sent in this form: it is malformed, or larger than the service config permits. If it is a
    /// stream, earlier messages may have been sent.
    Request,
    /// No endpoint was chosen: none was ready, or none had a free stream, or the balancer has failed the call. This
    /// attempt was not sent.
    Choosing,
    /// The [credentials](crate::CallCredentials) have failed. This attempt was not sent.
    Credentials,
    /// It was handed to an endpoint's connection, and there is no response. The server may have processed it.
    Response,
    /// It was waiting to be sent again when its deadline passed.
    Waiting,
    /// The response had begun.
    Body,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "while the request was prepared",
            Self::Choosing => "while an endpoint was chosen",
            Self::Credentials => "while its credentials were asked for",
            Self::Response => "while its response was awaited",
            Self::Waiting => "while it was waiting to be sent again",
            Self::Body => "while its response was being received",
        })
    }
}

impl CallError {
    /// Returns the error of a status that the channel has made. None for any other status, such as a server's.
    pub fn of(status: &Status) -> Option<&Self> {
        std::error::Error::source(status)?.downcast_ref()
    }

    /// The phase of the call.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The endpoint of the last attempt. None if none was chosen.
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
        // Only the address, because an endpoint is long and a status prints its source.
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

/// Marks a status as made by the channel. An existing mark stays.
pub(crate) fn local(status: Status, phase: Phase, endpoint: Option<&Endpoint>) -> Status {
    match CallError::of(&status) {
        None => by(status, CallError { phase, endpoint: endpoint.cloned(), cause: None }),
        Some(_) => status,
    }
}

/// Marks the status of a call that found no endpoint, with the reason, if that is known.
pub(crate) fn nowhere(status: Status, cause: Option<&Error>) -> Status {
    by(status, CallError { phase: Phase::Choosing, endpoint: None, cause: cause.cloned() })
}

/// The same status with another message.
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

/// The status for the caller of a failed attempt at this endpoint. An error of the caller's own request body is
/// returned unchanged. `report` adds the place to the cause.
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
