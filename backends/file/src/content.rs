//! What a file says that may be anything: whoever put it there, and as what.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use callboard_core::Result;
use rustix::fs::OFlags;

use crate::failure::failed;

/// What a file says, or why that is not to be had.
pub(crate) type Content = Result<Vec<u8>, String>;

/// What is longer is not read: nobody's metadata is that long, and nobody's config.
pub(crate) const MAX_LENGTH: u64 = 1 << 20;

/// Opens what may be anything: a link is not followed, and a pipe is not waited for.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// What is there that could not be opened. None if nothing is. A file that this process may not read is none of its
/// failures.
pub(crate) fn unopened(path: &Path, answer: io::Error) -> Result<Option<Content>> {
    match answer.kind() {
        io::ErrorKind::NotFound => Ok(None),
        io::ErrorKind::PermissionDenied => Ok(Some(Err(answer.to_string()))),
        _ if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) => Ok(Some(Err("not a file".to_owned()))),
        _ => Err(failed("open", path, answer)),
    }
}

pub(crate) fn read(file: &File) -> io::Result<Content> {
    let there = file.metadata()?;
    if !there.is_file() {
        return Ok(Err("not a file".to_owned()));
    }
    if there.mode() & 0o002 != 0 {
        return Ok(Err("everybody can write to it: take that away with `chmod o-w`".to_owned()));
    }
    if there.len() > MAX_LENGTH {
        return Ok(Err(format!("{} bytes, more than the {MAX_LENGTH} that are read", there.len())));
    }
    let mut stored = Vec::new();
    file.take(MAX_LENGTH).read_to_end(&mut stored)?;
    Ok(Ok(stored))
}
