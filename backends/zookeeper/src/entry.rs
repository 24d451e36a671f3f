//! The node of one instance: made, replaced, looked at, removed.

use callboard_core::{Incarnation, Instance, Result, encode};
use futures_util::future::BoxFuture;
use zookeeper_client as zk;

use crate::board::fired;
use crate::failure::{error, failed};
use crate::layout::Place;
use crate::session::Session;

/// How often somebody else may come between two steps before that is an error.
pub(crate) const TRIES: usize = 5;

/// What tells a node from each other one that has had, or will have, its path: when it was made, and how often it has
/// been written since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    made: i64,
    version: i32,
}

impl Mark {
    pub(crate) fn of(stat: &zk::Stat) -> Self {
        Self { made: stat.czxid, version: stat.version }
    }
}

/// Makes the node, and the directories above it. A node that is there already is replaced in one transaction, so that
/// nobody sees a set without it: it belongs to an earlier session of this incarnation, whose end would take it away.
pub(crate) async fn put(session: &Session, place: &Place, instance: &Instance, acl: &[zk::Acl]) -> Result<Mark> {
    let path = place.path.as_str();
    let failed = |answer| failed(format!("cannot make {path}"), answer);
    let data = encode(instance).into_bytes();
    let ephemeral = zk::CreateMode::Ephemeral.with_acls(acl.into());
    for _ in 0..TRIES {
        match session.ask(session.client.create(path, &data, &ephemeral)).await {
            Ok((stat, _)) => return Ok(Mark::of(&stat)),
            Err(zk::Error::NoNode) => make_directory(session, &place.directory, acl).await.map_err(failed)?,
            Err(zk::Error::NodeExists) => match replace(session, path, &data, &ephemeral).await {
                Err(zk::Error::NoNode) => {}
                replaced => return replaced.map_err(failed),
            },
            Err(answer) => return Err(failed(answer)),
        }
    }
    Err(failed(zk::Error::NodeExists))
}

/// Makes the node of a service, and those above it.
pub(crate) async fn make_directory(session: &Session, directory: &str, acl: &[zk::Acl]) -> Result<(), zk::Error> {
    let persistent = zk::CreateMode::Persistent.with_acls(acl.into());
    session.ask(session.client.mkdir(directory, &persistent)).await
}

async fn replace(
    session: &Session,
    path: &str,
    data: &[u8],
    ephemeral: &zk::CreateOptions<'_>,
) -> Result<Mark, zk::Error> {
    let mut transaction = session.client.new_multi_writer();
    transaction.add_delete(path, None)?;
    transaction.add_create(path, data, ephemeral)?;
    let committed = transaction.commit();
    session.ask(async { committed.await.map_err(zk::Error::from) }).await?;
    // Some servers tell nothing of a node that was made in a transaction, so it is asked for.
    let stat = session.ask(session.client.check_stat(path)).await?.ok_or(zk::Error::NoNode)?;
    if stat.ephemeral_owner == session.client.session_id().0 { Ok(Mark::of(&stat)) } else { Err(zk::Error::NodeExists) }
}

/// Writes the node, if it is still the one that is known.
pub(crate) async fn write(session: &Session, place: &Place, known: Mark, instance: &Instance) -> Result<Mark> {
    let path = place.path.as_str();
    let data = encode(instance).into_bytes();
    match session.ask(session.client.set_data(path, &data, Some(known.version))).await {
        // The node that was written is not the one that was known: its owner will find it changed, and write it anew.
        Ok(stat) if stat.czxid != known.made => Err(failed(format!("{path} was replaced"), zk::Error::BadVersion)),
        Ok(stat) => Ok(Mark::of(&stat)),
        Err(answer) => Err(failed(format!("cannot write {path}"), answer)),
    }
}

/// What the node is now, if it is there, and a watch that was armed with the look.
pub(crate) async fn look(
    session: &Session,
    place: &Place,
) -> Result<(Option<Mark>, BoxFuture<'static, ()>), zk::Error> {
    let (stat, watcher) = session.ask(session.client.check_and_watch_stat(&place.path)).await?;
    Ok((stat.as_ref().map(Mark::of), fired(watcher)))
}

/// Removes the node, if it is the one that is known; where none is known, if this session owns it.
pub(crate) async fn remove(session: &Session, place: &Place, known: Option<Mark>) -> Result<(), zk::Error> {
    let ours = |stat: &zk::Stat| match known {
        Some(mark) => stat.czxid == mark.made,
        None => stat.ephemeral_owner == session.client.session_id().0,
    };
    match session.ask(session.client.check_stat(&place.path)).await? {
        // ZooKeeper deletes a path, not a node. What comes between these two questions is another claim of the same
        // incarnation, which then notices that its node is gone and makes it again.
        Some(stat) if ours(&stat) => delete(session, &place.path).await,
        _ => Ok(()),
    }
}

/// Removes a node. One that is gone already is no error.
pub(crate) async fn delete(session: &Session, path: &str) -> Result<(), zk::Error> {
    match session.ask(session.client.delete(path, None)).await {
        Err(zk::Error::NoNode) => Ok(()),
        deleted => deleted,
    }
}

/// The newest incarnation of this instance that is there, with the nodes of all that are older than this one.
#[derive(Debug)]
pub(crate) struct Siblings {
    pub(crate) newest: Option<Incarnation>,
    older: Vec<String>,
}

impl Siblings {
    pub(crate) async fn of(session: &Session, place: &Place) -> Result<Self, zk::Error> {
        let names = match session.ask(session.client.list_children(&place.directory)).await {
            Err(zk::Error::NoNode) => Vec::new(),
            listed => listed?,
        };
        let newest = names.iter().filter_map(|name| place.sibling(name)).max();
        let mut older = names;
        older.retain(|name| place.sibling(name).is_some_and(|other| other < place.incarnation));
        Ok(Self { newest, older })
    }

    /// Removes what older incarnations have left, or still believe to hold: that is how they learn of it.
    pub(crate) async fn displace(&self, session: &Session, place: &Place) -> Result<()> {
        for name in &self.older {
            let path = format!("{}/{name}", place.directory);
            delete(session, &path).await.map_err(|answer| failed(format!("cannot remove the older {path}"), answer))?;
        }
        Ok(())
    }

    /// The error of an incarnation that is not the newest.
    pub(crate) fn conflict(&self, place: &Place) -> Option<callboard_core::Error> {
        let newer = self.newest.filter(|newest| *newest > place.incarnation)?;
        let message = format!("{} has a newer incarnation of {:?}: {newer}", place.directory, place.id);
        Some(error(callboard_core::ErrorKind::Conflict, message))
    }
}
