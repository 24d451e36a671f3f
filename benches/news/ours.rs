//! The same through callboard.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use callboard::{
    Channel, ConnectivityState, Dialer, Instance, Lease, Registry, Resolution, ServiceName, WaitForReady,
    WatchSettings, Watcher, watch,
};
use callboard_echo::pb::EchoRequest;
use callboard_echo::{EchoServer, client};

use crate::Result;

/// A client that follows a service, and one instance that is there all the time.
pub(crate) struct Follower {
    registry: Arc<dyn Registry>,
    service: ServiceName,
    watcher: Watcher,
    lease: Box<dyn Lease>,
    instance: Instance,
}

impl Follower {
    pub(crate) async fn open(etcd: SocketAddr) -> Result<Self> {
        let url = format!("etcd://{etcd}/news/followed");
        let (registry, service) = callboard::registry(&url)?;
        let instance = Instance::new("there", "127.0.0.1:1".parse()?)?;
        let lease = registry.register(&service, &instance).await?;
        let resolver = callboard::backend::Etcd::builder([etcd.to_string()]).build()?;
        let mut watcher = watch(Arc::new(resolver), &service, WatchSettings::default());
        until(&mut watcher, |view| has(view, "there", 1)).await;
        Ok(Self { registry, service, watcher, lease, instance })
    }

    pub(crate) async fn new_weight(&mut self, round: usize) -> Result<Duration> {
        let weight = round as u32 + 2;
        self.instance.set_weight(weight);
        let start = Instant::now();
        self.lease.update(&self.instance).await?;
        until(&mut self.watcher, |view| has(view, "there", weight)).await;
        Ok(start.elapsed())
    }

    pub(crate) async fn sign_in(&mut self, round: usize) -> Result<Duration> {
        let id = format!("new-{round}");
        let instance = Instance::new(&id, "127.0.0.1:2".parse()?)?;
        let start = Instant::now();
        let lease = self.registry.register(&self.service, &instance).await?;
        until(&mut self.watcher, |view| has(view, &id, 1)).await;
        let time = start.elapsed();
        lease.revoke().await?;
        until(&mut self.watcher, |view| !has(view, &id, 1)).await;
        Ok(time)
    }
}

async fn until(watcher: &mut Watcher, seen: impl Fn(&Resolution) -> bool) {
    while !seen(watcher.resolution()) {
        watcher.changed().await;
    }
}

fn has(view: &Resolution, id: &str, weight: u32) -> bool {
    view.instances.iter().flat_map(|set| set.iter()).any(|instance| instance.id() == id && instance.weight() == weight)
}

/// From the moment when a server that listens begins to sign in, until a call is answered that has been waiting for it.
pub(crate) async fn first_call(etcd: SocketAddr, round: usize) -> Result<Duration> {
    let url = format!("etcd://{etcd}/news/called-{round}");
    let server = EchoServer::start("new").await?;
    let (registry, service) = callboard::registry(&url)?;
    // Their connections to etcd stand: those of a service that runs do.
    registry.register(&service, &Instance::new("before", "127.0.0.1:1".parse()?)?).await?.revoke().await?;
    let channel = Dialer::new().dial(&url).await?;
    channel.watch_state().wait_for(|state| *state == ConnectivityState::TransientFailure).await?; // known to be empty

    let call = tokio::spawn(waiting_call(channel));
    // It waits now, and nothing has been passed on for a while.
    tokio::time::sleep(crate::APART).await;
    let instance = Instance::at(server.address().try_into()?)?;
    let start = Instant::now();
    let lease = registry.register(&service, &instance).await?;
    call.await??;
    let time = start.elapsed();
    lease.revoke().await?;
    Ok(time)
}

async fn waiting_call(channel: Channel) -> Result<(), tonic::Status> {
    let mut request = tonic::Request::new(EchoRequest::default());
    request.extensions_mut().insert(WaitForReady(true));
    client(channel).unary(request).await.map(drop)
}
