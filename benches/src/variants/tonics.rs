//! tonic's own channels, as its documentation has them.

use std::net::SocketAddr;

use tonic::transport::channel::Change;
use tonic::transport::{Channel, Endpoint};

use crate::Result;

fn endpoint(server: &SocketAddr) -> Result<Endpoint> {
    Ok(Endpoint::new(format!("http://{server}"))?)
}

/// A channel to the first server.
pub(super) async fn one(servers: &[SocketAddr]) -> Result<Channel> {
    Ok(endpoint(servers.first().ok_or("no server")?)?.connect().await?)
}

/// A channel over all of them.
pub(super) async fn balance(servers: &[SocketAddr]) -> Result<Channel> {
    let (channel, changes) = Channel::balance_channel(servers.len());
    for server in servers {
        changes.send(Change::Insert(*server, endpoint(server)?)).await?;
    }
    Ok(channel)
}
