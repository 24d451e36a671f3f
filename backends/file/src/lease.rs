//! Registering, and the lease: an entry that lives as long as its file is open.

mod sweep;

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use callboard_core::{Error, ErrorKind, Incarnation, Instance, Lease, Result, ServiceName, conflict, holder};
use tokio::time::{Instant, sleep_until};

use self::sweep::sweep;
use crate::error::{BACKEND, blocking, error, failed};
use crate::record::{DirectoryLock, Found, Layout, is_at, look, remove, write};

/// The claim on one file.
#[derive(Debug)]
pub(crate) struct FileLease {
    service: ServiceName,
    claim: Claim,
    /// Its lock tells other processes that the owner lives. The work that replaces the file goes on when it is not awaited
    /// any more, so it puts the new file here by itself.
    file: Arc<Mutex<File>>,
    poll: Duration,
    /// When to look next whether it is there.
    next: Instant,
    /// Whether the last look at it failed.
    unseen: bool,
}

/// What a lease claims: the file of an instance.
#[derive(Clone, Debug)]
struct Claim {
    layout: Layout,
    id: String,
    incarnation: Incarnation,
}

/// Writes an instance's file, unless a newer incarnation has it. One attempt.
pub(crate) async fn register(
    layout: Layout,
    service: &ServiceName,
    instance: &Instance,
    poll: Duration,
) -> Result<FileLease> {
    let claim = Claim { layout, id: instance.id().to_owned(), incarnation: instance.incarnation() };
    let (taken, instance) = (claim.clone(), instance.clone());
    // If this is dropped half-way, the file that the work returns is dropped too, and its lock is free. Work that has not
    // begun to write by then does not write: another process may have written the file since.
    let waits = Arc::new(());
    let waiting = Arc::downgrade(&waits);
    let file = blocking(move || taken.take(&instance, &waiting)).await?;
    drop(waits);
    Ok(FileLease {
        service: service.clone(),
        claim,
        file: Arc::new(Mutex::new(file)),
        poll,
        next: Instant::now() + poll,
        unseen: false,
    })
}

impl Claim {
    /// Writes the file, if `waiting` says that it is still wanted.
    fn take(&self, instance: &Instance, waiting: &Weak<()>) -> Result<File> {
        self.check_instance(instance)?;
        let layout = &self.layout;
        layout.make()?;
        layout.check()?;
        sweep(layout)?;
        let _lock = DirectoryLock::take(&layout.folder)?;
        if waiting.strong_count() == 0 {
            return Err(error(ErrorKind::Closed, "the entry is not wanted any more"));
        }
        match look(&layout.record(&self.id))? {
            Some(there) => match self.other(&there, |there| there > self.incarnation) {
                Some(newer) => Err(newer),
                None => write(layout, instance),
            },
            None => write(layout, instance),
        }
    }

    /// The error that the entry is another's, if that one lives and is of an incarnation that stays.
    fn other(&self, there: &Found, stays: impl Fn(Incarnation) -> bool) -> Option<Error> {
        let holder = there.stored.as_ref().ok().and_then(|stored| holder(&self.id, stored));
        let other = holder.filter(|other| there.held && stays(other.incarnation()))?;
        Some(conflict(self.incarnation, &other).in_backend(BACKEND))
    }

    /// Checks that the file is where it was put.
    fn check(&self, file: &File) -> Result<()> {
        let path = self.layout.record(&self.id);
        if is_at(file, &path)? {
            return Ok(());
        }
        // A root that is away may come back, with the file in it.
        self.layout.check_root()?;
        Err(match look(&path)? {
            // Of two claims that are equal, the later one stays.
            Some(there) => self
                .other(&there, |there| there >= self.incarnation)
                .unwrap_or_else(|| error(ErrorKind::Lost, format!("{} was replaced", path.display()))),
            None => error(ErrorKind::Lost, format!("{} is gone", path.display())),
        })
    }

    /// The same, for a look from time to time. A file that cannot be looked at is held all the same, unless it was deleted.
    fn check_held(&self, file: &File) -> Result<()> {
        let looked = self.check(file);
        match looked {
            Err(unseen) if !is_loss(&unseen) && is_deleted(file) => {
                Err(error(ErrorKind::Lost, "the entry was deleted, and its layout cannot be looked at")
                    .with_source(unseen))
            }
            looked => looked,
        }
    }

    /// The id becomes a file's name, and stays what it was when the claim was made.
    fn check_instance(&self, instance: &Instance) -> Result<()> {
        if instance.id() == self.id {
            return Ok(());
        }
        Err(error(ErrorKind::Invalid, format!("instance id {:?}: the claim is on {:?}", instance.id(), self.id)))
    }

    fn update(&self, file: &mut File, instance: &Instance) -> Result<()> {
        self.check_instance(instance)?;
        let _lock = DirectoryLock::take(&self.layout.folder)?;
        self.check(file)?;
        // The old file is closed after the new one has its name.
        *file = write(&self.layout, instance)?;
        Ok(())
    }

    fn revoke(&self, file: &File) -> Result<()> {
        let Self { layout, id, .. } = self;
        let path = layout.record(id);
        let Some(_lock) = DirectoryLock::to_remove(layout)? else { return Ok(()) };
        if !is_at(file, &path)? {
            return layout.check_root();
        }
        remove(&path).map_err(|answer| failed("remove", &path, answer))
    }
}

impl FileLease {
    async fn with_file<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Claim, &mut File) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (claim, file) = (self.claim.clone(), Arc::clone(&self.file));
        let work = move || work(&claim, &mut file.lock().unwrap_or_else(PoisonError::into_inner));
        blocking(work).await.map_err(|error| error.for_service(&self.service))
    }

    /// Logs that the file cannot be looked at, and that it can again, once each.
    fn note(&mut self, error: Option<&Error>) {
        let (service, id) = (&self.service, &self.claim.id);
        match error {
            Some(error) if !self.unseen => {
                tracing::warn!(backend = BACKEND, %service, id, error = error.chain(), "the entry's file cannot be looked at; the entry is kept");
            }
            None if self.unseen => {
                tracing::debug!(backend = BACKEND, %service, id, "the entry's file can be looked at again");
            }
            _ => {}
        }
        self.unseen = error.is_some();
    }
}

#[async_trait]
impl Lease for FileLease {
    async fn lost(&mut self) -> Error {
        loop {
            sleep_until(self.next).await;
            // Set after the look, so that a look that was cancelled is made again at once.
            match self.with_file(|claim, file| claim.check_held(file)).await {
                Err(error) if is_loss(&error) => return error,
                looked => self.note(looked.err().as_ref()),
            }
            self.next = Instant::now() + self.poll;
        }
    }

    async fn update(&mut self, instance: &Instance) -> Result<()> {
        let instance = instance.clone();
        self.with_file(move |claim, file| claim.update(file, &instance)).await
    }

    async fn revoke(self: Box<Self>) -> Result<()> {
        self.with_file(|claim, file| claim.revoke(file)).await
    }
}

/// Whether the claim has ended.
fn is_loss(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Lost | ErrorKind::Conflict)
}

/// Whether it has no name any more, in whatever directory.
fn is_deleted(file: &File) -> bool {
    file.metadata().is_ok_and(|file| file.nlink() == 0)
}
