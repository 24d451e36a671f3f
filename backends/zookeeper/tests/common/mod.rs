//! A real ZooKeeper, and what a person can do to it with its own tools.
#![allow(dead_code, reason = "not every test needs all of it")]
#![allow(clippy::unwrap_used, reason = "clippy knows the tests, but not their helpers")]

mod gap_watch;
mod guarded;
mod session;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard_conformance::{Bounds, Harness, Server};
use callboard_core::{Instance, Registry, Resolver, ServiceName, encode};
use callboard_servers::{Cluster, Setup, ask};
use callboard_zookeeper::ZooKeeper;
use zookeeper_client as zk;

#[allow(unused_imports, reason = "not every test looks for gaps")]
pub(crate) use gap_watch::GapWatch;

/// The shortest that is allowed, as tests wait for it to pass.
pub(crate) const SESSION: Duration = Duration::from_secs(6);
/// The user that may do everything, on every server that these tests start.
const SUPER: &str = "super:tests";
const SUPER_DIGEST: &str = "9G470tPHK3ZqT2WT/hS/SEaJIEM=";
/// Long enough for anything that is expected to work at once, on a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Zoo {
    pub(crate) servers: Cluster,
    /// Whether its registries log in, so that resolvers can be forbidden to read.
    guarded: bool,
}

impl Zoo {
    pub(crate) async fn start(nodes: usize) -> Self {
        Self::with(Cluster::zookeeper().nodes(nodes)).await
    }

    /// With settings of one's own.
    pub(crate) async fn with(setup: Setup) -> Self {
        let super_digest = format!("-Dzookeeper.DigestAuthenticationProvider.superDigest=super:{SUPER_DIGEST}");
        Self::of(setup.arg(super_digest).start().await)
    }

    /// These servers.
    pub(crate) fn of(servers: Cluster) -> Self {
        Self { servers, guarded: false }
    }

    pub(crate) fn hosts(&self) -> Vec<String> {
        self.servers.addresses().iter().map(ToString::to_string).collect()
    }

    /// A backend as another process would have it.
    pub(crate) fn zookeeper(&self) -> ZooKeeper {
        ZooKeeper::builder(self.hosts()).session(SESSION).build().unwrap()
    }

    /// A client that knows nothing of callboard.
    pub(crate) async fn hand(&self) -> zk::Client {
        zk::Client::connect(&self.hosts().join(",")).await.unwrap()
    }

    /// The nodes of this instance, each with its owner.
    pub(crate) async fn nodes_of(&self, service: &ServiceName, id: &str) -> Vec<(String, i64)> {
        let (hand, directory) = (self.hand().await, directory(service));
        let mut nodes = Vec::new();
        for name in hand.list_children(&directory).await.unwrap_or_default() {
            if name.rsplit_once("--").is_some_and(|(other, _)| other == id) {
                let path = format!("{directory}/{name}");
                let owner = hand.check_stat(&path).await.unwrap().map(|stat| stat.ephemeral_owner);
                nodes.extend(owner.map(|owner| (path, owner)));
            }
        }
        nodes
    }

    /// The only node of this instance.
    pub(crate) async fn node_of(&self, service: &ServiceName, id: &str) -> (String, i64) {
        let nodes = self.nodes_of(service, id).await;
        assert_eq!(nodes.len(), 1, "one node of {id}: {nodes:?}");
        nodes.into_iter().next().unwrap()
    }

    /// The number of the server that this session is connected to.
    pub(crate) async fn server_of(&self, session: i64) -> Option<usize> {
        for (number, address) in self.servers.addresses().into_iter().enumerate() {
            let connections = ask::four_letters(address, "cons").await.unwrap_or_default();
            if connections.contains(&format!("sid={session:#x},")) {
                return Some(number);
            }
        }
        None
    }

    /// Lets all clients do everything with a node again, whatever its access list says.
    pub(crate) async fn allow(&self, path: &str) {
        let hand = zk::Client::connector().with_auth("digest", SUPER.as_bytes());
        let hand = hand.connect(&self.hosts().join(",")).await.unwrap();
        hand.set_acl(path, &zk::Acls::anyone_all(), None).await.unwrap();
    }

    /// Ends a session without its owner.
    pub(crate) async fn end_session(&self, id: i64) {
        session::end(self.servers.address(), id).await.unwrap();
    }
}

pub(crate) fn directory(service: &ServiceName) -> String {
    format!("/callboard/{service}")
}

/// Written by hand: these tests know it, so that a change of it is noticed.
pub(crate) fn config_of(service: &ServiceName) -> String {
    format!("{}/@config", directory(service))
}

#[async_trait]
impl Harness for Zoo {
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(if self.guarded { self.logged_in() } else { self.zookeeper() })
    }

    fn resolver(&self) -> Arc<dyn Resolver> {
        Arc::new(self.zookeeper())
    }

    fn bounds(&self) -> Bounds {
        let heal = Duration::from_secs(10);
        // ZooKeeper does not report that a right is taken away, so it is checked now and then.
        let notice = if self.guarded { Duration::from_secs(30) } else { heal };
        Bounds { expiry: 2 * SESSION, heal, notice }
    }

    fn server(&self) -> &dyn Server {
        &self.servers
    }

    async fn put_config(&self, service: &ServiceName, config: Option<&[u8]>) {
        let (hand, path) = (self.hand().await, config_of(service));
        let Some(config) = config else { return hand.delete(&path, None).await.unwrap() };
        let options = zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all());
        hand.mkdir(&path, &options).await.unwrap();
        hand.set_data(&path, config, None).await.unwrap();
    }

    async fn put_record(&self, service: &ServiceName, id: &str, record: &Instance) {
        let (hand, directory) = (self.hand().await, directory(service));
        let options = zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all());
        hand.mkdir(&directory, &options).await.unwrap();
        let path = format!("{directory}/{id}--{}", record.incarnation());
        hand.create(&path, encode(record).as_bytes(), &options).await.unwrap();
    }

    async fn put_garbage(&self, service: &ServiceName) {
        let (hand, directory) = (self.hand().await, directory(service));
        let options = zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all());
        hand.mkdir(&directory, &options).await.unwrap();
        hand.create(&format!("{directory}/garbage--1"), b"\xff{}", &options).await.unwrap();
    }

    async fn delete(&self, service: &ServiceName, instance: &Instance) {
        let (path, _) = self.node_of(service, instance.id()).await;
        self.hand().await.delete(&path, None).await.unwrap();
    }

    async fn end_lease(&self, service: &ServiceName, instance: &Instance) {
        let (_, owner) = self.node_of(service, instance.id()).await;
        self.end_session(owner).await;
    }

    async fn watches(&self) -> usize {
        let mut watches = 0;
        for address in self.servers.addresses() {
            // The command for watches, `wchs`, leaves out those on children.
            let answer = ask::four_letters(address, "mntr").await.unwrap();
            let count = answer.lines().find_map(|line| line.strip_prefix("zk_watch_count")).expect("a count");
            watches += count.trim().parse::<usize>().unwrap();
        }
        watches
    }
}

pub(crate) fn service() -> ServiceName {
    "project/test".parse().unwrap()
}

pub(crate) fn instance(id: &str) -> Instance {
    Instance::new(id, "127.0.0.1:50051".parse().unwrap()).unwrap()
}

/// Waits until the closure returns a value.
pub(crate) async fn until<T>(what: &str, mut so: impl AsyncFnMut() -> Option<T>) -> T {
    let give_up = tokio::time::Instant::now() + SOON;
    loop {
        if let Some(so) = so().await {
            return so;
        }
        assert!(tokio::time::Instant::now() < give_up, "not within {SOON:?}: {what}");
        // There is no notification of it, so it is polled.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
