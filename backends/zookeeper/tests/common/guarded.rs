//! A ZooKeeper that asks who may read.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard_conformance::{Bounds, Harness, Rights};
use callboard_core::{Instance, Registry, Resolver, ServiceName};
use callboard_zookeeper::{ZooKeeper, ZooKeeperAccess};
use zookeeper_client as zk;

use super::{SESSION, Zoo, directory, service};

/// A [`Zoo`] whose servers show a password, and whose resolvers show none. Whatever is made there belongs to everybody.
#[derive(Debug)]
pub(crate) struct Guarded(pub(crate) Zoo);

impl Guarded {
    fn known(&self) -> ZooKeeper {
        let builder = ZooKeeper::builder(self.0.hosts()).session(SESSION).digest("app", "hunter2");
        builder.access(ZooKeeperAccess::Open).build().unwrap()
    }

    async fn permit(&self, others: zk::Permission) {
        let hand = zk::Client::connector().with_auth("digest", b"app:hunter2");
        let hand = hand.connect(&self.0.hosts().join(",")).await.unwrap();
        let list = [
            zk::Acl::new(zk::Permission::ALL, zk::AuthId::new("auth", "")),
            zk::Acl::new(others, zk::AuthId::anyone()),
        ];
        hand.set_acl(&directory(&service()), &list, None).await.unwrap();
    }
}

#[async_trait]
impl Rights for Guarded {
    async fn forbid_reading(&self) {
        use zk::Permission as P;
        self.permit(P::WRITE | P::CREATE | P::DELETE | P::ADMIN).await;
    }

    async fn permit_reading(&self) {
        self.permit(zk::Permission::ALL).await;
    }

    fn observer(&self) -> Arc<dyn Resolver> {
        Arc::new(self.known())
    }
}

#[async_trait]
impl Harness for Guarded {
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(self.known())
    }

    fn resolver(&self) -> Arc<dyn Resolver> {
        self.0.resolver()
    }

    fn bounds(&self) -> Bounds {
        // Rights that are taken away are told by nobody, and found out by asking.
        Bounds { notice: Duration::from_secs(30), ..self.0.bounds() }
    }

    async fn kill(&self) {
        self.0.kill().await;
    }

    async fn restart(&self) {
        self.0.restart().await;
    }

    async fn pause(&self) {
        self.0.pause().await;
    }

    async fn resume(&self) {
        self.0.resume().await;
    }

    async fn wipe(&self) {
        self.0.wipe().await;
    }

    async fn put_config(&self, service: &ServiceName, config: Option<&[u8]>) {
        self.0.put_config(service, config).await;
    }

    async fn put_record(&self, service: &ServiceName, id: &str, record: &Instance) {
        self.0.put_record(service, id, record).await;
    }

    async fn put_garbage(&self, service: &ServiceName) {
        self.0.put_garbage(service).await;
    }

    async fn delete(&self, service: &ServiceName, instance: &Instance) {
        self.0.delete(service, instance).await;
    }

    async fn end_lease(&self, service: &ServiceName, instance: &Instance) {
        self.0.end_lease(service, instance).await;
    }

    async fn watches(&self) -> usize {
        self.0.watches().await
    }
}
