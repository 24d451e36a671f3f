//! [`ZooKeeper`]: ZooKeeper as a registry and as a resolver.

use std::sync::Arc;

use async_trait::async_trait;
use callboard_core::{Instance, Lease, Registry, Resolver, Result, ServiceName, Snapshots};

use crate::client::{Client, Settings};
use crate::lease::{Claims, ZooKeeperLease};
use crate::record::{self, Place};
use crate::{config, watch};

/// A registry in ZooKeeper, and its resolver. Clones share one session on each tokio runtime, which is made at the
/// first use there. So cloning is all it takes to share, whatever the number of services.
///
/// Use it within a tokio runtime. A lease or a watch ends with the runtime in which it was made.
#[derive(Clone, Debug)]
pub struct ZooKeeper(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: Arc<Client>,
    claims: Arc<Claims>,
}

impl ZooKeeper {
    /// Makes one of settings that have been checked.
    pub(crate) fn new(settings: Settings) -> Self {
        Self(Arc::new(Shared { client: Arc::new(Client::new(settings)), claims: Arc::default() }))
    }
}

#[async_trait]
impl Registry for ZooKeeper {
    async fn register(&self, service: &ServiceName, instance: &Instance) -> Result<Box<dyn Lease>> {
        let Shared { client, claims } = &*self.0;
        let place = Place::new(record::directory(&client.settings.prefix, service)?, instance);
        let session = client.session().await.map_err(|error| error.for_service(service))?;
        let mut lease = ZooKeeperLease::new(session, claims, service, place);
        lease.publish(instance, &client.settings.acl).await?;
        Ok(Box::new(lease))
    }

    async fn put_service_config(&self, service: &ServiceName, config: Option<&str>) -> Result<()> {
        config::put_service_config(&self.0.client, service, config).await
    }
}

impl Resolver for ZooKeeper {
    fn watch(&self, service: &ServiceName) -> Snapshots {
        watch::watch(Arc::clone(&self.0.client), service.clone())
    }
}
