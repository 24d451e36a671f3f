//! Statuses of failed calls.

use callboard_core::Code;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tonic::Status;

use super::fields::field;
use crate::transport::{Failure, quoted};

/// The header or trailer field of gRPC's status.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The prefix of gRPC's content type.
const GRPC: &[u8] = b"application/grpc";

/// A core code as tonic's.
fn to_tonic(code: Code) -> tonic::Code {
    tonic::Code::from(code as i32)
}

/// tonic's code as core's.
pub(crate) fn from_tonic(code: tonic::Code) -> Code {
    match code {
        tonic::Code::Ok => Code::Ok,
        tonic::Code::Cancelled => Code::Cancelled,
        tonic::Code::Unknown => Code::Unknown,
        tonic::Code::InvalidArgument => Code::InvalidArgument,
        tonic::Code::DeadlineExceeded => Code::DeadlineExceeded,
        tonic::Code::NotFound => Code::NotFound,
        tonic::Code::AlreadyExists => Code::AlreadyExists,
        tonic::Code::PermissionDenied => Code::PermissionDenied,
        tonic::Code::ResourceExhausted => Code::ResourceExhausted,
        tonic::Code::FailedPrecondition => Code::FailedPrecondition,
        tonic::Code::Aborted => Code::Aborted,
        tonic::Code::OutOfRange => Code::OutOfRange,
        tonic::Code::Unimplemented => Code::Unimplemented,
        tonic::Code::Internal => Code::Internal,
        tonic::Code::Unavailable => Code::Unavailable,
        tonic::Code::DataLoss => Code::DataLoss,
        tonic::Code::Unauthenticated => Code::Unauthenticated,
    }
}

/// A picker's status. Codes that gRPC's A54 does not permit for the control plane become INTERNAL.
pub(crate) fn of_picker(status: callboard_core::Status) -> Status {
    let callboard_core::Status { code, message } = status;
    match is_for_servers_alone(code) {
        true => Status::internal(format!("the picker failed the call with {code:?}: {message}")),
        false => Status::new(to_tonic(code), message),
    }
}

/// Whether only a server may end a call with this code, by gRPC's A54.
pub(crate) fn is_for_servers_alone(code: Code) -> bool {
    matches!(
        code,
        Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::DataLoss
    )
}

/// The status for the caller of a failed attempt. `report` adds the place to the cause.
pub(crate) fn of_failure(failure: Failure, report: impl FnOnce(&str) -> String) -> Status {
    let (code, why) = match failure {
        Failure::Unsent(why) | Failure::Refused(why) | Failure::Overtaken(why) => (Code::Unavailable, why),
        Failure::Broken(code, why) | Failure::Unsendable(code, why) => (code, why),
        Failure::Body(status) => return status,
    };
    Status::new(to_tonic(code), report(&why))
}

/// The code of a call by its response's head, if nothing else is awaited. `all` is whether nothing follows the head.
pub(crate) fn in_head(status: StatusCode, headers: &HeaderMap, all: bool) -> Option<Code> {
    if is_foreign(status, headers) {
        return Some(from_tonic(code_of_http(status)));
    }
    all.then(|| in_fields(headers).unwrap_or(Code::Unknown))
}

/// The code in a block of headers or trailers, if there is one.
pub(crate) fn in_fields(headers: &HeaderMap) -> Option<Code> {
    let value = field(headers, &GRPC_STATUS)?;
    Some(from_tonic(tonic::Code::from_bytes(value.as_bytes())))
}

/// The content type, if it is not gRPC's.
fn foreign_type(headers: &HeaderMap) -> Option<&HeaderValue> {
    field(headers, &header::CONTENT_TYPE).filter(|kind| !kind.as_bytes().starts_with(GRPC))
}

/// Whether a response does not come from a gRPC server.
fn is_foreign(status: StatusCode, headers: &HeaderMap) -> bool {
    (status != StatusCode::OK || foreign_type(headers).is_some()) && !headers.contains_key(GRPC_STATUS)
}

/// gRPC's http-grpc-status-mapping.md.
fn code_of_http(status: StatusCode) -> tonic::Code {
    match status {
        StatusCode::BAD_REQUEST => tonic::Code::Internal,
        StatusCode::UNAUTHORIZED => tonic::Code::Unauthenticated,
        StatusCode::FORBIDDEN => tonic::Code::PermissionDenied,
        StatusCode::NOT_FOUND => tonic::Code::Unimplemented,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => tonic::Code::Unavailable,
        _ => tonic::Code::Unknown,
    }
}

/// The status of a response that does not come from a gRPC server, such as a proxy's. None if it may come from one.
/// `report` adds the place to the cause.
pub(crate) fn of_http(head: &http::response::Parts, report: impl FnOnce(&str) -> String) -> Option<Status> {
    if !is_foreign(head.status, &head.headers) {
        return None;
    }
    let code = code_of_http(head.status);
    let kind = foreign_type(&head.headers)
        .map(|kind| format!(" with content-type {}", quoted(kind.as_bytes())))
        .unwrap_or_default();
    Some(Status::new(code, report(&format!("the response is not gRPC: HTTP {}{kind}", head.status))))
}
