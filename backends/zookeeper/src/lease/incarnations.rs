//! The nodes of other incarnations of an instance.

use callboard_core::{Error, ErrorKind, Incarnation, Result, conflict, holder};
use zookeeper_client as zk;

use super::node_state::Mark;
use crate::client::Session;
use crate::error::{BACKEND, error, failed};
use crate::record::Place;

/// The newest incarnation of the instance if it is newer than this one, and the nodes of all that are older.
#[derive(Debug, Default)]
pub(super) struct OtherIncarnations {
    newer: Option<Incarnation>,
    older: Vec<String>,
}

impl OtherIncarnations {
    pub(super) async fn of(session: &Session, place: &Place) -> Result<Self, zk::Error> {
        let names = match session.ask(session.client.list_children(&place.directory)).await {
            Err(zk::Error::NoNode) => Vec::new(),
            listed => listed?,
        };
        let newest = names.iter().filter_map(|name| place.sibling(name)).max();
        let mut older = names;
        older.retain(|name| place.sibling(name).is_some_and(|other| other < place.incarnation));
        Ok(Self { newer: newest.filter(|newest| *newest > place.incarnation), older })
    }

    /// Removes the nodes of older incarnations. If one still runs, it notices the loss by that. Each is removed only
    /// while the own node is as it was left, so that there is no gap.
    pub(super) async fn displace(&self, session: &Session, place: &Place, own: Mark) -> Result<()> {
        for name in &self.older {
            let path = format!("{}/{name}", place.directory);
            match displace(session, place, own, &path).await {
                Ok(()) => {}
                // The older one is gone already.
                Err(zk::MultiWriteError::OperationFailed { index: OLDER, source: zk::Error::NoNode }) => {}
                Err(zk::MultiWriteError::OperationFailed { index: OWN, source }) => {
                    let why = format!("{} is gone or was replaced while it was made", place.path);
                    return Err(error(ErrorKind::Lost, why).with_source(source));
                }
                Err(answer) => return Err(failed(format!("cannot remove the older {path}"), answer.into())),
            }
        }
        Ok(())
    }

    /// The error of an incarnation that is not the newest.
    pub(super) async fn conflict(&self, session: &Session, place: &Place) -> Result<Option<Error>, zk::Error> {
        let Some(newer) = self.newer else { return Ok(None) };
        let path = place.of(newer);
        let there = match session.ask(session.client.get_data(&path)).await {
            Ok((data, _)) => holder(&place.id, &data).map(|there| there.with_incarnation(newer)),
            // A node that has just gone is looked for again when the instance is registered again.
            Err(zk::Error::NoNode | zk::Error::NoAuth) => None,
            Err(answer) => return Err(answer),
        };
        let unread = || error(ErrorKind::Conflict, format!("{path} is of a newer incarnation, and cannot be read"));
        Ok(Some(there.map_or_else(unread, |there| conflict(place.incarnation, &there).in_backend(BACKEND))))
    }
}

/// The steps of the transaction.
const OWN: usize = 0;
const OLDER: usize = 1;

async fn displace(session: &Session, place: &Place, own: Mark, older: &str) -> Result<(), zk::MultiWriteError> {
    let mut transaction = session.client.new_multi_writer();
    transaction.add_check_version(&place.path, own.version)?;
    transaction.add_delete(older, None)?;
    let committed = transaction.commit();
    session.ask(async { Ok(committed.await.map(drop)) }).await?
}
