//! The servers as the properties of `callboard-conformance` break and mend them.

use async_trait::async_trait;
use callboard_conformance::Server;

use crate::Cluster;

#[async_trait]
impl Server for Cluster {
    async fn kill(&self) {
        self.kill().await;
    }

    async fn restart(&self) {
        self.start().await;
    }

    async fn pause(&self) {
        self.pause();
    }

    async fn resume(&self) {
        self.resume();
    }

    async fn wipe(&self) {
        self.wipe().await;
    }
}
