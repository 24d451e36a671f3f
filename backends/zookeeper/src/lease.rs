//! The claim on one node.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard_core::{Backoff, BackoffState, Error, ErrorKind, Instance, Lease, Result, ServiceName};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::Instrument;
use zookeeper_client as zk;

use crate::entry::{Entry, Seen};
use crate::failure::{error, failed};
use crate::layout::Place;
use crate::session::Session;
use crate::siblings::Siblings;

/// How often a node is looked at although nothing is said of it, in milliseconds: each minute, and a fifth more or less.
const AUDIT: std::ops::Range<u64> = 48_000..72_000;

pub(crate) struct ZooKeeperLease {
    service: ServiceName,
    entry: Entry,
    /// What would tell of a loss. None if the node has to be looked at.
    guard: Option<Guard>,
    /// Whether the owner has heard, or is about to, that something is wrong, and so may register again.
    troubled: bool,
    revoked: bool,
}

struct Guard {
    watch: BoxFuture<'static, ()>,
    /// The connection that the watch was armed on.
    round: u64,
    audit: Instant,
}

impl ZooKeeperLease {
    /// A claim on a node that is not there yet. From now on, dropping it removes the node if this claim has made it.
    pub(crate) fn new(session: Arc<Session>, service: &ServiceName, place: Place) -> Self {
        let entry = Entry::new(session, place);
        Self { service: service.clone(), entry, guard: None, troubled: true, revoked: false }
    }

    /// Makes the node.
    pub(crate) async fn publish(&mut self, instance: &Instance, acl: &[zk::Acl]) -> Result<()> {
        self.make(instance, acl).await.map_err(|error| self.about(error))?;
        self.troubled = false;
        Ok(())
    }

    /// It looks for newer incarnations before, so that one that waits for another's end disturbs nobody; and again when the
    /// node is made: of two that are made at once, the second sees the first.
    async fn make(&mut self, instance: &Instance, acl: &[zk::Acl]) -> Result<()> {
        siblings(&self.entry).await?;
        let mark = self.entry.put(instance, acl).await?;
        match siblings(&self.entry).await {
            Ok(siblings) => siblings.displace(&self.entry.session, &self.entry.place, mark).await,
            Err(error) => {
                if error.kind() == ErrorKind::Conflict {
                    self.revoked = self.entry.remove().await.is_ok();
                }
                Err(error)
            }
        }
    }

    /// Looks at the node, and arms what would tell of a change. What it returns is why the claim is lost, if it is.
    async fn look(&mut self) -> Result<Option<Error>, zk::Error> {
        let round = self.entry.session.round();
        let audit = Instant::now() + Duration::from_millis(fastrand::u64(AUDIT));
        match self.entry.look().await {
            Ok(Seen::Held(watch)) => {
                self.guard = Some(Guard { watch, round, audit });
                Ok(None)
            }
            Ok(Seen::Lost(why)) => Ok(Some(why)),
            Err(answer) if self.entry.session.is_over() => {
                let why = format!("the session that keeps {} is over", self.entry.place.path);
                Ok(Some(error(ErrorKind::Lost, why).with_source(answer)))
            }
            Err(answer) => Err(answer),
        }
    }

    /// Waits until the node has to be looked at.
    ///
    /// Cancel-safe.
    async fn doubted(&mut self) {
        if let Some(guard) = &mut self.guard {
            tokio::select! {
                () = &mut guard.watch => {}
                () = self.entry.session.moved_on(guard.round) => {}
                () = sleep_until(guard.audit) => {}
            }
            self.guard = None;
        }
    }

    fn about(&self, error: Error) -> Error {
        error.for_service(&self.service)
    }
}

/// The other incarnations, of which none is newer.
async fn siblings(entry: &Entry) -> Result<Siblings> {
    let Entry { session, place, .. } = entry;
    let failed = |answer| failed(format!("cannot list {}", place.directory), answer);
    let siblings = Siblings::of(session, place).await.map_err(failed)?;
    siblings.conflict(session, place).await.map_err(failed)?.map_or(Ok(siblings), Err)
}

#[async_trait]
impl Lease for ZooKeeperLease {
    async fn lost(&mut self) -> Error {
        let mut again = BackoffState::new(Backoff::REGISTRY);
        loop {
            self.doubted().await;
            match self.look().await {
                Ok(None) => again.succeeded(),
                Ok(Some(why)) => {
                    self.troubled = true;
                    return self.about(why);
                }
                // A question without an answer is no loss. The session decides: it comes back, or it is over.
                Err(answer) => {
                    tracing::debug!(path = self.entry.place.path, %answer, "an entry cannot be looked at");
                    sleep(again.failed()).await;
                }
            }
        }
    }

    async fn update(&mut self, instance: &Instance) -> Result<()> {
        // Who is refused may let go, and register again.
        self.troubled = true;
        match self.look().await {
            Ok(None) => {}
            Ok(Some(why)) => return Err(self.about(why)),
            Err(answer) => return Err(self.about(failed(format!("cannot look at {}", self.entry.place.path), answer))),
        }
        self.entry.write(instance).await.map_err(|error| self.about(error))?;
        self.troubled = false;
        Ok(())
    }

    async fn revoke(mut self: Box<Self>) -> Result<()> {
        let removed = self.entry.remove().await;
        self.revoked = removed.is_ok();
        removed.map_err(|answer| self.about(failed(format!("cannot remove {}", self.entry.place.path), answer)))
    }
}

/// Others may share the session, so that it does not end with this lease: the node is removed by hand.
impl Drop for ZooKeeperLease {
    fn drop(&mut self) {
        let session = &self.entry.session;
        if !self.revoked && !self.entry.is_nothing() && !session.is_over() {
            // Who lets go because something is wrong registers again, and takes over what is there: to remove it before
            // would make a gap. It ends by the time to live instead.
            let wait = if self.troubled { session.client.session_timeout() } else { Duration::ZERO };
            session.spawn(remove(self.entry.clone(), wait).in_current_span());
        }
    }
}

/// Removes a node that nobody claims any more, as soon as ZooKeeper can be asked. When the session is over, the node
/// ends with it.
async fn remove(entry: Entry, wait: Duration) {
    let mut again = BackoffState::new(Backoff::REGISTRY);
    sleep(wait).await;
    while !entry.session.is_over() {
        match entry.remove().await {
            Ok(()) => return,
            Err(error @ zk::Error::NoAuth) => {
                return tracing::warn!(path = entry.place.path, %error, "an entry that is left cannot be removed");
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
