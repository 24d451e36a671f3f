//! The error of a step on the way to a connection.

use std::borrow::Cow;

use callboard_core::{BoxError, Error, ErrorKind};

/// What has failed, and why.
pub(super) fn failed(what: impl Into<Cow<'static, str>>, error: impl Into<BoxError>) -> Error {
    Error::new(ErrorKind::Unavailable, what).with_source(error)
}
