//! A real etcd under test.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "clippy knows the tests, but not what they share")]

pub(crate) mod users;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard_conformance::{Bounds, Harness, Server};
#[allow(unused_imports, reason = "not every test makes instances")]
pub(crate) use callboard_conformance::{instance, service};
use callboard_core::{Instance, Registry, Resolver, ServiceName, encode};
use callboard_etcd::{Etcd, EtcdBuilder};
use callboard_servers::{Cluster, Setup, ask};
use etcd_client::Client;

use self::users::{APP, PASSWORD, READER};

/// Long enough for anything that is expected to work at once, on a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// As short as leaves a busy machine the time to renew its leases.
pub(crate) const TTL: Duration = Duration::from_secs(5);

/// What is the default. A member that does not lead passes each keep-alive on to the leader, one after the other, which
/// takes its time on a busy machine.
pub(crate) const TTL_OF_THREE: Duration = Duration::from_secs(15);

/// How soon a watch is to notice that it may not read any more.
const RELIST: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) cluster: Cluster,
    ttl: Duration,
    /// Whether it asks for a user and a password.
    guarded: bool,
}

impl Servers {
    pub(crate) async fn one() -> Self {
        Self::of(Cluster::etcd(), TTL).await
    }

    pub(crate) async fn three() -> Self {
        Self::of(Cluster::etcd().nodes(3), TTL_OF_THREE).await
    }

    /// Starts it. The tests print the logs that RUST_LOG selects.
    pub(crate) async fn of(setup: Setup, ttl: Duration) -> Self {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        // It fails if another test of this program has done it before.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        Self { cluster: setup.start().await, ttl, guarded: false }
    }

    pub(crate) fn builder(&self) -> EtcdBuilder {
        builder(self.cluster.addresses()).ttl(self.ttl)
    }

    pub(crate) fn etcd(&self) -> Etcd {
        self.builder().build().unwrap()
    }

    /// As this user, if it asks for one.
    pub(crate) fn etcd_of(&self, user: &str) -> Etcd {
        let builder = self.builder();
        if self.guarded { builder.user(user, PASSWORD).relist(RELIST).build().unwrap() } else { self.etcd() }
    }

    /// A client of the test's own.
    pub(crate) async fn client(&self) -> Client {
        let addresses: Vec<_> = self.cluster.addresses().iter().map(ToString::to_string).collect();
        Client::connect(addresses, None).await.unwrap()
    }
}

/// An etcd at these addresses, with what tests need.
pub(crate) fn builder(addresses: impl IntoIterator<Item = SocketAddr>) -> EtcdBuilder {
    Etcd::builder(addresses.into_iter().map(|address| address.to_string())).ttl(TTL)
}

pub(crate) fn key(service: &ServiceName, id: &str) -> String {
    format!("/callboard/{service}/{id}")
}

/// A figure that a member counts; 0 if it does not.
pub(crate) async fn figure(address: SocketAddr, name: &str) -> f64 {
    let answer = ask::http(address, "GET", "/metrics", &[], "").await.unwrap();
    let mut lines = answer.body.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines.next().unwrap_or_else(|| panic!("etcd counts no {name}")).parse().unwrap()
}

#[async_trait]
impl Harness for Servers {
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(self.etcd_of(APP))
    }

    fn resolver(&self) -> Arc<dyn Resolver> {
        Arc::new(self.etcd_of(READER))
    }

    fn bounds(&self) -> Bounds {
        let second = Duration::from_secs(1);
        // A connection that has fallen silent is noticed after 15 s, and tried again for a few seconds.
        Bounds { expiry: self.ttl + 5 * second, heal: 10 * second, notice: 30 * second }
    }

    fn server(&self) -> &dyn Server {
        &self.cluster
    }

    async fn put_config(&self, service: &ServiceName, config: Option<&[u8]>) {
        let (mut client, key) = (self.client().await, key(service, "@config"));
        match config {
            Some(config) => drop(client.put(key, config, None).await.unwrap()),
            None => assert_eq!(client.delete(key, None).await.unwrap().deleted(), 1),
        }
    }

    async fn put_record(&self, service: &ServiceName, id: &str, record: &Instance) {
        self.client().await.put(key(service, id), encode(record), None).await.unwrap();
    }

    async fn put_garbage(&self, service: &ServiceName) {
        self.client().await.put(key(service, "garbage"), &b"\xff{}"[..], None).await.unwrap();
    }

    async fn delete(&self, service: &ServiceName, instance: &Instance) {
        let deleted = self.client().await.delete(key(service, instance.id()), None).await.unwrap();
        assert_eq!(deleted.deleted(), 1);
    }

    async fn end_lease(&self, service: &ServiceName, instance: &Instance) {
        let mut client = self.client().await;
        let there = client.get(key(service, instance.id()), None).await.unwrap();
        client.lease_revoke(there.kvs()[0].lease()).await.unwrap();
    }

    async fn watches(&self) -> usize {
        let mut watches = 0.0;
        for address in self.cluster.addresses() {
            watches += figure(address, "etcd_debugging_mvcc_watcher_total").await;
        }
        watches as usize
    }
}
