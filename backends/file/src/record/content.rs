//! What a file says. It may be anything: any program that may write to the directory can have put it there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use callboard_core::Result;
use rustix::fs::OFlags;

use crate::error::failed;

/// What a file says, or why it cannot be read.
pub(crate) type Content = Result<Vec<u8>, String>;

/// A longer file is not read. No instance's metadata is that long, and no config.
pub(crate) const MAX_LENGTH: u64 = 1 << 20;

/// Opens a file that may be anything: a link is not followed, and a pipe is not waited for.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// What is there that could not be opened. None if nothing is. That this process may not read a file is a property of
/// the file, and no failure.
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
        return Ok(Err("every user can write to it: change that with `chmod o-w`".to_owned()));
    }
    if there.len() > MAX_LENGTH {
        return Ok(Err(format!("{} bytes, more than the {MAX_LENGTH} that are read", there.len())));
    }
    let mut stored = Vec::new();
    file.take(MAX_LENGTH).read_to_end(&mut stored)?;
    Ok(Ok(stored))
}
