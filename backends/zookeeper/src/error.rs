//! The errors of ZooKeeper, as callboard's errors.

use std::borrow::Cow;

use callboard_core::{Error, ErrorKind};
use zookeeper_client as zk;

/// How errors and logs name this backend.
pub(crate) const BACKEND: &str = "zookeeper";

/// An error of this backend without an answer of ZooKeeper as its source.
pub(crate) fn error(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(kind, message).in_backend(BACKEND)
}

/// A wrong setting or argument.
pub(crate) fn invalid(why: impl Into<Cow<'static, str>>) -> Error {
    Error::invalid(why).in_backend(BACKEND)
}

/// What failed, with ZooKeeper's answer as its source.
pub(crate) fn failed(what: impl Into<Cow<'static, str>>, answer: zk::Error) -> Error {
    error(kind(&answer), what).with_source(answer)
}

fn kind(answer: &zk::Error) -> ErrorKind {
    match answer {
        zk::Error::NoAuth | zk::Error::AuthFailed => ErrorKind::Denied,
        zk::Error::Timeout => ErrorKind::Timeout,
        zk::Error::BadArguments(_) | zk::Error::InvalidAcl | zk::Error::NoChildrenForEphemerals => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_say_whether_time_or_a_person_can_cure_it() {
        for (answer, kind) in [
            (zk::Error::NoAuth, ErrorKind::Denied),
            (zk::Error::Timeout, ErrorKind::Timeout),
            (zk::Error::InvalidAcl, ErrorKind::Invalid),
            (zk::Error::ConnectionLoss, ErrorKind::Unavailable),
            (zk::Error::SessionExpired, ErrorKind::Unavailable),
        ] {
            let error = failed("cannot list", answer.clone());
            assert_eq!((error.kind(), error.backend()), (kind, Some(BACKEND)), "{error:?}");
            assert_eq!(error.chain(), format!("zookeeper: cannot list: {answer}"));
        }
    }
}
