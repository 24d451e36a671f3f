//! The one task that owns an announcement's claim.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::{AnnounceSettings, AnnouncementState};
use crate::{Error, ErrorKind, Instance, Lease, Registry, Result, Retry, Service};

/// Everything that happens to a claim happens here, one thing after the other. That is why there are never two claims
/// at once, and why nothing is announced after the owner has left.
pub(super) struct Task {
    registry: Arc<dyn Registry>,
    service: Service,
    attempt_timeout: Duration,
    retry: Retry,
    /// What the owner wants on the board. It ends when the owner leaves.
    wish: watch::Receiver<Instance>,
    state: watch::Sender<AnnouncementState>,
}

impl Task {
    pub(super) fn new(
        registry: Arc<dyn Registry>,
        service: Service,
        settings: AnnounceSettings,
        wish: watch::Receiver<Instance>,
        state: watch::Sender<AnnouncementState>,
    ) -> Self {
        let AnnounceSettings { attempt_timeout, backoff } = settings;
        Self { registry, service, attempt_timeout, retry: Retry::new(backoff), wish, state }
    }

    /// Ends when the owner has left and the claim is revoked, or when there is nothing left to claim.
    pub(super) async fn run(mut self) -> Result<()> {
        let outcome = self.supervise().await;
        self.note_end(outcome.as_ref().err());
        outcome
    }

    async fn supervise(&mut self) -> Result<()> {
        while !self.owner_left() {
            let error = match self.register().await {
                Err(error) => error,
                Ok(mut lease) => match self.hold(lease.as_mut()).await {
                    None => return self.bounded("revoke", lease.revoke()).await,
                    // The lease goes here, before there can be another.
                    Some(error) => error,
                },
            };
            if error.kind() == ErrorKind::Conflict {
                return Err(error);
            }
            let wait = self.retry.after(&error);
            self.note_failure(error, wait);
            tokio::select! {
                () = sleep(wait) => {}
                () = self.until_owner_left() => {}
            }
        }
        Ok(())
    }

    /// One attempt. It is not cut short when the owner leaves: what it registers has to be known to be revoked.
    async fn register(&mut self) -> Result<Box<dyn Lease>> {
        let instance = self.wish.borrow_and_update().clone();
        let lease = self.bounded("register", self.registry.register(&self.service, &instance)).await?;
        self.state.send_replace(AnnouncementState::OnBoard { since: Instant::now() });
        tracing::debug!(service = %self.service, instance = instance.id, "on the board");
        Ok(lease)
    }

    /// Keeps what is published as the owner wishes, until the claim is lost, for the reason returned, or the owner
    /// leaves.
    async fn hold(&mut self, lease: &mut dyn Lease) -> Option<Error> {
        let since = Instant::now();
        let error = loop {
            tokio::select! {
                biased;
                _ = self.wish.changed() => {
                    if self.owner_left() {
                        return None;
                    }
                    let instance = self.wish.borrow_and_update().clone();
                    if let Err(error) = self.bounded("update", lease.update(&instance)).await {
                        break error;
                    }
                    tracing::debug!(service = %self.service, instance = instance.id, "entry updated");
                }
                error = lease.lost() => break error,
            }
        };
        self.retry.lasted(since.elapsed());
        Some(error)
    }

    fn owner_left(&self) -> bool {
        self.wish.has_changed().is_err()
    }

    async fn until_owner_left(&mut self) {
        // The next attempt reads the latest wish, whether or not it was marked as seen here.
        while self.wish.changed().await.is_ok() {}
    }

    async fn bounded<T>(&self, what: &str, attempt: impl Future<Output = Result<T>>) -> Result<T> {
        let bound = self.attempt_timeout;
        timeout(bound, attempt).await.unwrap_or_else(|_| {
            let message = format!("{what}: no answer within {bound:?}");
            Err(Error::new(ErrorKind::Timeout, message).for_service(&self.service))
        })
    }

    /// Warns of the first failure and of each loss; what follows until the instance is on the board is detail.
    fn note_failure(&self, error: Error, retry_in: Duration) {
        let (service, instance, chain) = (&self.service, &self.wish.borrow().id, error.chain());
        self.state.send_modify(|state| {
            *state = match state {
                AnnouncementState::OnBoard { .. } => {
                    tracing::warn!(%service, instance, error = chain, ?retry_in, "lost its place on the board");
                    AnnouncementState::Lost { since: Instant::now(), error }
                }
                AnnouncementState::SigningIn { failures: 0, .. } => {
                    tracing::warn!(%service, instance, error = chain, ?retry_in, "cannot sign in");
                    AnnouncementState::SigningIn { failures: 1, error: Some(error) }
                }
                AnnouncementState::SigningIn { failures, .. } => {
                    tracing::debug!(%service, instance, error = chain, ?retry_in, "still cannot sign in");
                    AnnouncementState::SigningIn { failures: failures.saturating_add(1), error: Some(error) }
                }
                AnnouncementState::Lost { since, .. } => {
                    tracing::debug!(%service, instance, error = chain, ?retry_in, "still lost");
                    AnnouncementState::Lost { since: *since, error }
                }
                AnnouncementState::Left { .. } => return,
            }
        });
    }

    fn note_end(&self, error: Option<&Error>) {
        let (service, instance) = (&self.service, &self.wish.borrow().id);
        match error {
            None => tracing::debug!(%service, instance, "left the board"),
            Some(error) => tracing::warn!(%service, instance, error = error.chain(), "off the board for good"),
        }
        self.state.send_replace(AnnouncementState::Left { error: error.cloned() });
    }
}

/// A backend that panics, or a runtime that shuts down, must not leave a state behind that says "on the board".
impl Drop for Task {
    fn drop(&mut self) {
        if !matches!(*self.state.borrow(), AnnouncementState::Left { .. }) {
            self.note_end(Some(&ended().for_service(&self.service)));
        }
    }
}

/// The error of an announcement whose task did not run to its end.
pub(super) fn ended() -> Error {
    Error::new(ErrorKind::Closed, "the announcing task was ended by a panic or by the end of its runtime")
}
