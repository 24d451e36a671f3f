//! The settings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use callboard_core::{Error, Result};

use crate::error::BACKEND;
use crate::registry::{FileRegistry, Settings};

impl FileRegistry {
    /// Begins to make one with its root: an absolute path of a directory that is there. A service `project/test` is
    /// the directory `project/test` in it, which is made when the first instance registers or a config is put. A
    /// root that is not there is a registry that is out of reach.
    ///
    /// ```
    /// let directory = callboard_file::FileRegistry::builder("/run/callboard").mode(0o750).build()?;
    /// # Ok::<(), callboard_core::Error>(())
    /// ```
    pub fn builder(root: impl Into<PathBuf>) -> FileRegistryBuilder {
        FileRegistryBuilder::new(root.into())
    }
}

/// What a [`FileRegistry`] is made with. See [`FileRegistry::builder`].
#[derive(Clone, Debug)]
pub struct FileRegistryBuilder {
    root: PathBuf,
    mode: u32,
    poll: Duration,
}

impl FileRegistryBuilder {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, mode: 0o755, poll: Duration::from_secs(1) }
    }

    /// Sets the permissions of directories that are made; what the process's umask takes away is not given. Files have
    /// the same, without those to execute. The owner must have all, and other users may not write. 0o755 by default;
    /// 0o2775 lets the members of a group share a directory.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Sets how often a watch reads the directory without having noticed a change, and a lease looks for its file: 50 ms to
    /// 1 min. 1 s by default.
    #[must_use]
    pub fn poll(mut self, poll: Duration) -> Self {
        self.poll = poll;
        self
    }

    /// Makes it, without I/O.
    ///
    /// # Errors
    /// [`Invalid`](callboard_core::ErrorKind::Invalid), with the reason, if the root is not an absolute path, or a
    /// setting is out of its range.
    pub fn build(self) -> Result<FileRegistry> {
        let Self { root, mode: permissions, poll: interval } = self;
        let refused = |what: String, why: &str| Error::invalid(format!("{what}: expected {why}")).in_backend(BACKEND);
        absolute(&root).map_err(|why| refused(format!("root {root:?}"), why))?;
        mode(permissions).map_err(|why| refused(format!("mode {permissions:#o}"), why))?;
        poll(interval).map_err(|why| refused(format!("poll {interval:?}"), why))?;
        Ok(FileRegistry::new(Settings { root, mode: permissions, poll: interval }))
    }
}

/// A relative one would be another directory in each process.
pub(crate) fn absolute(root: &Path) -> Result<(), &'static str> {
    root.is_absolute().then_some(()).ok_or("an absolute path")
}

pub(crate) fn mode(mode: u32) -> Result<(), &'static str> {
    let fits = mode <= 0o7777 && mode & 0o700 == 0o700 && mode & 0o002 == 0;
    fits.then_some(()).ok_or("permissions such as 0755, all for the owner and no write permission for other users")
}

pub(crate) fn poll(poll: Duration) -> Result<(), &'static str> {
    let range = Duration::from_millis(50)..=Duration::from_secs(60);
    range.contains(&poll).then_some(()).ok_or("50ms to 1m")
}
