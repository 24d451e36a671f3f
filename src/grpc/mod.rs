//! gRPC over HTTP/2: heads, deadlines, statuses, and a call on one connection.
//!
//! Nothing here chooses endpoints.

mod credentials;
mod deadline;
mod defaults;
mod direct;
mod error;
mod fields;
mod head;
mod hop;
pub(crate) mod status;
mod timeout;

pub use self::credentials::{CallCredentials, RequestInfo};
pub(crate) use self::credentials::{Credentials, of_attempt};
pub(crate) use self::deadline::{Deadline, exceeded, until};
pub(crate) use self::defaults::Defaults;
pub(crate) use self::direct::Direct;
pub use self::error::{CallError, Phase};
pub(crate) use self::error::{local, nowhere, of_failure, reworded};
pub(crate) use self::head::{Head, Kept};
pub(crate) use self::hop::{PUSHBACK, strip_response};
pub use self::timeout::Timeout;
pub(crate) use self::timeout::of_call;

/// The result of a call.
pub(crate) type Answer = Result<http::Response<tonic::body::Body>, tonic::Status>;
