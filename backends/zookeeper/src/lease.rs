//! The claim on one node.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard_core::{Error, ErrorKind, Instance, Lease, Result, Service};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::Instrument;
use zookeeper_client as zk;

use crate::entry::{self, Mark, Siblings};
use crate::failure::{error, failed};
use crate::layout::Place;
use crate::session::Session;

/// How often a node is looked at although nothing is said of it.
const AUDIT: Duration = Duration::from_secs(60);
/// Between two questions of which the first was not answered.
const AGAIN: Duration = Duration::from_secs(1);

pub(crate) struct ZooKeeperLease {
    session: Arc<Session>,
    service: Service,
    place: Place,
    /// The node, once it is known to be there.
    mark: Option<Mark>,
    /// What would tell of a loss. None if the node has to be looked at.
    guard: Option<Guard>,
    revoked: bool,
}

struct Guard {
    watch: BoxFuture<'static, ()>,
    /// The connection that the watch was armed on.
    round: u64,
    audit: Instant,
}

impl ZooKeeperLease {
    /// A claim on a node that is not there yet. From now on, dropping it removes the node if this session has made it.
    pub(crate) fn new(session: Arc<Session>, service: &Service, place: Place) -> Self {
        Self { session, service: service.clone(), place, mark: None, guard: None, revoked: false }
    }

    /// Makes the node. Only then it looks for others of the same instance: of two that are made at once, the second
    /// sees the first.
    pub(crate) async fn publish(&mut self, instance: &Instance, acl: &[zk::Acl]) -> Result<()> {
        self.make(instance, acl).await.map_err(|error| error.for_service(&self.service))
    }

    async fn make(&mut self, instance: &Instance, acl: &[zk::Acl]) -> Result<()> {
        let Self { session, place, .. } = self;
        self.mark = Some(entry::put(session, place, instance, acl).await?);
        let siblings = siblings(session, place).await?;
        match siblings.conflict(place) {
            None => siblings.displace(session, place).await,
            Some(conflict) => {
                let removed = entry::remove(session, place, self.mark).await;
                self.revoked = removed.is_ok();
                Err(conflict)
            }
        }
    }

    /// Looks at the node and at others of the same instance, and arms what would tell of a change. What it returns is
    /// why the claim is lost, if it is.
    async fn look(&mut self) -> Result<Option<Error>, zk::Error> {
        let Self { session, place, .. } = self;
        // Taken before the questions: what happens after is not missed.
        let (round, audit) = (session.round(), Instant::now() + AUDIT);
        let (seen, watch) = entry::look(session, place).await?;
        let siblings = Siblings::of(session, place).await?;
        let why = match (seen, self.mark) {
            _ if siblings.newest > Some(place.incarnation) => return Ok(siblings.conflict(place)),
            (seen, mark) if seen == mark => {
                self.guard = Some(Guard { watch, round, audit });
                return Ok(None);
            }
            (None, _) => "is gone: somebody removed it, or its session has expired",
            (Some(_), _) => "was replaced or written by somebody else",
        };
        Ok(Some(error(ErrorKind::Lost, format!("{} {why}", place.path))))
    }

    /// Waits until the node has to be looked at.
    ///
    /// Cancel-safe.
    async fn doubted(&mut self) {
        if let Some(guard) = &mut self.guard {
            tokio::select! {
                () = &mut guard.watch => {}
                () = self.session.moved_on(guard.round) => {}
                () = sleep_until(guard.audit) => {}
            }
            self.guard = None;
        }
    }

    fn about(&self, error: Error) -> Error {
        error.for_service(&self.service)
    }
}

async fn siblings(session: &Session, place: &Place) -> Result<Siblings> {
    Siblings::of(session, place).await.map_err(|answer| failed(format!("cannot list {}", place.directory), answer))
}

#[async_trait]
impl Lease for ZooKeeperLease {
    async fn lost(&mut self) -> Error {
        loop {
            self.doubted().await;
            match self.look().await {
                Ok(None) => {}
                Ok(Some(why)) => return self.about(why),
                Err(answer) if self.session.is_over() => {
                    let why = format!("the session that keeps {} is over", self.place.path);
                    return self.about(error(ErrorKind::Lost, why).with_source(answer));
                }
                // A question without an answer is no loss. The session decides: it comes back, or it is over.
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    async fn update(&mut self, instance: &Instance) -> Result<()> {
        let looked = self.look().await;
        let known = match (looked, self.mark) {
            (Ok(None), Some(mark)) => mark,
            (Ok(why), _) => return Err(self.about(why.unwrap_or_else(|| error(ErrorKind::Lost, "not on the board")))),
            (Err(answer), _) => return Err(self.about(failed(format!("cannot look at {}", self.place.path), answer))),
        };
        let written = entry::write(&self.session, &self.place, known, instance).await;
        self.mark = Some(written.map_err(|error| self.about(error))?);
        Ok(())
    }

    async fn revoke(mut self: Box<Self>) -> Result<()> {
        let removed = entry::remove(&self.session, &self.place, self.mark).await;
        self.revoked = removed.is_ok();
        removed.map_err(|answer| self.about(failed(format!("cannot remove {}", self.place.path), answer)))
    }
}

/// Others may share the session, so that it does not end with this lease: the node is removed by hand.
impl Drop for ZooKeeperLease {
    fn drop(&mut self) {
        if !self.revoked && !self.session.is_over() {
            let (session, place, mark) = (Arc::clone(&self.session), self.place.clone(), self.mark);
            self.session.spawn(remove(session, place, mark).in_current_span());
        }
    }
}

/// Removes a node that nobody claims any more, as soon as ZooKeeper can be asked. When the session is over, the node
/// ends with it.
async fn remove(session: Arc<Session>, place: Place, mark: Option<Mark>) {
    while !session.is_over() {
        match entry::remove(&session, &place, mark).await {
            Ok(()) => return,
            Err(error @ zk::Error::NoAuth) => {
                return tracing::warn!(path = place.path, %error, "an entry that is left cannot be removed");
            }
            Err(_) => sleep(AGAIN).await,
        }
    }
}

impl fmt::Debug for ZooKeeperLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let session = format_args!("{}", self.session.client.session_id()).to_string();
        f.debug_struct("ZooKeeperLease")
            .field("path", &self.place.path)
            .field("session", &session)
            .finish_non_exhaustive()
    }
}
