//! A ZooKeeper whose servers log in, so that resolvers, which do not, can be forbidden to read.

use std::sync::Arc;

use async_trait::async_trait;
use callboard_conformance::Rights;
use callboard_core::Resolver;
use callboard_zookeeper::{ZooKeeper, ZooKeeperAccess};
use zookeeper_client as zk;

use super::{SESSION, Zoo, directory, service};

impl Zoo {
    /// One server. Everybody may change the nodes that are made there.
    pub(crate) async fn guarded() -> Self {
        Self { guarded: true, ..Self::start(1).await }
    }

    /// A backend that logs in.
    pub(crate) fn logged_in(&self) -> ZooKeeper {
        let builder = ZooKeeper::builder(self.hosts()).session(SESSION).digest("app", "hunter2");
        builder.access(ZooKeeperAccess::Open).build().unwrap()
    }

    async fn permit(&self, others: zk::Permission) {
        let hand = zk::Client::connector().with_auth("digest", b"app:hunter2");
        let hand = hand.connect(&self.hosts().join(",")).await.unwrap();
        let list = [
            zk::Acl::new(zk::Permission::ALL, zk::AuthId::new("auth", "")),
            zk::Acl::new(others, zk::AuthId::anyone()),
        ];
        hand.set_acl(&directory(&service()), &list, None).await.unwrap();
    }
}

#[async_trait]
impl Rights for Zoo {
    async fn forbid_reading(&self) {
        use zk::Permission as P;
        self.permit(P::WRITE | P::CREATE | P::DELETE | P::ADMIN).await;
    }

    async fn permit_reading(&self) {
        self.permit(zk::Permission::ALL).await;
    }

    fn observer(&self) -> Arc<dyn Resolver> {
        Arc::new(self.logged_in())
    }
}
