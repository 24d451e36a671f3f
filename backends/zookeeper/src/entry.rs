//! The node of one instance: made, replaced, written, looked at, removed.

use std::sync::Arc;

use callboard_core::{Error, ErrorKind, Instance, Result, conflict, encode, holder};
use futures_util::future::BoxFuture;
use zookeeper_client as zk;

use crate::board::fired;
use crate::claims::Claim;
use crate::failure::{BACKEND, error, failed};
use crate::known::{Known, Mark, is_doubtful};
use crate::layout::Place;
use crate::session::Session;
use crate::siblings::Siblings;
use crate::size;

/// How often somebody else may come between two steps before that is an error.
pub(crate) const TRIES: usize = 5;

/// The node that a claim is about, and what the claim knows of it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) session: Arc<Session>,
    pub(crate) place: Place,
    claim: Arc<Claim>,
    known: Known,
}

/// How a claim stands.
pub(crate) enum Seen {
    /// The node is there as it was left. The watch was armed with the look, and tells that it has to be looked at again.
    Held(BoxFuture<'static, ()>),
    /// It is not, for this reason.
    Lost(Error),
}

impl Entry {
    pub(crate) fn new(session: Arc<Session>, place: Place) -> Self {
        let claim = Arc::new(session.claims.claim(&place.path));
        Self { session, place, claim, known: Known::default() }
    }

    /// Whether the claim may have left anything.
    pub(crate) fn is_nothing(&self) -> bool {
        self.known.is_nothing()
    }

    /// Makes the node, and the directories above it. One that is there already is taken over, so that nobody sees a set
    /// without it: it belongs to another claim of this incarnation, or to an earlier session, whose end would take it away.
    pub(crate) async fn put(&mut self, instance: &Instance, acl: &[zk::Acl]) -> Result<Mark> {
        let data = self.record(instance)?;
        let made = self.make(&data, acl).await;
        self.settle(&data, made).map_err(|answer| failed(format!("cannot make {}", self.place.path), answer))
    }

    /// Writes the node, if it is still as this claim has left it.
    pub(crate) async fn write(&mut self, instance: &Instance) -> Result<Mark> {
        let data = self.record(instance)?;
        let path = self.place.path.as_str();
        let Some(mark) = self.known.mark() else { return Err(error(ErrorKind::Lost, format!("{path} is not held"))) };
        self.known.asked(&data);
        let written = self.session.ask(self.session.client.set_data(path, &data, Some(mark.version))).await;
        self.settle(&data, written.and_then(|stat| same(mark, &stat)))
            .map_err(|answer| failed(format!("cannot write {}", self.place.path), answer))
    }

    fn record(&self, instance: &Instance) -> Result<Vec<u8>> {
        let data = encode(instance).into_bytes();
        size::check(self.session.limit, &self.place.path, &data).map(|()| data)
    }

    /// Remembers what has become of a record that was sent.
    fn settle(&mut self, data: &[u8], answer: Result<Mark, zk::Error>) -> Result<Mark, zk::Error> {
        match &answer {
            Ok(mark) => self.known.written(*mark),
            Err(answer) if is_doubtful(answer) => {}
            Err(_) => self.known.refused(data),
        }
        answer
    }

    async fn make(&mut self, data: &[u8], acl: &[zk::Acl]) -> Result<Mark, zk::Error> {
        let ephemeral = zk::CreateMode::Ephemeral.with_acls(acl.into());
        self.known.asked(data);
        for _ in 0..TRIES {
            let Self { session, place, .. } = self;
            match session.ask(session.client.create(&place.path, data, &ephemeral)).await {
                Ok((stat, _)) => return Ok(Mark::of(&stat)),
                Err(zk::Error::NoNode) => make_directory(session, &place.directory, acl).await?,
                Err(zk::Error::NodeExists) => match self.take_over(data, &ephemeral).await {
                    // Somebody has come between.
                    Err(zk::Error::NoNode | zk::Error::BadVersion) => {}
                    taken => return taken,
                },
                Err(answer) => return Err(answer),
            }
        }
        Err(zk::Error::NodeExists)
    }

    async fn take_over(&mut self, data: &[u8], ephemeral: &zk::CreateOptions<'_>) -> Result<Mark, zk::Error> {
        let Self { session, place, known, .. } = self;
        let path = place.path.as_str();
        let stat = session.ask(session.client.check_stat(path)).await?.ok_or(zk::Error::NoNode)?;
        let there = Mark::of(&stat);
        known.found(there);
        if stat.ephemeral_owner != session.client.session_id().0 {
            return replace(session, path, there, data, ephemeral).await;
        }
        let written = session.ask(session.client.set_data(path, data, Some(there.version))).await?;
        same(there, &written)
    }

    /// Looks at the node and at others of the same instance.
    pub(crate) async fn look(&mut self) -> Result<Seen, zk::Error> {
        let Self { session, place, known, .. } = self;
        let (stat, watcher) = session.ask(session.client.check_and_watch_stat(&place.path)).await?;
        let watch = fired(watcher);
        let siblings = match Siblings::of(session, place).await {
            Err(answer @ zk::Error::NoAuth) => {
                tracing::warn!(path = place.directory, %answer, "whether a newer incarnation is there is not known");
                Siblings::default()
            }
            siblings => siblings?,
        };
        if let Some(conflict) = siblings.conflict(session, place).await? {
            return Ok(Seen::Lost(conflict));
        }
        let why = match stat {
            Some(stat) if known.mark() == Some(Mark::of(&stat)) => None,
            Some(_) => self.changed().await?,
            None => Some(self.lost("is gone: somebody removed it, or its session has expired")),
        };
        Ok(why.map_or(Seen::Held(watch), Seen::Lost))
    }

    /// Why a node that is not as it was is lost, unless it was this claim that changed it: by a write whose answer has
    /// not come.
    async fn changed(&mut self) -> Result<Option<Error>, zk::Error> {
        let Self { session, place, known, claim } = self;
        let (data, stat) = match session.ask(session.client.get_data(&place.path)).await {
            Err(zk::Error::NoNode) => return Ok(Some(self.lost("is gone: it was replaced, and removed"))),
            Err(zk::Error::NoAuth) => return Ok(Some(self.lost("was replaced or written, and may not be read"))),
            read => read?,
        };
        let ours = stat.ephemeral_owner == session.client.session_id().0 && claim.is_latest();
        if ours && known.is_halfway(Mark::of(&stat), &data) {
            known.written(Mark::of(&stat));
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

    /// Removes the node, if it is beyond doubt this claim's. Whatever comes between the look and the removal gives the path
    /// another version, so that the removal fails.
    pub(crate) async fn remove(&self) -> Result<(), zk::Error> {
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
        let Self { session, place, known, claim } = self;
        let mark = Mark::of(stat);
        if known.mark() == Some(mark) {
            return Ok(true);
        }
        // A session's nodes are made by its claims alone. What a later one may have made or written is not ours.
        if stat.ephemeral_owner != session.client.session_id().0 || !claim.is_latest() {
            return Ok(false);
        }
        if known.made(mark) {
            return Ok(true);
        }
        match session.ask(session.client.get_data(&place.path)).await {
            Ok((data, read)) => Ok(Mark::of(&read) == mark && known.is_halfway(mark, &data)),
            Err(zk::Error::NoNode) => Ok(false),
            Err(answer) => Err(answer),
        }
    }
}

/// The node since it was written, if it is the one that was meant.
fn same(meant: Mark, written: &zk::Stat) -> Result<Mark, zk::Error> {
    if written.czxid == meant.made { Ok(Mark::of(written)) } else { Err(zk::Error::BadVersion) }
}

/// Replaces another session's node in one transaction. The new one begins with another version than any of the last
/// three, so that no write or removal that is still on its way to one of those can meet it.
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

/// Makes the node of a service, and those above it.
pub(crate) async fn make_directory(session: &Session, directory: &str, acl: &[zk::Acl]) -> Result<(), zk::Error> {
    let persistent = zk::CreateMode::Persistent.with_acls(acl.into());
    session.ask(session.client.mkdir(directory, &persistent)).await
}
