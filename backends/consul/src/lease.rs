//! Registering, and the lease on one entry.

mod claim;
mod entry_locks;
mod entry_watch;
mod keepalive;

use std::sync::Arc;

use async_trait::async_trait;
use callboard_core::{Error, ErrorKind, Instance, Lease, Result, ServiceName};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::claim::Claim;
use self::entry_locks::EntryLocks;
use self::entry_watch::EntryWatches;
use crate::client::Agent;
use crate::error::{BACKEND, at};
use crate::record::{Checks, Entry, Tags};

/// What all leases of one client share.
#[derive(Debug)]
pub(crate) struct Leases {
    agent: Arc<Agent>,
    pub(crate) tags: Tags,
    pub(crate) checks: Checks,
    locks: EntryLocks,
    watches: EntryWatches,
}

impl Leases {
    pub(crate) fn new(agent: Arc<Agent>, tags: Tags, checks: Checks) -> Self {
        Self { agent, tags, checks, locks: EntryLocks::new(), watches: EntryWatches::new() }
    }
}

/// Registers, unless a newer incarnation is there already that may be alive. One attempt.
pub(crate) async fn register(
    leases: &Arc<Leases>,
    service: &ServiceName,
    instance: &Instance,
) -> Result<Box<dyn Lease>> {
    let Leases { agent, tags, checks, locks, .. } = &**leases;
    let token = format!("{}-{:016x}", instance.incarnation(), fastrand::u64(..));
    let mut entry = Entry::new(service, instance, tags, checks, &token)?;
    let claim = Claim::new(service, instance, checks, token);
    let mut registered = locks.lock(&claim.entry).await;
    let there = agent.held(&claim.entry).await?;
    if let Some(there) = &there {
        claim.may_replace(there)?;
    }
    entry.grpc_begins(claim.grpc_status(there.as_ref(), &registered));
    let since = Instant::now();
    agent.register(&entry).await?;
    registered.insert(claim.entry.clone(), claim.incarnation);
    let held = agent.held(&claim.entry).await?;
    claim.remove_old_checks(agent, held.as_ref()).await?;
    drop(registered);
    Ok(Box::new(ConsulLease::begin(Arc::clone(leases), claim, since)))
}

/// An entry, and the task that keeps it alive.
#[derive(Debug)]
struct ConsulLease {
    leases: Arc<Leases>,
    claim: Arc<Claim>,
    /// None as long as the entry is kept.
    lost: watch::Receiver<Option<Error>>,
    task: JoinHandle<()>,
    /// Dropped with the lease, which tells the task.
    _owner: oneshot::Sender<()>,
}

impl ConsulLease {
    /// Begins to keep what has been registered. `since` is a moment before that.
    fn begin(leases: Arc<Leases>, claim: Claim, since: Instant) -> Self {
        let claim = Arc::new(claim);
        let (report, lost) = watch::channel(None);
        let (owner, dropped) = oneshot::channel::<()>();
        let task = tokio::spawn({
            let (leases, claim) = (Arc::clone(&leases), Arc::clone(&claim));
            async move {
                let wake = Notify::new();
                tokio::select! {
                    _ = dropped => remove_dropped(&leases, &claim).await,
                    error = claim.keep(&leases.agent, since, &wake) => drop(report.send(Some(at(&claim.service)(error)))),
                    () = leases.watches.run(&leases.agent, &claim.entry, &wake) => {}
                }
            }
        });
        Self { leases, claim, lost, task, _owner: owner }
    }

    async fn try_update(&self, instance: &Instance) -> Result<()> {
        let Leases { agent, tags, checks, locks, .. } = &*self.leases;
        let mut entry = Entry::new(&self.claim.service, instance, tags, checks, &self.claim.token)?;
        if entry.id != self.claim.entry {
            return Err(Error::invalid(format!("instance id {:?}: the claim is on another", instance.id())));
        }
        let _lock = locks.lock(&self.claim.entry).await;
        self.claim.audit(agent).await?;
        // With all its checks, so that the entry ends even if another tool has removed it meanwhile. A gRPC check that is
        // made anew then begins as critical, because it is not known whether the server serves.
        entry.grpc_begins("critical");
        agent.register(&entry).await
    }

    async fn try_revoke(&self) -> Result<()> {
        let Leases { agent, locks, .. } = &*self.leases;
        let mut registered = locks.lock(&self.claim.entry).await;
        match agent.held(&self.claim.entry).await? {
            Some(held) if self.claim.has_registered(&held) => agent.deregister(&self.claim.entry).await?,
            Some(_) => return Ok(()),
            None => {}
        }
        registered.remove(&self.claim.entry);
        Ok(())
    }
}

/// Removes the entry of a dropped lease, if it has no time to live, which would end it.
async fn remove_dropped(leases: &Leases, claim: &Claim) {
    if claim.ttl_check.is_some() {
        return;
    }
    let _lock = leases.locks.lock(&claim.entry).await;
    if claim.audit(&leases.agent).await.is_err() {
        return;
    }
    if let Err(error) = leases.agent.deregister(&claim.entry).await {
        let error = error.chain();
        tracing::warn!(
            backend = BACKEND,
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
        self.task.abort();
        self.try_revoke().await.map_err(at(&self.claim.service))
    }
}
