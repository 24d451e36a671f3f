//! The node of a service's config: written and removed. It is read with the service's other nodes.

use callboard_core::{CONFIG_NAME, Result, ServiceName};
use zookeeper_client as zk;

use crate::client::{Client, Session, Settings, TRIES};
use crate::error::failed;
use crate::record;

/// Creates or writes the node, whatever it says, or removes it. Of two calls at the same time the last one wins.
pub(crate) async fn put_service_config(client: &Client, service: &ServiceName, config: Option<&str>) -> Result<()> {
    let Settings { prefix, acl, .. } = &client.settings;
    let directory = record::directory(prefix, service)?;
    let session = client.session().await.map_err(|error| error.for_service(service))?;
    write_or_remove(&session, &directory, acl, config).await.map_err(|error| error.for_service(service))
}

async fn write_or_remove(session: &Session, directory: &str, acl: &[zk::Acl], config: Option<&str>) -> Result<()> {
    let path = format!("{directory}/{CONFIG_NAME}");
    if let Some(config) = config {
        record::check_size(session.limit, &path, config.as_bytes())?;
    }
    let (done, what) = match config {
        Some(config) => (write(session, directory, &path, acl, config.as_bytes()).await, "write"),
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

async fn write(
    session: &Session,
    directory: &str,
    path: &str,
    acl: &[zk::Acl],
    config: &[u8],
) -> Result<(), zk::Error> {
    let persistent = zk::CreateMode::Persistent.with_acls(acl.into());
    for _ in 0..TRIES {
        match session.ask(session.client.set_data(path, config, None)).await {
            Err(zk::Error::NoNode) => {}
            written => return written.map(drop),
        }
        match session.ask(session.client.create(path, config, &persistent)).await {
            Err(zk::Error::NoNode) => session.make_directory(directory, acl).await?,
            // Somebody else has made it since.
            Err(zk::Error::NodeExists) => {}
            created => return created.map(drop),
        }
    }
    Err(zk::Error::NoNode)
}
