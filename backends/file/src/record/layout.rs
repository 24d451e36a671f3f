//! Where the files of a service are, how they are named, and who may write there.
//!
//! No name of a record, of the config or of a temporary file can be a segment of a service's name, as an `@` is in no
//! segment. So services may lie within one another.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use callboard_core::{CONFIG_NAME, ErrorKind, Result, ServiceName};

use crate::error::{error, failed};

/// Where the files of one service are.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// A directory that has to be there: without it, the registry is out of reach.
    pub(crate) root: PathBuf,
    /// The service's own directory, below the root.
    pub(crate) folder: PathBuf,
    /// Permissions of the directories that are made. A file has the same, without those to execute.
    pub(crate) mode: u32,
}

/// What tells one file from all others that exist, or that a process has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl From<&Metadata> for Identity {
    fn from(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

impl Layout {
    pub(crate) fn new(root: &Path, service: &ServiceName, mode: u32) -> Self {
        Self { root: root.to_owned(), folder: root.join(service.as_str()), mode }
    }

    /// The file of an instance.
    pub(crate) fn record(&self, id: &str) -> PathBuf {
        self.folder.join(format!("@{id}.json"))
    }

    /// The file of the service's config. Its name does not end as a record's does.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.join(CONFIG_NAME)
    }

    /// The file that is written and then gets the record's name. The config's draft has a name that is no id.
    pub(crate) fn draft(&self, id: &str) -> PathBuf {
        self.folder.join(format!("@{id}.tmp"))
    }

    /// The root, and each directory below it down to the service's.
    fn steps(&self) -> impl Iterator<Item = PathBuf> {
        let below = self.folder.strip_prefix(&self.root).unwrap_or(&self.folder);
        let deeper = |path: &mut PathBuf, name| {
            path.push(name);
            Some(path.clone())
        };
        std::iter::once(self.root.clone()).chain(below.iter().scan(self.root.clone(), deeper))
    }

    /// Makes the directories that are not there, except the root, which its owner sets up.
    pub(crate) fn make(&self) -> Result<()> {
        self.check_root()?;
        for step in self.steps().skip(1) {
            match self.make_one(&step) {
                Err(answer) if answer.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed("make the directory", &step, answer));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn make_one(&self, step: &Path) -> io::Result<()> {
        DirBuilder::new().mode(self.mode).create(step)?;
        // The system does not set these bits when it makes a directory. One of them gives its files its group.
        let special = self.mode & 0o7000;
        if special != 0 {
            let given = fs::metadata(step)?.mode() & 0o7777;
            fs::set_permissions(step, Permissions::from_mode(given | special))?;
        }
        Ok(())
    }

    /// Checks that the root is there, and is a directory.
    pub(crate) fn check_root(&self) -> Result<()> {
        let there = fs::metadata(&self.root).map_err(|answer| failed("reach the directory", &self.root, answer))?;
        directory(&self.root, &there)
    }

    /// Checks that not every user can register an address. Returns the last directory that is there: the service's own,
    /// or one above it.
    ///
    /// In a directory that every user can write to, and that has no sticky bit, every user can replace what is below. In
    /// the service's own directory a new file is enough.
    pub(crate) fn check(&self) -> Result<(PathBuf, Identity)> {
        self.check_root()?;
        let mut last = None;
        for step in self.steps() {
            let there = match fs::metadata(&step) {
                Err(answer) if answer.kind() == io::ErrorKind::NotFound => break,
                there => there.map_err(|answer| failed("look at", &step, answer))?,
            };
            directory(&step, &there)?;
            let (for_all, sticky) = (there.mode() & 0o002 != 0, there.mode() & 0o1000 != 0);
            if for_all && !(sticky && step != self.folder) {
                let why = "every user can write to it, and so register addresses: change that with `chmod o-w`";
                return Err(error(ErrorKind::Denied, format!("directory {}: {why}", step.display())));
            }
            last = Some((step, Identity::from(&there)));
        }
        let gone = || error(ErrorKind::Unavailable, format!("the directory {} is gone", self.root.display()));
        last.ok_or_else(gone)
    }
}

fn directory(path: &Path, there: &Metadata) -> Result<()> {
    if there.is_dir() {
        return Ok(());
    }
    Err(error(ErrorKind::Invalid, format!("{} is not a directory", path.display())))
}

/// The id that a file is named after, if it is named as a record is.
pub(crate) fn id(name: &str) -> Option<&str> {
    name.strip_prefix('@')?.strip_suffix(".json")
}

/// Whether a file is named as a draft, which is no record yet.
pub(crate) fn is_draft(name: &str) -> bool {
    name.starts_with('@') && name.ends_with(".tmp")
}

/// The names of all that is in a directory. A directory that is not there is empty.
pub(crate) fn names_in(folder: &Path) -> Result<Vec<String>> {
    let cannot_list = |answer| failed("list", folder, answer);
    let entries = match fs::read_dir(folder) {
        Err(answer) if answer.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(cannot_list)?,
    };
    entries.map(|entry| Ok(entry.map_err(cannot_list)?.file_name().to_string_lossy().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_name_says_what_it_is(service in "[A-Za-z0-9._-]{3,20}(/[A-Za-z0-9._-]{3,20}){0,3}",
                                     name in "[A-Za-z0-9._:\\[\\]-]{1,128}") {
            let service = ServiceName::new(service)?;
            let layout = Layout::new(Path::new("/run/callboard"), &service, 0o755);
            let (record, draft) = (layout.record(&name), layout.draft(&name));
            let (config, its_draft) = (layout.config(), layout.draft(CONFIG_NAME));
            let text = |path: &Path| path.file_name().expect("a name").to_str().expect("UTF-8").to_owned();
            prop_assert_eq!(record.parent(), Some(layout.folder.as_path()));
            prop_assert!(id(&text(&record)) == Some(name.as_str()) && !is_draft(&text(&record)));
            prop_assert!(id(&text(&draft)).is_none() && is_draft(&text(&draft)));
            prop_assert!(config != record && id(&text(&config)).is_none() && !is_draft(&text(&config)));
            prop_assert!(its_draft != draft && id(&text(&its_draft)).is_none() && is_draft(&text(&its_draft)));
            for segment in service.segments() {
                prop_assert!(id(segment).is_none() && !is_draft(segment), "a service within is no record");
                prop_assert!(segment != CONFIG_NAME);
            }
        }
    }

    #[test]
    fn the_steps_lead_from_the_root_to_the_service() {
        let service = ServiceName::new("project/test").expect("a name");
        let steps: Vec<_> = Layout::new(Path::new("/run"), &service, 0o755).steps().collect();
        assert_eq!(steps, ["/run", "/run/project", "/run/project/test"].map(PathBuf::from));
    }
}
