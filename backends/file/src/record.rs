//! One file: read by anybody, written by its owner.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use callboard_core::{ErrorKind, Instance, Result, encode};

use crate::content::{Content, MAX_LENGTH, open, read, unopened};
use crate::failure::{error, failed};
use crate::lock::{hold, is_at, is_held};
use crate::place::Place;
use crate::stamp::Stamp;

/// How often a record may be replaced while it is looked at. After that, it is certain that somebody lives.
const MAX_REPLACED: usize = 16;

/// What is under a record's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Whether its owner lives.
    pub(crate) held: bool,
    /// What it says, or why that cannot be read.
    pub(crate) stored: Content,
    /// Tells whether it says the same later.
    pub(crate) stamp: Option<Stamp>,
}

/// Reads what is there now. None if nothing is.
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

/// What a file says, and whether that is certain: a lock that is free tells of a death only if the file was not
/// replaced. If it was, its owner has let it go.
fn look_into(file: &File, path: &Path) -> Result<(Found, bool)> {
    let cannot_read = |answer| failed("read", path, answer);
    let held = is_held(file).map_err(cannot_read)?;
    // Before it is read: what is written meanwhile has another stamp.
    let stamp = Stamp::of(&file.metadata().map_err(cannot_read)?);
    let stored = read(file).map_err(cannot_read)?;
    Ok((Found { held, stored, stamp }, held || is_at(file, path)?))
}

/// Writes a record and gives it its name, in place of what has it now. The file that is returned is locked, and was
/// before anybody could see it. It takes the [turn](crate::lock::Turn).
pub(crate) fn write(place: &Place, instance: &Instance) -> Result<File> {
    let (draft, path) = (place.draft(instance.id()), place.record(instance.id()));
    put(place, &draft, &path, &format!("{}\n", encode(instance)))
}

/// Writes a file under one name and then gives it another, in place of what has that now: nobody sees half of it, or
/// one without its lock. It takes the turn.
///
/// What nobody would read is not written.
pub(crate) fn put(place: &Place, draft: &Path, path: &Path, text: &str) -> Result<File> {
    if text.len() as u64 > MAX_LENGTH {
        let why = format!("{} bytes for {}, more than the {MAX_LENGTH} that are read", text.len(), path.display());
        return Err(error(ErrorKind::Invalid, why));
    }
    let written = draft_of(place, draft, text);
    let named = written.and_then(|file| fs::rename(draft, path).map(|()| file));
    named.map_err(|answer| {
        // Best effort: whoever has the next turn would remove it too.
        let _ = fs::remove_file(draft);
        failed("write", path, answer)
    })
}

fn draft_of(place: &Place, draft: &Path, text: &str) -> io::Result<File> {
    // With the turn taken, nobody is writing one that was there.
    remove(draft)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(place.mode & 0o666).open(draft)?;
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
