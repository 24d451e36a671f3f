//! How to leave something in each kind of server, and to look for it.

pub(crate) mod consul;
pub(crate) mod etcd;
pub(crate) mod zookeeper;

use std::net::SocketAddr;

use async_trait::async_trait;
use callboard_servers::{Cluster, Setup};

/// A kind of server, and one thing that can be stored there.
#[async_trait]
pub(crate) trait Store: Sync {
    fn setup(&self) -> Setup;

    /// Stores it.
    async fn put(&self, address: SocketAddr) -> std::io::Result<()>;

    /// Whether it is stored.
    async fn has(&self, address: SocketAddr) -> std::io::Result<bool>;

    /// One server that has it.
    async fn filled(&self) -> Cluster {
        let cluster = self.setup().start().await;
        self.put(cluster.address()).await.expect("a server that runs stores");
        assert!(self.has(cluster.address()).await.expect("a server that runs answers"));
        cluster
    }
}
