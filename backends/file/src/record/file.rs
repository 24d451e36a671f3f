//! One record's file: any process reads it, its owner writes it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use callboard_core::{ErrorKind, Instance, Result, decode, encode};

use super::content::{Content, MAX_LENGTH, open, read, unopened};
use super::layout::Layout;
use super::lock::{hold, is_at, is_held};
use super::stamp::Stamp;
use crate::error::{error, failed};

/// How often a record may be replaced while it is looked at. After that, it is certain that an owner lives.
const MAX_REPLACED: usize = 16;

/// What is under a record's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Whether its owner lives.
    pub(crate) held: bool,
    /// What it says, or why that cannot be read.
    pub(crate) stored: Content,
    /// Tells later whether it was written since.
    pub(crate) stamp: Option<Stamp>,
}

impl Found {
    /// Whether its owner is dead. A file that is no record is not stale: callboard writes none, so another program's it
    /// may be.
    pub(crate) fn is_stale(&self) -> bool {
        !self.held && self.stored.as_ref().is_ok_and(|stored| decode(stored).is_ok())
    }
}

/// Reads a record's file. None if it is not there.
pub(crate) fn look(path: &Path) -> Result<Option<Found>> {
    let mut found = None;
    for _ in 0..MAX_REPLACED {
        let file = match open(path) {
            Ok(file) => file,
            Err(answer) => return Ok(unopened(path, answer)?.map(|stored| Found { held: true, stored, stamp: None })),
        };
        let (there, certain) = look_into(&file, path)?;
        if certain {
            return Ok(Some(there));
        }
        found = Some(Found { held: true, ..there });
    }
    Ok(found)
}

/// What a file says, and whether that is certain. A free lock means that the owner is dead only if the file was not
/// replaced. If it was, its owner has closed it.
fn look_into(file: &File, path: &Path) -> Result<(Found, bool)> {
    let cannot_read = |answer| failed("read", path, answer);
    let held = is_held(file).map_err(cannot_read)?;
    // Before it is read: a file that is written meanwhile has another stamp.
    let stamp = Stamp::of(&file.metadata().map_err(cannot_read)?);
    let stored = read(file).map_err(cannot_read)?;
    Ok((Found { held, stored, stamp }, held || is_at(file, path)?))
}

/// Writes a record, in place of the one that has its name. The file that is returned is locked, and was before any other
/// process could see it. The caller holds the [directory's lock](super::DirectoryLock).
pub(crate) fn write(layout: &Layout, instance: &Instance) -> Result<File> {
    let (draft, path) = (layout.draft(instance.id()), layout.record(instance.id()));
    put(layout, &draft, &path, &format!("{}\n", encode(instance)))
}

/// Writes a file under one name and then gives it another, in place of the file that has that name. So no process sees
/// half of it, or a file without its lock. The caller holds the directory's lock.
///
/// A text that would not be read is not written.
pub(crate) fn put(layout: &Layout, draft: &Path, path: &Path, text: &str) -> Result<File> {
    if text.len() as u64 > MAX_LENGTH {
        let why = format!("{} bytes for {}, more than the {MAX_LENGTH} that are read", text.len(), path.display());
        return Err(error(ErrorKind::Invalid, why));
    }
    let written = draft_of(layout, draft, text);
    let named = written.and_then(|file| fs::rename(draft, path).map(|()| file));
    named.map_err(|answer| {
        // Best effort: the next sweep would remove it too.
        let _ = fs::remove_file(draft);
        failed("write", path, answer)
    })
}

fn draft_of(layout: &Layout, draft: &Path, text: &str) -> io::Result<File> {
    // The directory is locked, so a draft that is there is not being written.
    remove(draft)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(layout.mode & 0o666).open(draft)?;
    hold(&file)?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

/// Removes a file. One that is not there is no error.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(answer) if answer.kind() != io::ErrorKind::NotFound => Err(answer),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_replaced_while_it_was_looked_at_has_no_dead_owner() {
        let root = tempfile::TempDir::new().expect("a directory");
        let layout = Layout { root: root.path().to_owned(), folder: root.path().to_owned(), mode: 0o755 };
        let instance = Instance::new("a", "127.0.0.1:1".parse().expect("an address")).expect("an id");
        let (path, first) = (layout.record("a"), write(&layout, &instance).expect("written"));
        let opened = open(&path).expect("opened");
        let seen = |file: &File| look_into(file, &path).map(|(found, certain)| (found.held, certain)).expect("read");
        assert_eq!(seen(&opened), (true, true), "its owner lives");
        let second = write(&layout, &instance).expect("replaced");
        drop(first);
        assert_eq!(seen(&opened), (false, false), "replaced, and closed");
        assert!(look(&path).expect("read").expect("there").held, "the new one");
        let opened = open(&path).expect("opened");
        drop(second);
        assert_eq!(seen(&opened), (false, true), "its owner is dead");
    }
}
