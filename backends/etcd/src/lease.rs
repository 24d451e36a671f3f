//! The server's side: an entry that lives as long as its lease.

mod claim;
mod entry_watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard_core::{Error, ErrorKind, Instance, Lease, Result, ServiceName};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join};
use tokio::time::Instant;

use self::claim::Claim;
use self::entry_watch::until_lost;
use crate::client::{Client, KeptAlive};
use crate::error::in_service;

/// The claim on one entry in etcd.
pub(crate) struct EtcdLease {
    client: Arc<Client>,
    service: ServiceName,
    claim: Claim,
    /// Keeps the lease alive; stops when this is dropped.
    kept_alive: KeptAlive,
    /// Resolves when the entry is lost. It is kept between calls, so that no loss is missed.
    entry_lost: BoxFuture<'static, Error>,
    lost: Option<Error>,
}

/// Registers an instance under a key. If this is dropped half-way, nothing keeps the lease alive, and etcd removes the
/// entry with it.
pub(crate) async fn register(
    client: &Arc<Client>,
    ttl: Duration,
    (service, key): (&ServiceName, String),
    instance: &Instance,
) -> Result<EtcdLease> {
    claim(client, ttl, (service, key), instance).await.map_err(|error| in_service(error, service))
}

async fn claim(
    client: &Arc<Client>,
    ttl: Duration,
    (service, key): (&ServiceName, String),
    instance: &Instance,
) -> Result<EtcdLease> {
    let incarnation = instance.incarnation();
    // Both at the same time, as the entry can most often be had.
    let ((there, _), (lease, ttl, requested)) = try_join(client.read(&key), grant(client, ttl)).await?;
    let claim = Claim { key, id: instance.id().to_owned(), lease, incarnation };
    let since = match claim.take(client, instance, there).await {
        Ok(since) => since,
        Err(error) => {
            // If the lease cannot be ended now, it ends after its time to live.
            let _ = end(client, lease).await;
            return Err(error);
        }
    };
    let kept_alive = client.keep_alive(lease, ttl, requested);
    let entry_lost = until_lost(Arc::clone(client), claim.clone(), since).boxed();
    Ok(EtcdLease { client: Arc::clone(client), service: service.clone(), claim, kept_alive, entry_lost, lost: None })
}

/// A new lease: its id, its time to live, and the earliest moment from which that counts. If an answer is lost, a lease
/// without an entry is left, which ends by itself.
async fn grant(client: &Client, ttl: Duration) -> Result<(i64, Duration, Instant)> {
    let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
    let grant = |etcd: &etcd_client::Client| {
        let mut leases = etcd.lease_client();
        async move {
            let requested = Instant::now();
            leases.grant(seconds, None).await.map(|granted| (granted.id(), granted.ttl(), requested))
        }
    };
    let (id, seconds, requested) = client.call("get a lease", grant).await?;
    Ok((id, Duration::from_secs(seconds.unsigned_abs()), requested))
}

/// Ends a lease, with the entry that is attached to it. One that has ended is no error.
async fn end(client: &Client, lease: i64) -> Result<()> {
    let revoke = |etcd: &etcd_client::Client| {
        let mut leases = etcd.lease_client();
        async move { leases.revoke(lease).await }
    };
    match client.call("end the lease", revoke).await {
        Err(error) if error.kind() != ErrorKind::Lost => Err(error),
        _ => Ok(()),
    }
}

#[async_trait]
impl Lease for EtcdLease {
    async fn lost(&mut self) -> Error {
        if self.lost.is_none() {
            // The lease comes first: if its runtime has ended, the other future must not be polled.
            let error = tokio::select! {
                biased;
                error = self.kept_alive.ended() => error,
                error = &mut self.entry_lost => error,
            };
            self.lost = Some(in_service(error, &self.service));
        }
        self.lost.clone().expect("just set, if it was not")
    }

    async fn update(&mut self, instance: &Instance) -> Result<()> {
        let Self { client, service, claim, .. } = self;
        claim.update(client, instance).await.map_err(|error| in_service(error, service))
    }

    /// etcd removes with a lease the entries that are attached to it, all at once. An entry that another lease has
    /// taken over stays.
    async fn revoke(self: Box<Self>) -> Result<()> {
        let Self { client, service, claim, kept_alive, entry_lost, lost: _ } = *self;
        drop((kept_alive, entry_lost));
        end(&client, claim.lease).await.map_err(|error| in_service(error, &service))
    }
}

impl fmt::Debug for EtcdLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdLease").field("claim", &self.claim).finish_non_exhaustive()
    }
}
