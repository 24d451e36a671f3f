//! What the file system's refusals mean.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use callboard_core::{Error, ErrorKind, Result};
use tokio::task::spawn_blocking;

/// How errors and logs name this backend.
pub(crate) const BACKEND: &str = "file";

/// An error of this backend that is not caused by one of the system.
pub(crate) fn error(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(kind, message).in_backend(BACKEND)
}

/// The error that something could not be done with a path, with the system's error as its source.
pub(crate) fn failed(what: &str, path: &Path, answer: io::Error) -> Error {
    error(kind(&answer), format!("cannot {what} {}", path.display())).with_source(answer)
}

fn kind(answer: &io::Error) -> ErrorKind {
    match answer.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
        io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::FileTooLarge => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    }
}

/// Runs work with files, which may block, beside the runtime's own threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let ended = |ended| error(ErrorKind::Unavailable, "the work with the file system was cancelled").with_source(ended);
    spawn_blocking(work).await.map_err(ended)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_a_person_has_to_settle_differ_from_those_that_pass() {
        for (answer, kind) in [
            (io::ErrorKind::PermissionDenied, ErrorKind::Denied),
            (io::ErrorKind::ReadOnlyFilesystem, ErrorKind::Denied),
            (io::ErrorKind::NotADirectory, ErrorKind::Invalid),
            (io::ErrorKind::FileTooLarge, ErrorKind::Invalid),
            (io::ErrorKind::NotFound, ErrorKind::Unavailable),
            (io::ErrorKind::StorageFull, ErrorKind::Unavailable),
        ] {
            let error = failed("write", Path::new("/run/x"), answer.into());
            assert_eq!((error.kind(), error.backend()), (kind, Some(BACKEND)), "{error:?}");
            assert!(error.to_string().contains("cannot write /run/x"), "{error}");
        }
    }
}
