//! The one task that owns a registration's claim.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::RegistrationSettings;
use super::report::Report;
use crate::{BackoffState, Error, ErrorKind, Incarnation, Instance, Lease, Registry, Result, ServiceName, later};

/// Everything that happens to a claim happens here, one thing after the other. That is why there are never two claims
/// at once, and why nothing is registered after the owner has deregistered it.
pub(super) struct Task {
    registry: Arc<dyn Registry>,
    service: ServiceName,
    settings: RegistrationSettings,
    retry: BackoffState,
    /// What the owner wants to be registered. It ends when the owner deregisters.
    wish: watch::Receiver<Instance>,
    /// The incarnation to register with. It is the instance's own until another claim of the same one has come.
    incarnation: Incarnation,
    /// The record that the registry accepted last.
    taken: Option<Instance>,
    /// Since when the id has belonged to another server.
    conflict: Option<Instant>,
    report: Report,
}

/// A claim, and why the record is not the one that the owner wants, if it is not.
type Held = (Box<dyn Lease>, Option<Error>);

impl Task {
    pub(super) fn new(
        registry: Arc<dyn Registry>,
        service: ServiceName,
        settings: RegistrationSettings,
        wish: watch::Receiver<Instance>,
        report: Report,
    ) -> Self {
        let (retry, incarnation) = (BackoffState::new(settings.backoff.clone()), wish.borrow().incarnation());
        Self { registry, service, settings, retry, wish, incarnation, taken: None, conflict: None, report }
    }

    /// Ends when the owner has deregistered and the claim is revoked, or with the error that ends the registration.
    pub(super) async fn run(mut self) -> Result<()> {
        let outcome = self.supervise().await;
        self.report.deregistered(outcome.as_ref().err());
        outcome
    }

    async fn supervise(&mut self) -> Result<()> {
        while !self.owner_left() {
            let error = match self.register().await {
                Err(error) => error,
                Ok((mut lease, pending)) => match self.hold(lease.as_mut(), pending).await {
                    None => return self.bounded("revoke", lease.revoke()).await,
                    // The lease is dropped here, before there can be another.
                    Some(error) => error,
                },
            };
            if self.is_final(&error) {
                return Err(error);
            }
            let wait = self.retry.after(&error);
            self.report.failed(error, wait);
            tokio::select! {
                biased;
                () = sleep(wait) => {}
                () = self.until_owner_left() => {}
            }
        }
        Ok(())
    }

    /// One attempt. It is not cut short when the owner deregisters: what it has registered must be known to be revoked.
    ///
    /// If the registry refuses the wanted record and has accepted another one before, that one is registered.
    async fn register(&mut self) -> Result<Held> {
        let wished = self.wished();
        let held = match self.claim(&wished).await {
            Ok(lease) => (lease, None),
            Err(refused) => (self.claim_former(&wished, &refused).await?, Some(refused)),
        };
        self.conflict = None;
        self.report.registered(held.1.clone());
        Ok(held)
    }

    /// Registers the last record that was accepted, if the wanted one was refused and the owner has not deregistered.
    async fn claim_former(&mut self, wished: &Instance, refused: &Error) -> Result<Box<dyn Lease>> {
        let taken = self.taken.clone().map(|taken| taken.with_incarnation(self.incarnation));
        match taken.filter(|taken| is_refusal(refused) && taken != wished && !self.owner_left()) {
            // A conflict is reported rather than what is wrong with the wanted record.
            Some(taken) => {
                self.claim(&taken).await.map_err(|error| if is_loss(&error) { error } else { refused.clone() })
            }
            None => Err(refused.clone()),
        }
    }

    async fn claim(&mut self, instance: &Instance) -> Result<Box<dyn Lease>> {
        let lease = self.bounded("register", self.registry.register(&self.service, instance)).await?;
        self.taken = Some(instance.clone());
        Ok(lease)
    }

    /// Keeps the published record as the owner wants it. Returns why the claim was lost, or None once the owner deregisters.
    /// `pending` is why the record is not the wanted one at the beginning.
    async fn hold(&mut self, lease: &mut dyn Lease, mut pending: Option<Error>) -> Option<Error> {
        let since = Instant::now();
        let mut changes = BackoffState::new(self.settings.backoff.clone());
        let error = loop {
            let again = pending.as_ref().map(|error| later(Instant::now(), changes.after(error)));
            tokio::select! {
                biased;
                _ = self.wish.changed() => {}
                () = sleep_until(again.unwrap_or(since)), if again.is_some() => {}
                error = lease.lost() => break error,
            }
            if self.owner_left() {
                return None;
            }
            pending = match self.change(lease).await {
                Ok(()) => {
                    changes.succeeded();
                    None
                }
                Err(error) if is_loss(&error) => break error,
                Err(error) => Some(error),
            };
            self.report.registered(pending.clone());
        };
        if error.kind() == ErrorKind::Conflict {
            // Another claim of the same incarnation came later, and stays.
            self.incarnation = self.incarnation.older();
        }
        self.retry.lasted(since.elapsed());
        Some(error)
    }

    async fn change(&mut self, lease: &mut dyn Lease) -> Result<()> {
        let instance = self.wished();
        self.bounded("update", lease.update(&instance)).await?;
        self.taken = Some(instance);
        Ok(())
    }

    /// The record that the owner wants, which is marked as seen.
    fn wished(&mut self) -> Instance {
        self.wish.borrow_and_update().clone().with_incarnation(self.incarnation)
    }

    /// Whether the id has belonged to another server for longer than the owner accepts.
    fn is_final(&mut self, error: &Error) -> bool {
        if error.kind() != ErrorKind::Conflict {
            // Who has the id now is not known.
            self.conflict = None;
            return false;
        }
        let since = *self.conflict.get_or_insert_with(Instant::now);
        self.settings.conflict_timeout.is_some_and(|timeout| since.elapsed() >= timeout)
    }

    fn owner_left(&self) -> bool {
        self.wish.has_changed().is_err()
    }

    async fn until_owner_left(&mut self) {
        // The next attempt reads the latest value, whether or not it was marked as seen here.
        while self.wish.changed().await.is_ok() {}
    }

    async fn bounded<T>(&self, what: &str, attempt: impl Future<Output = Result<T>>) -> Result<T> {
        let bound = self.settings.attempt_timeout;
        timeout(bound, attempt).await.unwrap_or_else(|_| {
            let message = format!("{what}: no answer within {bound:?}");
            Err(Error::new(ErrorKind::Timeout, message).for_service(&self.service))
        })
    }
}

/// Whether the claim is gone.
fn is_loss(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Lost | ErrorKind::Conflict)
}

/// Whether the registry would refuse the same record again.
fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::Unsupported)
}
