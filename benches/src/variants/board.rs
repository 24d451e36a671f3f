//! callboard.

use std::net::SocketAddr;
use std::time::Duration;

use callboard::balancer::RoundRobin;
use callboard::{Channel, ConnectivityState, Instance, Snapshot};
use callboard_bench::{feed, service};

use crate::Result;

/// A channel that shares its calls out over all servers, each of which is connected.
pub(super) async fn connect(servers: &[SocketAddr]) -> Result<Channel> {
    let (registry, resolver) = feed();
    let instances =
        servers.iter().map(|server| Instance::at((*server).try_into()?)).collect::<callboard::Result<Vec<_>>>()?;
    registry.send(Snapshot::new(instances))?;
    let channel = Channel::builder(service()).resolver(resolver).balancer(RoundRobin::new()).build()?;
    channel.wait_ready(Duration::from_secs(5)).await?;
    while !channel.endpoints().iter().all(|status| status.endpoint.state() == ConnectivityState::Ready) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The end of the sender ends the watch; the channel is to see a registry that is well.
    std::mem::forget(registry);
    Ok(channel)
}
