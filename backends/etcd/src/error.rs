//! The errors of etcd and of its client library, as callboard's errors.

use std::error::Error as _;
use std::fmt;

use callboard_core::{Error, ErrorKind, ServiceName};
use tonic::{Code, Status};

/// Names this backend in an error.
pub(crate) fn in_backend(error: Error) -> Error {
    error.in_backend("etcd")
}

/// Names this backend and a service in an error.
pub(crate) fn in_service(error: Error, service: &ServiceName) -> Error {
    in_backend(error).for_service(service)
}

/// Makes callboard's error of the client library's. `what` says what could not be done, such as `list`. `secure` says
/// whether it was tried over TLS.
pub(crate) fn from_client(what: &str, error: etcd_client::Error, secure: bool) -> Error {
    let kind = kind(&error);
    let plain = Error::new(kind, format!("cannot {what}{}", advice(&error, secure)));
    match error {
        // The library's own error hides the cause of a status.
        etcd_client::Error::GRpcStatus(status) => plain.with_source(StatusSource(status)),
        etcd_client::Error::TransportError(error) => plain.with_source(error),
        error => plain.with_source(error),
    }
}

/// The error of an answer that did not come in time.
pub(crate) fn timed_out(what: &str) -> Error {
    Error::new(ErrorKind::Timeout, format!("cannot {what}: etcd has not answered in time"))
}

/// Whether the same call may succeed if it is made again at once, on another member or a new connection. It will not if
/// etcd answers that it is full. A connection that etcd has ended has the same code, but then the status has a cause.
pub(crate) fn is_passing(error: &Error) -> bool {
    let status = std::error::Error::source(error).and_then(|source| source.downcast_ref::<StatusSource>());
    let full = status.is_some_and(|status| status.0.code() == Code::ResourceExhausted && status.source().is_none());
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) && !full
}

/// Whether an answer was longer than this client takes.
pub(crate) fn is_too_large(error: &Error) -> bool {
    let status = std::error::Error::source(error).and_then(|source| source.downcast_ref::<StatusSource>());
    status.is_some_and(|status| status.0.code() == Code::OutOfRange && status.0.message().contains("length too large"))
}

/// Whether a token is refused that a new login would replace. The library itself replaces a token that etcd does not
/// know any more, but not one that is older than the last change of users or roles.
pub(crate) fn wants_login(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.message().contains(OLD_TOKEN))
}

/// Whether a watch is refused because of the token of its stream. Another stream has a new token.
pub(crate) fn wants_stream(reason: &str) -> bool {
    reason.contains(OLD_TOKEN) || reason.contains(NO_TOKEN)
}

const OLD_TOKEN: &str = "revision of auth store is old";
const NO_TOKEN: &str = "invalid auth token";
const BAD_LOGIN: &str = "authentication failed";
/// The message of the gRPC library within etcd for a request that is far larger than etcd takes. For one that is a
/// little larger, etcd itself answers.
const TOO_LARGE: &str = "message larger than max";
const NO_LOGINS: &str = "authentication is not enabled";

fn kind(error: &etcd_client::Error) -> ErrorKind {
    use etcd_client::Error::{GRpcStatus, InvalidArgs, InvalidMetadataValue, InvalidUri, LeaseKeepAliveError};
    match error {
        GRpcStatus(status) => kind_of(status),
        InvalidArgs(_) | InvalidUri(_) | InvalidMetadataValue(_) => ErrorKind::Invalid,
        LeaseKeepAliveError(why) if why.contains("not found") => ErrorKind::Lost,
        _ => ErrorKind::Unavailable,
    }
}

fn kind_of(status: &Status) -> ErrorKind {
    let says = |text: &str| status.message().contains(text);
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => ErrorKind::Denied,
        Code::InvalidArgument if says(OLD_TOKEN) => ErrorKind::Unavailable,
        Code::InvalidArgument if says(BAD_LOGIN) || says("user name is empty") => ErrorKind::Denied,
        Code::FailedPrecondition if says(NO_LOGINS) => ErrorKind::Denied,
        Code::InvalidArgument => ErrorKind::Invalid,
        Code::NotFound if says("lease not found") => ErrorKind::Lost,
        Code::ResourceExhausted if says(TOO_LARGE) => ErrorKind::Invalid,
        Code::DeadlineExceeded => ErrorKind::Timeout,
        _ => ErrorKind::Unavailable,
    }
}

/// What to do about it, where that is not obvious.
fn advice(error: &etcd_client::Error, secure: bool) -> &'static str {
    let etcd_client::Error::GRpcStatus(status) = error else { return "" };
    let says = |text: &str| status.message().contains(text);
    match status.code() {
        Code::InvalidArgument if says(BAD_LOGIN) => ": wrong user or password",
        Code::InvalidArgument if says("user name is empty") => ": etcd asks for a user and a password",
        Code::FailedPrecondition if says(NO_LOGINS) => ": etcd knows no users, leave user and password out",
        Code::PermissionDenied => ": the user needs read and write permission on everything under the prefix",
        // etcd closes a connection right after the TLS handshake and gives no reason that the library could pass on.
        Code::Cancelled | Code::Unknown if secure => {
            ": etcd has closed the connection; it may ask for a client certificate that it trusts"
        }
        Code::ResourceExhausted if says("space") => ": etcd's disk quota is used up, compact and defragment it",
        _ => "",
    }
}

/// A gRPC status, as a source: its code and message in one line, and below it what caused it.
#[derive(Debug)]
struct StatusSource(Status);

impl fmt::Display for StatusSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.code(), self.0.message())
    }
}

impl std::error::Error for StatusSource {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_say_what_can_be_done() {
        for (code, message, kind) in [
            (Code::Unavailable, "etcdserver: no leader", ErrorKind::Unavailable),
            (Code::Unauthenticated, "etcdserver: invalid auth token", ErrorKind::Denied),
            (Code::PermissionDenied, "etcdserver: permission denied", ErrorKind::Denied),
            (
                Code::InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
                ErrorKind::Denied,
            ),
            (Code::InvalidArgument, "etcdserver: revision of auth store is old", ErrorKind::Unavailable),
            (Code::InvalidArgument, "etcdserver: request is too large", ErrorKind::Invalid),
            (Code::FailedPrecondition, "etcdserver: authentication is not enabled", ErrorKind::Denied),
            (Code::NotFound, "etcdserver: requested lease not found", ErrorKind::Lost),
            (Code::DeadlineExceeded, "context deadline exceeded", ErrorKind::Timeout),
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", ErrorKind::Unavailable),
            (Code::ResourceExhausted, "grpc: received message larger than max (3 vs. 2)", ErrorKind::Invalid),
        ] {
            let error = from_client("list", etcd_client::Error::GRpcStatus(Status::new(code, message)), false);
            assert_eq!(error.kind(), kind, "{message}");
            assert!(error.chain().starts_with("cannot list") && error.chain().contains(message), "{}", error.chain());
        }
    }

    #[test]
    fn a_connection_that_etcd_has_ended_is_not_a_full_etcd() {
        let full = Status::resource_exhausted("etcdserver: mvcc: database space exceeded");
        let mut ended = Status::resource_exhausted("h2 protocol error: http2 error");
        ended.set_source(std::sync::Arc::new(std::io::Error::other("connection error: too_many_pings")));
        for (status, passing) in [(full, false), (ended, true)] {
            let error = from_client("end the lease", etcd_client::Error::GRpcStatus(status), false);
            assert_eq!(is_passing(&error), passing, "{}", error.chain());
        }
    }
}
