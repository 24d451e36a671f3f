//! Servers, and proxies in front of them.

use std::net::SocketAddr;
use std::time::Duration;

use callboard_echo::EchoServer;
use callboard_servers::{Cluster, Setup};

use crate::client::Client;
use crate::load::{Load, Wish};

/// One proxy, or several that do not know each other, each in front of the same two servers.
pub(crate) struct Scene {
    pub(crate) client: Client,
    pub(crate) proxies: Cluster,
    pub(crate) servers: Vec<EchoServer>,
}

impl Scene {
    pub(crate) async fn new(prepare: fn(&[SocketAddr]) -> Setup, proxies: usize, config: &[&str]) -> Self {
        let mut servers = Vec::new();
        for id in ["a", "b"] {
            servers.push(EchoServer::start(id).await.unwrap());
        }
        let to: Vec<_> = servers.iter().map(EchoServer::address).collect();
        let setup = config.iter().fold(prepare(&to), |setup, line| setup.config(*line));
        Self { client: Client::chosen(), proxies: setup.nodes(proxies).start().await, servers }
    }

    pub(crate) async fn load(&self, wish: Wish) -> Load {
        Load::start(self.client, &self.proxies.addresses(), wish).await
    }
}

/// How long calls are made in a case, or between two events of one.
pub(crate) const LONG: Duration = Duration::from_millis(2500);
