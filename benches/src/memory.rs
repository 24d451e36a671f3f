//! What idle endpoints and channels hold.

use std::io;
use std::time::Duration;

use callboard::balancer::RoundRobin;
use callboard::{Channel, ConnectivityState, Snapshot};
use callboard_bench::{Feed, Silent, feed, instances, service};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Handle};
use tokio::time::sleep;

use crate::{Result, allocations};

const COUNT: usize = 1_000;

/// Bytes of one.
#[derive(Deserialize, Serialize)]
pub(crate) struct Held {
    /// Of one more endpoint of a channel, connected; without its socket, which depends on the connector.
    pub(crate) endpoint: f64,
    /// Of one more channel, which has no endpoint.
    pub(crate) channel: f64,
}

/// Measures in this process and prints the result.
pub(crate) fn measure() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    println!("{}", serde_json::to_string(&runtime.block_on(held())?)?);
    Ok(())
}

async fn held() -> callboard::Result<Held> {
    // The first one also makes what is made once and for all.
    channel_with(1).await?;
    let (one, many) = (channel_with(1).await?, channel_with(COUNT + 1).await?);
    let channels = channels(COUNT).await?;
    Ok(Held { endpoint: (many - one) as f64 / COUNT as f64, channel: channels as f64 / COUNT as f64 })
}

/// Bytes held by a channel with so many endpoints, all connected and idle.
async fn channel_with(endpoints: usize) -> callboard::Result<i64> {
    let (registry, resolver) = feed();
    let set = Snapshot::new(instances(endpoints));
    let before = start();
    let channel = channel(resolver)?;
    // It is there as long as `registry` is.
    let _ = registry.send(set);
    let ready = |channel: &Channel| {
        let known = channel.endpoints();
        known.len() == endpoints && known.iter().all(|one| one.endpoint.state() == ConnectivityState::Ready)
    };
    while !ready(&channel) {
        sleep(Duration::from_millis(20)).await;
    }
    let held = stop(before);
    drop(channel);
    ended().await;
    Ok(held)
}

/// Bytes held by so many channels without endpoints.
async fn channels(count: usize) -> callboard::Result<i64> {
    let registries: Vec<_> = (0..count).map(|_| feed()).collect();
    let (mut senders, mut channels) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let before = start();
    for (sender, resolver) in registries {
        let _ = sender.send(Snapshot::default());
        senders.push(sender);
        channels.push(channel(resolver)?);
    }
    while channels.iter().any(|channel| channel.state() != ConnectivityState::TransientFailure) {
        sleep(Duration::from_millis(20)).await;
    }
    let held = stop(before);
    drop(channels);
    ended().await;
    Ok(held)
}

/// Waits until the tasks of what was dropped are gone, and with them what they hold.
async fn ended() {
    while Handle::current().metrics().num_alive_tasks() > 0 {
        sleep(Duration::from_millis(20)).await;
    }
}

fn channel(resolver: Feed) -> callboard::Result<Channel> {
    let connector = tower::service_fn(async |_| Ok::<_, io::Error>(Silent::default()));
    Channel::builder(service()).resolver(resolver).balancer(RoundRobin::new()).connector(connector).build()
}

fn start() -> i64 {
    allocations::count(true);
    allocations::held()
}

fn stop(before: i64) -> i64 {
    let held = allocations::held() - before;
    allocations::count(false);
    held
}
