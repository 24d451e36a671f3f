//! What the end of a call has in common, wherever it comes from.

use callboard_core::Code;
use http::response::Parts;
use tonic::Status;
use tonic::body::Body;

use super::ServedBy;
use super::attempt::Served;
use crate::control::Shared;
use crate::grpc::{self, Deadline, Kept};

/// Whether the time of a call is up.
pub(super) fn is_over(deadline: Option<&Deadline>) -> bool {
    deadline.is_some_and(Deadline::is_over)
}

/// Whether a call that ends with this code has run out of time in truth. Servers cancel calls whose time is up, and what
/// they say may come before this side's timer, which goes by milliseconds: gRPC's own clients tell the two apart by the
/// time, too.
pub(super) fn is_cut(code: Option<Code>, deadline: Option<&Deadline>) -> bool {
    code == Some(Code::Cancelled) && is_over(deadline)
}

/// The status of a call that has run out of time, and how the channel stands.
pub(super) fn late(deadline: Option<&Deadline>, shared: &Shared, awaited: &str) -> Status {
    grpc::exceeded(deadline, &format!("while waiting for {awaited}: {}", shared.published().summary))
}

/// A response as the caller gets it: who has served it stands in its extensions, what the balancer adds stands in its
/// head, and what the server has told the channel alone does not.
pub(super) fn complete(mut parts: Parts, body: Body, served: Served, kept: Kept) -> http::Response<Body> {
    grpc::strip_response(&mut parts.headers);
    if let Some(metadata) = served.metadata {
        parts.headers.extend(metadata.for_response().clone());
    }
    parts.extensions = kept.into_room();
    parts.extensions.insert(ServedBy(served.by));
    http::Response::from_parts(parts, body)
}
