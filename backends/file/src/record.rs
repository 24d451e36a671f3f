//! One file: read by anybody, written by its owner.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use callboard_core::{Instance, Result, encode};
use rustix::fs::OFlags;

use crate::failure::failed;
use crate::lock::{hold, is_at, is_held};
use crate::place::Place;

/// A longer record is none: nobody's metadata is that long.
const MAX_LENGTH: u64 = 1 << 20;

/// How often a record may be replaced while it is looked at. After that, it is certain that somebody lives.
const MAX_REPLACED: usize = 16;

/// What is under a record's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Whether its owner lives.
    pub(crate) held: bool,
    /// What it says, or why that cannot be read.
    pub(crate) stored: Result<Vec<u8>, String>,
}

/// Reads what is there now. None if nothing is.
pub(crate) fn look(path: &Path) -> Result<Option<Found>> {
    let mut found = None;
    for _ in 0..MAX_REPLACED {
        let file = match open(path) {
            Ok(file) => file,
            Err(answer) => return unopened(path, answer),
        };
        let (there, certain) = look_into(&file, path)?;
        if certain {
            return Ok(Some(there));
        }
        found = Some(Found { held: true, ..there });
    }
    Ok(found)
}

/// What a file says, and whether that is certain: a lock that is free tells of a death only if the file was not
/// replaced. If it was, its owner has let it go.
fn look_into(file: &File, path: &Path) -> Result<(Found, bool)> {
    let cannot_read = |answer| failed("read", path, answer);
    let held = is_held(file).map_err(cannot_read)?;
    let stored = read(file).map_err(cannot_read)?;
    Ok((Found { held, stored }, held || is_at(file, path)?))
}

/// Opens what may be anything: a link is not followed, and a pipe is not waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// A file that this process may not read is none of its failures.
fn unopened(path: &Path, answer: io::Error) -> Result<Option<Found>> {
    let unreadable = |why: String| Ok(Some(Found { held: true, stored: Err(why) }));
    match answer.kind() {
        io::ErrorKind::NotFound => Ok(None),
        io::ErrorKind::PermissionDenied => unreadable(answer.to_string()),
        _ if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) => unreadable("not a file".to_owned()),
        _ => Err(failed("open", path, answer)),
    }
}

fn read(file: &File) -> io::Result<Result<Vec<u8>, String>> {
    let there = file.metadata()?;
    if !there.is_file() {
        return Ok(Err("not a file".to_owned()));
    }
    if there.len() > MAX_LENGTH {
        return Ok(Err(format!("{} bytes, more than the {MAX_LENGTH} of the longest record", there.len())));
    }
    let mut stored = Vec::new();
    file.take(MAX_LENGTH).read_to_end(&mut stored)?;
    Ok(Ok(stored))
}

/// Writes a record and gives it its name, in place of what has it now. The file that is returned is locked, and was
/// before anybody could see it. It takes the [turn](crate::lock::Turn).
pub(crate) fn write(place: &Place, instance: &Instance) -> Result<File> {
    let (draft, path) = (place.draft(&instance.id), place.record(&instance.id));
    let written = draft_of(place, &draft, instance);
    let named = written.and_then(|file| fs::rename(&draft, &path).map(|()| file));
    named.map_err(|answer| {
        // Best effort: whoever has the next turn would remove it too.
        let _ = fs::remove_file(&draft);
        failed("write", &path, answer)
    })
}

fn draft_of(place: &Place, draft: &Path, instance: &Instance) -> io::Result<File> {
    match fs::remove_file(draft) {
        Err(answer) if answer.kind() != io::ErrorKind::NotFound => return Err(answer),
        _ => {} // With the turn taken, nobody is writing one that was there.
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(place.mode & 0o666).open(draft)?;
    hold(&file)?;
    file.write_all(format!("{}\n", encode(instance)).as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_replaced_while_it_was_looked_at_tells_of_no_death() {
        let root = tempfile::TempDir::new().expect("a directory");
        let place = Place { root: root.path().to_owned(), folder: root.path().to_owned(), mode: 0o755 };
        let instance = Instance::new("a", "127.0.0.1:1".parse().expect("an address")).expect("an id");
        let (path, first) = (place.record("a"), write(&place, &instance).expect("written"));
        let opened = open(&path).expect("opened");
        let seen = |file: &File| look_into(file, &path).map(|(found, certain)| (found.held, certain)).expect("read");
        assert_eq!(seen(&opened), (true, true), "its owner lives");
        let second = write(&place, &instance).expect("replaced");
        drop(first);
        assert_eq!(seen(&opened), (false, false), "replaced, and let go of");
        assert!(look(&path).expect("read").expect("there").held, "the new one");
        let opened = open(&path).expect("opened");
        drop(second);
        assert_eq!(seen(&opened), (false, true), "its owner is dead");
    }
}
