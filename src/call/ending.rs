//! What the different ends of a call have in common.

use callboard_core::Code;
use http::response::Parts;
use tonic::Status;
use tonic::body::Body;

use super::ServedBy;
use super::attempt::Served;
use crate::control::Shared;
use crate::grpc::{self, Deadline, Kept};

/// Whether the deadline of a call has passed.
pub(super) fn is_over(deadline: Option<&Deadline>) -> bool {
    deadline.is_some_and(Deadline::is_over)
}

/// Whether a call that ends with this code has really exceeded its deadline. Servers cancel calls at the deadline, and
/// the cancellation may arrive before this side's timer fires, which counts milliseconds. gRPC's own clients check the
/// time, too.
pub(super) fn is_cut(code: Option<Code>, deadline: Option<&Deadline>) -> bool {
    code == Some(Code::Cancelled) && is_over(deadline)
}

/// The status of a call that has exceeded its deadline, with the state of the channel.
pub(super) fn late(deadline: Option<&Deadline>, shared: &Shared, awaited: &str) -> Status {
    grpc::exceeded(deadline, &format!("while waiting for {awaited}: {}", shared.published().summary))
}

/// Completes a response for the caller: the endpoint is put into its extensions, the balancer's metadata into its head,
/// and fields that are for the channel alone are removed.
pub(super) fn complete(mut parts: Parts, body: Body, served: Served, kept: Kept) -> http::Response<Body> {
    grpc::strip_response(&mut parts.headers);
    if let Some(metadata) = served.metadata {
        parts.headers.extend(metadata.for_response().clone());
    }
    parts.extensions = kept.into_room();
    parts.extensions.insert(ServedBy(served.by));
    http::Response::from_parts(parts, body)
}
