//! The one error type of callboard.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::ServiceName;

/// What callboard's fallible functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error of another library, as the source of an [`Error`].
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong, sorted by what the caller can do about it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The registry or the network is out of reach. The same call may succeed later; supervision retries it.
    Unavailable,
    /// An answer did not come in time. The call may or may not have taken effect; supervision retries it.
    Timeout,
    /// The claim on a published entry is gone: it has expired, or was deleted or revoked by others. Register again.
    Lost,
    /// The entry belongs to another claim on the same id, of a newer incarnation or the same. As long as its owner lives,
    /// registering again cannot help.
    Conflict,
    /// The registry refused the credentials or lacks the permission. Change them; supervision goes on trying slowly.
    Denied,
    /// A name, an address, a URL, a record or a setting is malformed. The message names it; retrying cannot help.
    Invalid,
    /// What was asked for is not compiled in or not known. The message says what is known, and which feature to turn on.
    Unsupported,
    /// It was ended before; there is nothing to wait for.
    Closed,
}

/// What went wrong, where, and what to do about it.
///
/// [`Display`](fmt::Display) prints this level only: the backend, the service and the message. What the underlying
/// library said is in [`source`](std::error::Error::source). Cloning is cheap, so that a state can carry the error that led to it.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    backend: Option<Cow<'static, str>>,
    service: Option<ServiceName>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Makes an error of this kind. The message is one line without a full stop. It says what failed and, where that is not
    /// obvious, what to do.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), backend: None, service: None, source: None }))
    }

    /// Shorthand for an [`ErrorKind::Invalid`] error.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Says which backend failed, by its short name: `etcd`.
    #[must_use]
    pub fn in_backend(mut self, backend: impl Into<Cow<'static, str>>) -> Self {
        Arc::make_mut(&mut self.0).backend = Some(backend.into());
        self
    }

    /// Says which service it was about.
    #[must_use]
    pub fn for_service(mut self, service: &ServiceName) -> Self {
        Arc::make_mut(&mut self.0).service = Some(service.clone());
        self
    }

    /// Attaches what the underlying library said. It is not repeated in the message.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        Arc::make_mut(&mut self.0).source = Some(Arc::from(source.into()));
        self
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message alone, without backend and service.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The backend that failed, if one did.
    pub fn backend(&self) -> Option<&str> {
        self.0.backend.as_deref()
    }

    /// The service that it was about, if it was about one.
    pub fn service(&self) -> Option<&ServiceName> {
        self.0.service.as_ref()
    }

    /// The message followed by each source's, joined by `: `. For places that can hold one line only, such as a log
    /// field or a gRPC status.
    pub fn chain(&self) -> String {
        let mut levels = vec![self.to_string()];
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            let level = error.to_string();
            // Some libraries repeat their sources in their own message.
            if !levels.iter().any(|said| said.ends_with(&level)) {
                levels.push(level);
            }
            source = error.source();
        }
        levels.join(": ")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(backend) = &self.0.backend {
            write!(f, "{backend}: ")?;
        }
        if let Some(service) = &self.0.service {
            write!(f, "{service}: ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, message, backend, service, source } = &*self.0;
        let mut out = f.debug_struct("Error");
        out.field("kind", kind).field("message", message);
        if let Some(backend) = backend {
            out.field("backend", backend);
        }
        if let Some(service) = service {
            out.field("service", service);
        }
        if let Some(source) = source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_says_where_and_leaves_the_source_to_source() {
        let service: ServiceName = "project/test".parse().expect("a valid name");
        let io = std::io::Error::other("connection refused");
        let error =
            Error::new(ErrorKind::Unavailable, "cannot list").in_backend("etcd").for_service(&service).with_source(io);
        assert_eq!(error.to_string(), "etcd: project/test: cannot list");
        assert_eq!(error.chain(), "etcd: project/test: cannot list: connection refused");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.service(), Some(&service));
    }

    #[test]
    fn chain_says_a_repeated_source_once() {
        let error = Error::invalid("bad: inner").with_source("inner");
        assert_eq!(error.chain(), "bad: inner");
        let inner = Error::invalid("connect").with_source(Error::invalid("transport").with_source("connect"));
        assert_eq!(Error::invalid("down: connect").with_source(inner).chain(), "down: connect: transport");
    }
}
