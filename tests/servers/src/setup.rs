//! What a cluster is to be.

use std::sync::Arc;

use crate::cluster::Cluster;
use crate::plan::{Plan, Settings};
use crate::server::Server;

/// How often ports are looked for, if somebody else is faster.
const TRIES: usize = 3;

/// A cluster that has not been started. It has one node, if nothing else is asked for.
#[derive(Clone, Debug)]
pub struct Setup {
    settings: Settings,
}

impl Setup {
    pub(crate) fn new(server: Arc<dyn Server>) -> Self {
        Self { settings: Settings { server, nodes: 1, args: Vec::new(), config: Vec::new(), token: None } }
    }

    /// So many nodes. Three survive the loss of one.
    #[must_use]
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.settings.nodes = nodes;
        self
    }

    /// One more argument for each node. etcd and Consul take it themselves, such as `--auth-token=simple`; for
    /// ZooKeeper it is Java that does, such as `-Dzookeeper.skipACL=yes`. An etcd that is given `--cert-file=…` talks TLS
    /// with its clients.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.settings.args.push(arg.into());
        self
    }

    /// One more line of each node's configuration: `key=value` for etcd and ZooKeeper, HCL for Consul, such as
    /// `acl { enabled = true }`. What it is for a proxy stands at the function that prepares it.
    #[must_use]
    pub fn config(mut self, line: impl Into<String>) -> Self {
        self.settings.config.push(line.into());
        self
    }

    /// What this crate shows a Consul that answers nobody without an ACL token. Its configuration must know it.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.settings.token = Some(token.into());
        self
    }

    /// Starts it and waits until all nodes answer.
    ///
    /// # Panics
    /// If the server is not installed, ends, or does not answer within a minute, with its log.
    pub async fn start(self) -> Cluster {
        let mut tries = 0;
        loop {
            let plan = Plan::new(self.settings.clone()).unwrap_or_else(|error| panic!("no place for servers: {error}"));
            tries += 1;
            match Cluster::with(plan).await {
                Ok(cluster) => return cluster,
                Err(reason) if tries < TRIES && reason.contains("in use") => {}
                Err(reason) => panic!("{reason}"),
            }
        }
    }
}
