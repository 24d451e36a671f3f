//! Errors of the steps that open a connection.

use std::borrow::Cow;

use callboard_core::{BoxError, Error, ErrorKind};

/// The error of a step: `what` names the step, `error` is its cause.
pub(super) fn failed(what: impl Into<Cow<'static, str>>, error: impl Into<BoxError>) -> Error {
    Error::new(ErrorKind::Unavailable, what).with_source(error)
}
