//! The other nodes of one instance: other incarnations of it.

use callboard_core::{Error, ErrorKind, Incarnation, Result, conflict, holder};
use zookeeper_client as zk;

use crate::failure::{BACKEND, error, failed};
use crate::known::Mark;
use crate::layout::Place;
use crate::session::Session;

/// The newer incarnation of this instance that is there, with the nodes of all that are older than this one.
#[derive(Debug, Default)]
pub(crate) struct Siblings {
    newer: Option<Incarnation>,
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
        Ok(Self { newer: newest.filter(|newest| *newest > place.incarnation), older })
    }

    /// Removes what older incarnations have left, or still believe to hold: that is how they learn of it. Each goes only
    /// while this one stands as it is known, whenever the removal is heard of.
    pub(crate) async fn displace(&self, session: &Session, place: &Place, own: Mark) -> Result<()> {
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
    pub(crate) async fn conflict(&self, session: &Session, place: &Place) -> Result<Option<Error>, zk::Error> {
        let Some(newer) = self.newer else { return Ok(None) };
        let path = place.of(newer);
        let there = match session.ask(session.client.get_data(&path)).await {
            Ok((data, _)) => holder(&place.id, &data).map(|there| there.with_incarnation(newer)),
            // What has just gone is asked for again by whoever registers again.
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
