//! The server's side: the claim on one node.

mod claims;
mod entry;
mod incarnations;
mod node_state;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard_core::{Backoff, BackoffState, Error, ErrorKind, Instance, Lease, Result, ServiceName};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::Instrument;
use zookeeper_client as zk;

pub(crate) use self::claims::Claims;

use self::entry::{Checked, Entry};
use self::incarnations::OtherIncarnations;
use crate::client::Session;
use crate::error::{error, failed};
use crate::record::Place;

/// How often a node is checked without any other reason, in milliseconds: each minute, ±20 %.
const AUDIT: std::ops::Range<u64> = 48_000..72_000;

pub(crate) struct ZooKeeperLease {
    service: ServiceName,
    entry: Entry,
    /// What notices a change. None if the node has to be checked.
    guard: Option<Guard>,
    /// Whether an error was returned to the owner, or is about to be. It may then register again.
    failed: bool,
    revoked: bool,
}

struct Guard {
    watch: BoxFuture<'static, ()>,
    /// The connection on which the watch was set.
    round: u64,
    audit: Instant,
}

impl ZooKeeperLease {
    /// A claim on a node that is not there yet. From now on, dropping it removes the node if this claim has made it.
    pub(crate) fn new(session: Arc<Session>, claims: &Arc<Claims>, service: &ServiceName, place: Place) -> Self {
        let entry = Entry::new(session, claims, place);
        Self { service: service.clone(), entry, guard: None, failed: true, revoked: false }
    }

    /// Creates the node.
    pub(crate) async fn publish(&mut self, instance: &Instance, acl: &[zk::Acl]) -> Result<()> {
        self.make(instance, acl).await.map_err(|error| self.in_service(error))?;
        self.failed = false;
        Ok(())
    }

    /// It looks for newer incarnations first, so that an older one that waits for the newer one's end disturbs nothing.
    /// It looks again once the node is made: of two that are made at the same time, the second sees the first.
    async fn make(&mut self, instance: &Instance, acl: &[zk::Acl]) -> Result<()> {
        other_incarnations(&self.entry).await?;
        let mark = self.entry.put(instance, acl).await?;
        match other_incarnations(&self.entry).await {
            Ok(others) => others.displace(&self.entry.session, &self.entry.place, mark).await,
            Err(error) => {
                if error.kind() == ErrorKind::Conflict {
                    self.revoked = self.entry.remove().await.is_ok();
                }
                Err(error)
            }
        }
    }

    /// Checks the node, and sets a watch on it. Returns why the claim is lost, if it is.
    async fn check(&mut self) -> Result<Option<Error>, zk::Error> {
        let round = self.entry.session.round();
        let audit = Instant::now() + Duration::from_millis(fastrand::u64(AUDIT));
        match self.entry.check().await {
            Ok(Checked::Held(watch)) => {
                self.guard = Some(Guard { watch, round, audit });
                Ok(None)
            }
            Ok(Checked::Lost(why)) => Ok(Some(why)),
            Err(answer) if self.entry.session.is_over() => {
                let why = format!("the session that keeps {} is over", self.entry.place.path);
                Ok(Some(error(ErrorKind::Lost, why).with_source(answer)))
            }
            Err(answer) => Err(answer),
        }
    }

    /// Waits until the node has to be checked.
    ///
    /// Cancel-safe.
    async fn until_check_is_due(&mut self) {
        if let Some(guard) = &mut self.guard {
            tokio::select! {
                () = &mut guard.watch => {}
                () = self.entry.session.moved_on(guard.round) => {}
                () = sleep_until(guard.audit) => {}
            }
            self.guard = None;
        }
    }

    fn in_service(&self, error: Error) -> Error {
        error.for_service(&self.service)
    }
}

/// The other incarnations. Fails if one is newer.
async fn other_incarnations(entry: &Entry) -> Result<OtherIncarnations> {
    let Entry { session, place, .. } = entry;
    let failed = |answer| failed(format!("cannot list {}", place.directory), answer);
    let others = OtherIncarnations::of(session, place).await.map_err(failed)?;
    others.conflict(session, place).await.map_err(failed)?.map_or(Ok(others), Err)
}

#[async_trait]
impl Lease for ZooKeeperLease {
    async fn lost(&mut self) -> Error {
        let mut again = BackoffState::new(Backoff::REGISTRY);
        loop {
            self.until_check_is_due().await;
            match self.check().await {
                Ok(None) => again.succeeded(),
                Ok(Some(why)) => {
                    self.failed = true;
                    return self.in_service(why);
                }
                // A request without an answer is no loss. The session decides that: it comes back, or it is over.
                Err(answer) => {
                    tracing::debug!(path = self.entry.place.path, %answer, "an entry cannot be checked at the moment");
                    sleep(again.failed()).await;
                }
            }
        }
    }

    async fn update(&mut self, instance: &Instance) -> Result<()> {
        // If it is refused, the owner may drop the lease and register again.
        self.failed = true;
        match self.check().await {
            Ok(None) => {}
            Ok(Some(why)) => return Err(self.in_service(why)),
            Err(answer) => {
                return Err(self.in_service(failed(format!("cannot check {}", self.entry.place.path), answer)));
            }
        }
        self.entry.write(instance).await.map_err(|error| self.in_service(error))?;
        self.failed = false;
        Ok(())
    }

    async fn revoke(mut self: Box<Self>) -> Result<()> {
        let removed = self.entry.remove().await;
        self.revoked = removed.is_ok();
        removed.map_err(|answer| self.in_service(failed(format!("cannot remove {}", self.entry.place.path), answer)))
    }
}

/// Others may share the session, which does not end with this lease. So the node is removed explicitly.
impl Drop for ZooKeeperLease {
    fn drop(&mut self) {
        let session = &self.entry.session;
        if !self.revoked && !self.entry.is_nothing() && !session.is_over() {
            // An owner that drops the lease because something is wrong registers again, and takes over what is there.
            // To remove it before would make a gap. It is removed after the time to live instead.
            let wait = if self.failed { session.client.session_timeout() } else { Duration::ZERO };
            session.spawn(remove(self.entry.clone(), wait).in_current_span());
        }
    }
}

/// Removes a node that is not claimed any more, as soon as ZooKeeper can be reached. If the session ends first, the
/// node ends with it.
async fn remove(entry: Entry, wait: Duration) {
    let mut again = BackoffState::new(Backoff::REGISTRY);
    sleep(wait).await;
    while !entry.session.is_over() {
        match entry.remove().await {
            Ok(()) => return,
            Err(error @ zk::Error::NoAuth) => {
                let path = &entry.place.path;
                return tracing::warn!(path, %error, "an entry that is left behind cannot be removed");
            }
            Err(_) => sleep(again.failed()).await,
        }
    }
}

impl fmt::Debug for ZooKeeperLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let session = format_args!("{}", self.entry.session.client.session_id()).to_string();
        f.debug_struct("ZooKeeperLease")
            .field("path", &self.entry.place.path)
            .field("session", &session)
            .finish_non_exhaustive()
    }
}
