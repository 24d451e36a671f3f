//! The claim on one entry.

use std::sync::Arc;

use async_trait::async_trait;
use callboard_core::{Error, ErrorKind, Instance, Lease, Result};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::consul::{Inner, at};
use crate::entry::Registration;
use crate::keeper::Claim;

/// An entry, and the task that keeps it alive.
#[derive(Debug)]
pub(crate) struct ConsulLease {
    consul: Arc<Inner>,
    claim: Arc<Claim>,
    /// None as long as the entry is kept.
    lost: watch::Receiver<Option<Error>>,
    keeper: JoinHandle<()>,
    /// Its end tells the keeper that the lease was dropped.
    _owner: oneshot::Sender<()>,
}

impl ConsulLease {
    /// Begins to keep what has been registered. `since` is a moment before that.
    pub(crate) fn begin(consul: Arc<Inner>, claim: Claim, since: Instant) -> Self {
        let claim = Arc::new(claim);
        let (report, lost) = watch::channel(None);
        let (owner, dropped) = oneshot::channel::<()>();
        let keeper = tokio::spawn({
            let (consul, claim) = (Arc::clone(&consul), Arc::clone(&claim));
            async move {
                let wake = Notify::new();
                tokio::select! {
                    _ = dropped => farewell(&consul, &claim).await,
                    error = claim.keep(&consul.agent, since, &wake) => drop(report.send(Some(at(&claim.service)(error)))),
                    () = consul.guards.watch_over(&consul.agent, &claim.entry, &wake) => {}
                }
            }
        });
        Self { consul, claim, lost, keeper, _owner: owner }
    }

    async fn try_update(&self, instance: &Instance) -> Result<()> {
        let Inner { agent, tags, checks, entries, .. } = &*self.consul;
        let mut registration = Registration::new(&self.claim.service, instance, tags, checks, &self.claim.token)?;
        if registration.id != self.claim.entry {
            return Err(Error::invalid(format!("instance id {:?}: the claim is on another", instance.id())));
        }
        let _turn = entries.turn(&self.claim.entry).await;
        self.claim.audit(agent).await?;
        // With all its checks, so that the entry has an end even if somebody has removed it meanwhile. Whether the server
        // serves is not known then.
        registration.grpc_begins("critical");
        agent.register(&registration).await
    }

    async fn try_revoke(&self) -> Result<()> {
        let Inner { agent, entries, .. } = &*self.consul;
        let mut turn = entries.turn(&self.claim.entry).await;
        match agent.held(&self.claim.entry).await? {
            Some(held) if self.claim.has_registered(&held) => agent.deregister(&self.claim.entry).await?,
            Some(_) => return Ok(()),
            None => {}
        }
        turn.remove(&self.claim.entry);
        Ok(())
    }
}

/// When a lease is dropped the time to live ends its entry. Where there is none, the entry would outlive its lease, so
/// it is removed.
async fn farewell(consul: &Inner, claim: &Claim) {
    if claim.ttl_check.is_some() {
        return;
    }
    let _turn = consul.entries.turn(&claim.entry).await;
    if claim.audit(&consul.agent).await.is_err() {
        return;
    }
    if let Err(error) = consul.agent.deregister(&claim.entry).await {
        let error = error.chain();
        tracing::warn!(
            backend = "consul",
            entry = claim.entry,
            error,
            "the entry of a dropped lease could not be removed"
        );
    }
}

#[async_trait]
impl Lease for ConsulLease {
    async fn lost(&mut self) -> Error {
        match self.lost.wait_for(Option::is_some).await {
            Ok(error) => error.clone(),
            Err(_) => None,
        }
        .unwrap_or_else(|| {
            at(&self.claim.service)(Error::new(ErrorKind::Lost, "the task that keeps the entry has ended"))
        })
    }

    async fn update(&mut self, instance: &Instance) -> Result<()> {
        self.try_update(instance).await.map_err(at(&self.claim.service))
    }

    async fn revoke(self: Box<Self>) -> Result<()> {
        self.keeper.abort();
        self.try_revoke().await.map_err(at(&self.claim.service))
    }
}
