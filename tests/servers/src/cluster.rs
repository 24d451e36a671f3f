//! One server, or several that belong together.

use std::net::SocketAddr;
use std::sync::Arc;

use callboard_raw::Mode;
use tokio::time::{Instant, sleep};

use crate::consul::Consul;
use crate::envoy::Envoy;
use crate::etcd::Etcd;
use crate::haproxy::Haproxy;
use crate::nghttpx::Nghttpx;
use crate::nginx::Nginx;
use crate::node::{LIMIT, Node, OFTEN};
use crate::plan::Plan;
use crate::setup::Setup;
use crate::zookeeper::Zookeeper;

/// Real servers on free ports of 127.0.0.1, which store what they store in a directory of their own. Dropping it ends
/// and removes all of it; so does the end of the test, whatever it ends by.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    plan: Arc<Plan>,
}

impl Cluster {
    /// Prepares etcd.
    pub fn etcd() -> Setup {
        Setup::new(Arc::new(Etcd))
    }

    /// Prepares ZooKeeper, with sessions of 2 s and longer.
    pub fn zookeeper() -> Setup {
        Setup::new(Arc::new(Zookeeper))
    }

    /// Prepares Consul servers, which are agents too.
    pub fn consul() -> Setup {
        Setup::new(Arc::new(Consul { dev: false }))
    }

    /// Prepares a Consul agent in its development mode: it starts sooner and answers faster, and a restart loses
    /// everything. There is only one of it.
    pub fn consul_dev() -> Setup {
        Setup::new(Arc::new(Consul { dev: true }))
    }

    /// Prepares nginx as a gRPC proxy in front of these servers, each node by itself. Its [`config`](Setup::config) are
    /// directives of a `server` block. It serves without TLS, as the other proxies do.
    pub fn nginx(to: &[SocketAddr]) -> Setup {
        Setup::new(Arc::new(Nginx { to: to.to_vec() }))
    }

    /// Prepares HAProxy in the same way. Its [`config`](Setup::config) are lines of a `frontend`, but for a `timeout`, which
    /// holds on both sides.
    pub fn haproxy(to: &[SocketAddr]) -> Setup {
        Setup::new(Arc::new(Haproxy { to: to.to_vec() }))
    }

    /// Prepares nghttpx in the same way. Its [`config`](Setup::config) are lines `key=value`.
    pub fn nghttpx(to: &[SocketAddr]) -> Setup {
        Setup::new(Arc::new(Nghttpx { to: to.to_vec() }))
    }

    /// Prepares Envoy in the same way. Its [`config`](Setup::config) are fields of its HTTP connection manager, in YAML,
    /// a field a line.
    pub fn envoy(to: &[SocketAddr]) -> Setup {
        Setup::new(Arc::new(Envoy { to: to.to_vec() }))
    }

    /// Starts all and waits until they answer.
    pub(crate) async fn with(plan: Plan) -> Result<Self, String> {
        let plan = Arc::new(plan);
        let nodes = (0..plan.places.len()).map(|number| Node::new(Arc::clone(&plan), number)).collect();
        let cluster = Self { nodes, plan };
        cluster.try_start().await.map(|()| cluster)
    }

    /// Where clients reach the nodes. It stays the same.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Node::address).collect()
    }

    /// Where clients reach the first node.
    pub fn address(&self) -> SocketAddr {
        self.node(0).address()
    }

    /// One node, counted from 0.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Kills all nodes, as [`Node::kill`] does.
    pub async fn kill(&self) {
        for node in &self.nodes {
            node.kill().await;
        }
    }

    /// Pauses all nodes, as [`Node::pause`] does.
    ///
    /// # Panics
    /// If one does not run.
    pub fn pause(&self) {
        self.nodes.iter().for_each(Node::pause);
    }

    /// Resumes all nodes, as [`Node::resume`] does.
    ///
    /// # Panics
    /// If one does not run.
    pub fn resume(&self) {
        self.nodes.iter().for_each(Node::resume);
    }

    /// Starts all nodes that do not run, each on its data, and waits until all nodes answer.
    ///
    /// # Panics
    /// If one ends instead, or does not answer within a minute, with its log.
    pub async fn start(&self) {
        self.try_start().await.unwrap_or_else(|reason| panic!("{reason}"));
    }

    /// Kills all nodes and starts them on their data.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn restart(&self) {
        self.kill().await;
        self.start().await;
    }

    /// Kills all nodes and starts them with nothing.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn wipe(&self) {
        self.kill().await;
        self.nodes.iter().for_each(Node::erase);
        self.start().await;
    }

    /// Cuts a member off from the others, but not from its clients.
    ///
    /// Between etcd's members nothing passes any more, and nothing is closed; the others go on without it. (On Linux;
    /// elsewhere as for the rest.) ZooKeeper's and Consul's members cannot be parted: the others are paused, so that
    /// they answer nobody.
    ///
    /// # Panics
    /// If the others are to be paused, and one does not run.
    pub async fn isolate(&self, number: usize) {
        match &self.plan.links {
            Some(links) => links.set(number, Mode::BlackHole).await,
            None => self.others(number).for_each(Node::pause),
        }
    }

    /// Ends what [`isolate`](Self::isolate) has begun.
    ///
    /// # Panics
    /// If the others are paused, and one does not run.
    pub async fn heal(&self, number: usize) {
        match &self.plan.links {
            Some(links) => links.set(number, Mode::Pass).await,
            None => self.others(number).for_each(Node::resume),
        }
    }

    fn others(&self, number: usize) -> impl Iterator<Item = &Node> {
        self.nodes.iter().enumerate().filter(move |(other, _)| *other != number).map(|(_, node)| node)
    }

    /// Which node leads, once one says so. One that has just been isolated may believe it for a moment more.
    ///
    /// # Panics
    /// If none does within a minute.
    pub async fn leader(&self) -> usize {
        let deadline = Instant::now() + LIMIT;
        loop {
            for (number, node) in self.nodes.iter().enumerate() {
                if node.id().is_some() && node.leads().await {
                    return number;
                }
            }
            if Instant::now() > deadline {
                let logs: String = self.nodes.iter().map(Node::log).collect();
                panic!("no node leads after {LIMIT:?}; the logs:\n{logs}");
            }
            sleep(OFTEN).await;
        }
    }

    async fn try_start(&self) -> Result<(), String> {
        for node in &self.nodes {
            node.spawn().await;
        }
        for node in &self.nodes {
            node.ready().await?;
        }
        Ok(())
    }
}
