//! Shared by the end-to-end tests: a registry, servers that are registered in it, addresses that do not answer, and
//! calls.

// Each test binary compiles this file and uses a part of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod listing;
pub mod lookaside;
pub mod refusing;
pub mod scripted;
pub mod silent;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use callboard::backend::Memory;
use callboard::{
    Address, Backoff, Channel, ChannelBuilder, ConfigStatus, ConnectivityState, EndpointStatus, Incarnation, Instance,
    Registration, RegistrationSettings, Registry, ServedBy, ServiceName, WaitForReady, register,
};
use callboard_echo::pb::EchoRequest;
use callboard_echo::pb::echo_client::EchoClient;
use callboard_echo::{EchoServer, client};
use callboard_raw::{Peer, RawServer};

/// The bound of every wait. Only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A registry with one service.
pub struct Stage {
    pub board: Memory,
    pub service: ServiceName,
}

impl Stage {
    pub fn new() -> Self {
        Self { board: Memory::default(), service: "project/test".parse().unwrap() }
    }

    /// Starts a server and registers it.
    pub async fn server(&self, id: &str) -> (EchoServer, Registration) {
        self.weighted(id, 1).await
    }

    pub async fn weighted(&self, id: &str, weight: u32) -> (EchoServer, Registration) {
        let server = EchoServer::start(id).await.unwrap();
        let registration = self.sign_in(id, server.address().try_into().unwrap(), weight).await;
        (server, registration)
    }

    /// Starts a server that takes this many calls at once on a connection (MAX_CONCURRENT_STREAMS), and registers it.
    pub async fn limited(&self, id: &str, calls: u32) -> (EchoServer, Registration) {
        self.limited_and_weighted(id, calls, 1).await
    }

    pub async fn limited_and_weighted(&self, id: &str, calls: u32, weight: u32) -> (EchoServer, Registration) {
        let configure = |server: tonic::transport::Server| server.max_concurrent_streams(calls);
        let server = EchoServer::start_with(id, (Ipv4Addr::LOCALHOST, 0).into(), configure).await.unwrap();
        let registration = self.sign_in(id, server.address().try_into().unwrap(), weight).await;
        (server, registration)
    }

    /// Starts a server that follows a script, and registers it.
    pub async fn raw<F, S>(&self, id: &str, script: F) -> (RawServer, Registration)
    where
        F: Fn(Peer) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let server = RawServer::start(script).await.unwrap();
        let registration = self.sign_in(id, server.address().try_into().unwrap(), 1).await;
        (server, registration)
    }

    /// Registers an address, whether or not a server is there.
    pub async fn sign_in(&self, id: &str, address: Address, weight: u32) -> Registration {
        let instance = Instance::new(id, address).unwrap().with_weight(weight).with_incarnation(Incarnation::fresh());
        let settings = RegistrationSettings::default();
        let registration = register(Arc::new(self.board.clone()), &self.service, instance, settings);
        registration.wait_registered(PATIENCE).await.unwrap();
        registration
    }

    /// Puts the service config into the registry, or removes it.
    pub async fn put_service_config(&self, config: Option<&str>) {
        self.board.put_service_config(&self.service, config).await.unwrap();
    }

    pub fn builder(&self) -> ChannelBuilder {
        Channel::builder(self.service.clone()).resolver(self.board.clone())
    }

    /// A channel, once this many endpoints are ready.
    pub async fn channel(&self, builder: ChannelBuilder, ready: usize) -> Channel {
        let channel = builder.build().unwrap();
        until_ready(&channel, ready).await;
        channel
    }
}

/// Waits until this many endpoints are ready.
pub async fn until_ready(channel: &Channel, count: usize) {
    until("endpoints are ready", || {
        let ready = |status: &EndpointStatus| status.endpoint.state() == ConnectivityState::Ready;
        channel.endpoints().iter().filter(|status| ready(status)).count() == count
    })
    .await;
}

/// Waits until these are the endpoints, in this order.
pub async fn until_endpoints(channel: &Channel, ids: &[&str]) {
    until("the endpoints are as wanted", || {
        channel.endpoints().iter().map(|status| status.endpoint.instance().id()).eq(ids.iter().copied())
    })
    .await;
}

/// Waits until this config is active, or the defaults are, and no config is rejected.
pub async fn until_config(channel: &Channel, config: Option<&str>) {
    until("the config is in force", || {
        let status = channel.service_config();
        status.active.as_deref() == config && status.rejected.is_none()
    })
    .await;
}

/// Waits until a config is rejected, for this reason.
pub async fn until_refused(channel: &Channel, why: &str) -> ConfigStatus {
    until(why, || channel.service_config().rejected.is_some_and(|error| error.to_string().contains(why))).await;
    channel.service_config()
}

/// The status of the endpoint with this id.
pub fn endpoint(channel: &Channel, id: &str) -> EndpointStatus {
    let endpoints = channel.endpoints();
    let found = endpoints.iter().find(|status| status.endpoint.instance().id() == id);
    found.unwrap_or_else(|| panic!("{id} is not among {endpoints:?}")).clone()
}

/// A backoff short enough for tests.
pub fn quick() -> Backoff {
    Backoff::new(Duration::from_millis(50), Duration::from_millis(100), 1.6, 0.2).unwrap()
}

/// The number of tasks in the runtime.
pub fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Polls once, like a caller that then does something else.
pub async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx))).await
}

/// Fails a test whose future hangs.
pub async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not done within {PATIENCE:?}"))
}

/// Waits for a condition that something else makes true.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let looked = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, looked).await.is_err() {
        panic!("waited {PATIENCE:?} in vain until {what}");
    }
}

pub fn request() -> EchoRequest {
    EchoRequest { payload: b"ping".into(), ..EchoRequest::default() }
}

/// A request whose answer takes this long.
pub fn slow(delay_ms: u32) -> EchoRequest {
    EchoRequest { delay_ms, ..request() }
}

/// A request that waits until an endpoint is ready.
pub fn waiting(message: EchoRequest) -> tonic::Request<EchoRequest> {
    let mut request = tonic::Request::new(message);
    request.extensions_mut().insert(WaitForReady(true));
    request
}

/// A request with a deadline.
pub fn within(timeout: Duration, message: EchoRequest) -> tonic::Request<EchoRequest> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(timeout);
    request
}

pub fn echo(channel: &Channel) -> EchoClient<Channel> {
    client(channel.clone())
}

/// Makes calls one after the other, all of which must succeed, and counts which server answered how many.
pub async fn shares(channel: &Channel, calls: usize) -> BTreeMap<String, usize> {
    let mut client = echo(channel);
    let mut shares = BTreeMap::new();
    for _ in 0..calls {
        let response = client.unary(request()).await.unwrap();
        let ServedBy(endpoint) = response.extensions().get().expect("the response names its endpoint");
        assert_eq!(
            endpoint.instance().id(),
            response.get_ref().server,
            "the endpoint that is named is the one that answered"
        );
        *shares.entry(response.into_inner().server).or_default() += 1;
    }
    shares
}
