//! The server's side: an entry that lives as long as its file is open.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard_core::{Error, ErrorKind, Incarnation, Instance, Lease, Result, Service, decode};
use tokio::time::{Instant, sleep_until};

use crate::failure::{blocking, error, failed};
use crate::lock::{Turn, is_at};
use crate::place::Place;
use crate::record::{Found, look, remove, write};
use crate::sweep::sweep;

/// The claim on one file.
#[derive(Debug)]
pub(crate) struct FileLease {
    service: Service,
    claim: Claim,
    /// Its lock is what tells others that the owner lives.
    file: Arc<File>,
    poll: Duration,
    /// When to look next whether it is there.
    next: Instant,
}

/// Whose claim it is.
#[derive(Clone, Debug)]
struct Claim {
    place: Place,
    id: String,
    incarnation: Incarnation,
}

/// Puts an instance's file there, if no newer one is.
pub(crate) async fn register(
    place: Place,
    service: &Service,
    instance: &Instance,
    poll: Duration,
) -> Result<FileLease> {
    let claim = Claim { place, id: instance.id.clone(), incarnation: instance.incarnation };
    let (taken, instance) = (claim.clone(), instance.clone());
    // If this is dropped half-way, so is the file that the work returns, and its lock is free.
    let file = blocking(move || taken.take(&instance)).await?;
    Ok(FileLease { service: service.clone(), claim, file: Arc::new(file), poll, next: Instant::now() + poll })
}

impl Claim {
    fn take(&self, instance: &Instance) -> Result<File> {
        let place = &self.place;
        place.make()?;
        place.check()?;
        sweep(place)?;
        let _turn = Turn::take(&place.folder)?;
        match look(&place.record(&self.id))? {
            Some(there) if self.is_newer(&there) => Err(conflict()),
            _ => write(place, instance),
        }
    }

    fn is_newer(&self, there: &Found) -> bool {
        let decoded = there.stored.as_ref().ok().and_then(|stored| decode(stored).ok());
        there.held && decoded.is_some_and(|there| there.incarnation > self.incarnation)
    }

    /// The file is where it was put.
    fn check(&self, file: &File) -> Result<()> {
        let path = self.place.record(&self.id);
        if is_at(file, &path)? {
            return Ok(());
        }
        Err(match look(&path)? {
            Some(there) if self.is_newer(&there) => conflict(),
            Some(_) => error(ErrorKind::Lost, format!("{} was replaced", path.display())),
            None => error(ErrorKind::Lost, format!("{} is gone", path.display())),
        })
    }

    fn update(&self, file: &File, instance: &Instance) -> Result<File> {
        let _turn = Turn::take(&self.place.folder)?;
        self.check(file)?;
        write(&self.place, instance)
    }

    fn revoke(&self, file: &File) -> Result<()> {
        let Self { place, id, .. } = self;
        let path = place.record(id);
        let Some(_turn) = Turn::to_remove(place)? else { return Ok(()) };
        if !is_at(file, &path)? {
            return place.check_root();
        }
        remove(&path).map_err(|answer| failed("remove", &path, answer))
    }
}

fn conflict() -> Error {
    error(ErrorKind::Conflict, "a newer incarnation is on the board")
}

impl FileLease {
    async fn with_file<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Claim, &File) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (claim, file) = (self.claim.clone(), Arc::clone(&self.file));
        blocking(move || work(&claim, &file)).await.map_err(|error| error.for_service(&self.service))
    }
}

#[async_trait]
impl Lease for FileLease {
    async fn lost(&mut self) -> Error {
        loop {
            sleep_until(self.next).await;
            // Only afterwards is the next look put off, so that one that was cut short is made up for.
            if let Err(error) = self.with_file(Claim::check).await {
                return lost(error);
            }
            self.next = Instant::now() + self.poll;
        }
    }

    async fn update(&mut self, instance: &Instance) -> Result<()> {
        let instance = instance.clone();
        let file = self.with_file(move |claim, file| claim.update(file, &instance)).await?;
        // The old one is let go of after the new one has taken its name.
        self.file = Arc::new(file);
        Ok(())
    }

    async fn revoke(self: Box<Self>) -> Result<()> {
        self.with_file(Claim::revoke).await
    }
}

/// Whoever cannot see its own file does not know that it is there.
fn lost(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Lost | ErrorKind::Conflict => error,
        _ => {
            let service = error.service().cloned();
            let lost = crate::failure::error(ErrorKind::Lost, "the entry cannot be looked at").with_source(error);
            service.iter().fold(lost, Error::for_service)
        }
    }
}
