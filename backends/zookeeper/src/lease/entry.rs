//! The node of one instance: created, replaced, written, checked and removed.

use std::sync::Arc;

use callboard_core::{Error, ErrorKind, Instance, Result, conflict, encode, holder};
use futures_util::future::BoxFuture;
use zookeeper_client as zk;

use super::claims::{Claim, Claims};
use super::incarnations::OtherIncarnations;
use super::node_state::{Mark, NodeState, may_have_taken_effect};
use crate::client::{Session, TRIES, fired};
use crate::error::{BACKEND, error, failed};
use crate::record::{self, Place};

/// The node of a claim, and its last known state.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) session: Arc<Session>,
    pub(super) place: Place,
    claim: Arc<Claim>,
    state: NodeState,
}

/// The result of a check.
pub(super) enum Checked {
    /// The node is there as it was left. The watch was set by the same request; when it fires, the node has to be
    /// checked again.
    Held(BoxFuture<'static, ()>),
    /// The claim is lost, for this reason.
    Lost(Error),
}

impl Entry {
    pub(super) fn new(session: Arc<Session>, claims: &Arc<Claims>, place: Place) -> Self {
        let claim = Arc::new(claims.claim(session.client.session_id().0, &place.path));
        Self { session, place, claim, state: NodeState::default() }
    }

    /// Whether the claim may have left anything.
    pub(super) fn is_nothing(&self) -> bool {
        self.state.is_nothing()
    }

    /// Creates the node, and the directories above it. A node that is there already is taken over, so that no set is
    /// without it: it belongs to another claim of this incarnation, or to an earlier session, whose end would remove
    /// it.
    pub(super) async fn put(&mut self, instance: &Instance, acl: &[zk::Acl]) -> Result<Mark> {
        let data = self.record(instance)?;
        let made = self.make(&data, acl).await;
        self.settle(&data, made).map_err(|answer| failed(format!("cannot make {}", self.place.path), answer))
    }

    /// Writes the node if it is still as this claim has left it.
    pub(super) async fn write(&mut self, instance: &Instance) -> Result<Mark> {
        let data = self.record(instance)?;
        let path = self.place.path.as_str();
        let Some(mark) = self.state.mark() else { return Err(error(ErrorKind::Lost, format!("{path} is not held"))) };
        self.state.sending(&data);
        let written = self.session.ask(self.session.client.set_data(path, &data, Some(mark.version))).await;
        self.settle(&data, written.and_then(|stat| same(mark, &stat)))
            .map_err(|answer| failed(format!("cannot write {}", self.place.path), answer))
    }

    fn record(&self, instance: &Instance) -> Result<Vec<u8>> {
        let data = encode(instance).into_bytes();
        record::check_size(self.session.limit, &self.place.path, &data).map(|()| data)
    }

    /// Notes the outcome of a write.
    fn settle(&mut self, data: &[u8], answer: Result<Mark, zk::Error>) -> Result<Mark, zk::Error> {
        match &answer {
            Ok(mark) => self.state.written(*mark),
            Err(answer) if may_have_taken_effect(answer) => {}
            Err(_) => self.state.refused(data),
        }
        answer
    }

    async fn make(&mut self, data: &[u8], acl: &[zk::Acl]) -> Result<Mark, zk::Error> {
        let ephemeral = zk::CreateMode::Ephemeral.with_acls(acl.into());
        self.state.sending(data);
        for _ in 0..TRIES {
            let Self { session, place, .. } = self;
            match session.ask(session.client.create(&place.path, data, &ephemeral)).await {
                Ok((stat, _)) => return Ok(Mark::of(&stat)),
                Err(zk::Error::NoNode) => session.make_directory(&place.directory, acl).await?,
                Err(zk::Error::NodeExists) => match self.take_over(data, &ephemeral).await {
                    // Another client has interfered.
                    Err(zk::Error::NoNode | zk::Error::BadVersion) => {}
                    taken => return taken,
                },
                Err(answer) => return Err(answer),
            }
        }
        Err(zk::Error::NodeExists)
    }

    async fn take_over(&mut self, data: &[u8], ephemeral: &zk::CreateOptions<'_>) -> Result<Mark, zk::Error> {
        let Self { session, place, state, .. } = self;
        let path = place.path.as_str();
        let stat = session.ask(session.client.check_stat(path)).await?.ok_or(zk::Error::NoNode)?;
        let there = Mark::of(&stat);
        state.found(there);
        if stat.ephemeral_owner != session.client.session_id().0 {
            return replace(session, path, there, data, ephemeral).await;
        }
        let written = session.ask(session.client.set_data(path, data, Some(there.version))).await?;
        same(there, &written)
    }

    /// Checks the node and the nodes of other incarnations.
    pub(super) async fn check(&mut self) -> Result<Checked, zk::Error> {
        let Self { session, place, state, .. } = self;
        let (stat, watcher) = session.ask(session.client.check_and_watch_stat(&place.path)).await?;
        let watch = fired(watcher);
        let others = match OtherIncarnations::of(session, place).await {
            Err(answer @ zk::Error::NoAuth) => {
                let path = &place.directory;
                tracing::warn!(path, %answer, "the service may not be listed, so a newer incarnation goes unnoticed");
                OtherIncarnations::default()
            }
            others => others?,
        };
        if let Some(conflict) = others.conflict(session, place).await? {
            return Ok(Checked::Lost(conflict));
        }
        let why = match stat {
            Some(stat) if state.mark() == Some(Mark::of(&stat)) => None,
            Some(_) => self.changed().await?,
            None => Some(self.lost("is gone: somebody removed it, or its session has expired")),
        };
        Ok(why.map_or(Checked::Held(watch), Checked::Lost))
    }

    /// Why a node that is not as it was is lost. None if this claim has changed it, by a write whose answer has not
    /// come.
    async fn changed(&mut self) -> Result<Option<Error>, zk::Error> {
        let Self { session, place, state, claim } = self;
        let (data, stat) = match session.ask(session.client.get_data(&place.path)).await {
            Err(zk::Error::NoNode) => return Ok(Some(self.lost("is gone: it was replaced, and removed"))),
            Err(zk::Error::NoAuth) => return Ok(Some(self.lost("was replaced or written, and may not be read"))),
            read => read?,
        };
        let ours = stat.ephemeral_owner == session.client.session_id().0 && claim.is_latest();
        if ours && state.is_unconfirmed(Mark::of(&stat), &data) {
            state.written(Mark::of(&stat));
            return Ok(None);
        }
        let claimed = !ours && stat.ephemeral_owner != 0;
        let rival = holder(&place.id, &data).filter(|_| claimed);
        Ok(Some(match rival {
            // The node is of this incarnation, whatever the record says.
            Some(there) => conflict(place.incarnation, &there.with_incarnation(place.incarnation)).in_backend(BACKEND),
            None => self.lost("was replaced or written by somebody else"),
        }))
    }

    fn lost(&self, why: &str) -> Error {
        error(ErrorKind::Lost, format!("{} {why}", self.place.path))
    }

    /// Removes the node if it is certainly this claim's. Any change between the check and the removal gives the node
    /// another version, so that the removal fails.
    pub(super) async fn remove(&self) -> Result<(), zk::Error> {
        let Self { session, place, .. } = self;
        for _ in 0..TRIES {
            let Some(stat) = session.ask(session.client.check_stat(&place.path)).await? else { return Ok(()) };
            if !self.owns(&stat).await? {
                return Ok(());
            }
            match session.ask(session.client.delete(&place.path, Some(stat.version))).await {
                Err(zk::Error::NoNode) => return Ok(()),
                Err(zk::Error::BadVersion) => {}
                deleted => return deleted,
            }
        }
        Err(zk::Error::BadVersion)
    }

    async fn owns(&self, stat: &zk::Stat) -> Result<bool, zk::Error> {
        let Self { session, place, state, claim } = self;
        let mark = Mark::of(stat);
        if state.mark() == Some(mark) {
            return Ok(true);
        }
        // The nodes of a session are made by its claims alone. What a later claim may have made or written is not ours.
        if stat.ephemeral_owner != session.client.session_id().0 || !claim.is_latest() {
            return Ok(false);
        }
        if state.made(mark) {
            return Ok(true);
        }
        match session.ask(session.client.get_data(&place.path)).await {
            Ok((data, read)) => Ok(Mark::of(&read) == mark && state.is_unconfirmed(mark, &data)),
            Err(zk::Error::NoNode) => Ok(false),
            Err(answer) => Err(answer),
        }
    }
}

/// The node since it was written, if it is the intended one.
fn same(meant: Mark, written: &zk::Stat) -> Result<Mark, zk::Error> {
    if written.czxid == meant.made { Ok(Mark::of(written)) } else { Err(zk::Error::BadVersion) }
}

/// Replaces another session's node in one transaction. The new node begins with another version than any of the last
/// three, so that a write or a removal that is still on its way to one of those cannot apply to it.
async fn replace(
    session: &Session,
    path: &str,
    there: Mark,
    data: &[u8],
    ephemeral: &zk::CreateOptions<'_>,
) -> Result<Mark, zk::Error> {
    let mut transaction = session.client.new_multi_writer();
    transaction.add_delete(path, Some(there.version))?;
    transaction.add_create(path, b"", ephemeral)?;
    for _ in 0..there.version.rem_euclid(3) {
        transaction.add_set_data(path, b"", None)?;
    }
    transaction.add_set_data(path, data, None)?;
    let committed = transaction.commit();
    let done = session.ask(async { committed.await.map_err(zk::Error::from) }).await?;
    match done.last() {
        Some(zk::MultiWriteResult::SetData { stat }) => Ok(Mark::of(stat)),
        _ => Err(zk::Error::UnexpectedError("a transaction without its last result".to_owned())),
    }
}
