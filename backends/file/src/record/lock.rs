//! Locks of open files. The system frees one when its last descriptor is closed, however the process ends.
//!
//! A record is locked by its owner, exclusively, for as long as the owner lives. Other processes only ask whether it is,
//! by a shared lock that is held for an instant. So two that ask do not disturb each other, and an owner never has to lock
//! a file that others can see.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use callboard_core::{ErrorKind, Result};
use rustix::fs::{FlockOperation, flock};

use super::layout::{Identity, Layout};
use crate::error::{error, failed};

/// How long a change waits for other processes' changes in the same directory. Each takes less than a millisecond.
const LOCK_WAIT: Duration = Duration::from_secs(3);

/// Locks a file that no other process knows of yet.
pub(crate) fn hold(file: &File) -> io::Result<()> {
    Ok(flock(file, FlockOperation::NonBlockingLockExclusive)?)
}

/// Whether a record's owner lives.
pub(crate) fn is_held(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            flock(file, FlockOperation::Unlock)?;
            Ok(false)
        }
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(answer) => Err(answer.into()),
    }
}

/// The lock of a directory, held while something in it is changed. Other changes wait until it is dropped. Reading does
/// not take it.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _folder: File,
}

impl DirectoryLock {
    /// Waits for the lock, a few seconds at most.
    pub(crate) fn take(folder: &Path) -> Result<Self> {
        let give_up = Instant::now() + LOCK_WAIT;
        loop {
            let opened = File::open(folder).map_err(|answer| failed("open the directory", folder, answer))?;
            match hold(&opened) {
                // A directory that was moved or removed meanwhile is not the one that others change.
                Ok(()) if is_at(&opened, folder)? => return Ok(Self { _folder: opened }),
                Err(answer) if answer.kind() != io::ErrorKind::WouldBlock => {
                    return Err(failed("lock the directory", folder, answer));
                }
                _ => {}
            }
            if Instant::now() >= give_up {
                let message = format!("another process holds the lock of {} for longer than 3 s", folder.display());
                return Err(error(ErrorKind::Timeout, message));
            }
            sleep(Duration::from_millis(1));
        }
    }

    /// The lock for removing something. None if the service's directory is gone, with all that was in it. An error if the
    /// root is gone too, as that may come back.
    pub(crate) fn to_remove(layout: &Layout) -> Result<Option<Self>> {
        match Self::take(&layout.folder) {
            Err(_) if !layout.folder.exists() => layout.check_root().map(|()| None),
            lock => lock.map(Some),
        }
    }
}

/// Whether this is the file that has this name now.
pub(crate) fn is_at(file: &File, path: &Path) -> Result<bool> {
    let ours = file.metadata().map_err(|answer| failed("look at", path, answer))?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok(Identity::from(&there) == Identity::from(&ours)),
        Err(answer) if answer.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(answer) => Err(failed("look at", path, answer)),
    }
}
