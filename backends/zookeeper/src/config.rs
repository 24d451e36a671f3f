//! The node of a service's config: put and removed. It is read with the service's other nodes.

use callboard_core::{CONFIG_NAME, Result};
use zookeeper_client as zk;

use crate::entry::{self, TRIES};
use crate::failure::failed;
use crate::session::Session;
use crate::size;

/// Makes or writes the node, whatever it says, or removes it. Of two who do so at once the last one wins.
pub(crate) async fn put_service_config(
    session: &Session,
    directory: &str,
    acl: &[zk::Acl],
    config: Option<&str>,
) -> Result<()> {
    let path = format!("{directory}/{CONFIG_NAME}");
    if let Some(config) = config {
        size::check(session.limit, &path, config.as_bytes())?;
    }
    let (done, what) = match config {
        Some(config) => (put(session, directory, &path, acl, config.as_bytes()).await, "write"),
        None => (remove(session, &path).await, "remove"),
    };
    done.map_err(|answer| failed(format!("cannot {what} {path}"), answer))
}

async fn remove(session: &Session, path: &str) -> Result<(), zk::Error> {
    match session.ask(session.client.delete(path, None)).await {
        Err(zk::Error::NoNode) => Ok(()),
        deleted => deleted,
    }
}

async fn put(session: &Session, directory: &str, path: &str, acl: &[zk::Acl], config: &[u8]) -> Result<(), zk::Error> {
    let persistent = zk::CreateMode::Persistent.with_acls(acl.into());
    for _ in 0..TRIES {
        match session.ask(session.client.set_data(path, config, None)).await {
            Err(zk::Error::NoNode) => {}
            written => return written.map(drop),
        }
        match session.ask(session.client.create(path, config, &persistent)).await {
            Err(zk::Error::NoNode) => entry::make_directory(session, directory, acl).await?,
            // Somebody else has made it since.
            Err(zk::Error::NodeExists) => {}
            created => return created.map(drop),
        }
    }
    Err(zk::Error::NoNode)
}
