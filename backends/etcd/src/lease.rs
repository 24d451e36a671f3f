//! The server's side: an entry that lives as long as its lease.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard_core::{Error, ErrorKind, Instance, Lease, Result, ServiceName};
use etcd_client::Client;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join};
use tokio::time::Instant;

use crate::connection::{Connection, ours};
use crate::entry::Claim;
use crate::guard::guard;
use crate::keeper::Beat;
use crate::list::read;

/// The claim on one entry in etcd.
pub(crate) struct EtcdLease {
    connection: Arc<Connection>,
    service: ServiceName,
    claim: Claim,
    /// Keeps the lease alive; stops when this is dropped.
    beat: Beat,
    /// Resolves when the entry is lost. It is kept between calls, so that no loss is missed.
    guard: BoxFuture<'static, Error>,
    lost: Option<Error>,
}

/// Registers an instance under a key. If this is dropped half-way, nothing keeps alive what may be there, and its lease
/// ends it.
pub(crate) async fn register(
    connection: &Arc<Connection>,
    ttl: Duration,
    (service, key): (&ServiceName, String),
    instance: &Instance,
) -> Result<EtcdLease> {
    let incarnation = instance.incarnation();
    // At the same time, as most often the entry can be had.
    let ((there, _), (lease, ttl, granted)) = try_join(read(connection, &key), grant(connection, ttl)).await?;
    let claim = Claim { key, id: instance.id().to_owned(), lease, incarnation };
    let since = match claim.take(connection, instance, there).await {
        Ok(since) => since,
        Err(error) => {
            // What cannot be said now of the lease that is not needed, its time to live will say.
            let _ = end(connection, lease).await;
            return Err(error);
        }
    };
    let beat = connection.here().keeper.keep(connection, lease, ttl, granted);
    let guard = guard(Arc::clone(connection), claim.clone(), since).boxed();
    Ok(EtcdLease { connection: Arc::clone(connection), service: service.clone(), claim, beat, guard, lost: None })
}

/// A new lease: its id, its time to live, and since when that counts at the earliest. If an answer is lost, so is a
/// lease without an entry, which ends by itself.
async fn grant(connection: &Connection, ttl: Duration) -> Result<(i64, Duration, Instant)> {
    let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
    let grant = |client: &Client| {
        let mut leases = client.lease_client();
        async move {
            let asked = Instant::now();
            leases.grant(seconds, None).await.map(|granted| (granted.id(), granted.ttl(), asked))
        }
    };
    let (id, seconds, asked) = connection.call("get a lease", grant).await?;
    Ok((id, Duration::from_secs(seconds.unsigned_abs()), asked))
}

/// Ends a lease, with the entry that is attached to it. One that has ended is no error.
async fn end(connection: &Connection, lease: i64) -> Result<()> {
    let revoke = |client: &Client| {
        let mut leases = client.lease_client();
        async move { leases.revoke(lease).await }
    };
    match connection.call("end the lease", revoke).await {
        Err(error) if error.kind() != ErrorKind::Lost => Err(error),
        _ => Ok(()),
    }
}

impl EtcdLease {
    fn in_place(&self, error: Error) -> Error {
        ours(error).for_service(&self.service)
    }
}

#[async_trait]
impl Lease for EtcdLease {
    async fn lost(&mut self) -> Error {
        if self.lost.is_none() {
            // First the lease: if its runtime has ended, nothing else may be asked.
            let error = tokio::select! {
                biased;
                error = self.beat.ended() => error,
                error = &mut self.guard => error,
            };
            self.lost = Some(self.in_place(error));
        }
        self.lost.clone().expect("just set, if it was not")
    }

    async fn update(&mut self, instance: &Instance) -> Result<()> {
        self.claim.update(&self.connection, instance).await.map_err(|error| self.in_place(error))
    }

    /// Etcd removes with a lease what is attached to it, all at once: an entry that another lease has taken over stays.
    async fn revoke(self: Box<Self>) -> Result<()> {
        let Self { connection, service, claim, beat, guard, lost: _ } = *self;
        drop((beat, guard));
        end(&connection, claim.lease).await.map_err(|error| ours(error).for_service(&service))
    }
}

impl fmt::Debug for EtcdLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdLease").field("claim", &self.claim).finish_non_exhaustive()
    }
}
