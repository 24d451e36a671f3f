//! [`Etcd`]: etcd as a registry and as a resolver.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard_core::{Instance, Lease, Registry, Resolver, Result, ServiceName, Snapshots};

use crate::client::Client;
use crate::record::Layout;
use crate::{config, lease, watch};

/// etcd as a registry and as a resolver. Clones share one client for each tokio runtime: one connection to each member,
/// one stream that keeps all leases alive, and one that carries all watches.
///
/// It is made without I/O. A client connects when it is first used in a runtime, and ends with that runtime. One `Etcd`
/// may serve several runtimes, one after the other or at the same time. A lease or a watch belongs to the runtime in
/// which it was opened and ends with it: the lease is then [`Lost`](callboard_core::ErrorKind::Lost).
#[derive(Clone)]
pub struct Etcd(Arc<Shared>);

struct Shared {
    client: Arc<Client>,
    layout: Layout,
    ttl: Duration,
    relist: Duration,
}

impl Etcd {
    /// Makes one of settings that have been checked.
    pub(crate) fn new(client: Client, layout: Layout, ttl: Duration, relist: Duration) -> Self {
        Self(Arc::new(Shared { client: Arc::new(client), layout, ttl, relist }))
    }
}

#[async_trait]
impl Registry for Etcd {
    async fn register(&self, service: &ServiceName, instance: &Instance) -> Result<Box<dyn Lease>> {
        let Shared { client, layout, ttl, .. } = &*self.0;
        let key = layout.key(service, instance.id());
        Ok(Box::new(lease::register(client, *ttl, (service, key), instance).await?))
    }

    async fn put_service_config(&self, service: &ServiceName, config: Option<&str>) -> Result<()> {
        let Shared { client, layout, .. } = &*self.0;
        config::put_service_config(client, &layout.directory(service).config(), service, config).await
    }
}

impl Resolver for Etcd {
    fn watch(&self, service: &ServiceName) -> Snapshots {
        let Shared { client, layout, relist, .. } = &*self.0;
        watch::watch(Arc::clone(client), service, layout.directory(service), *relist)
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { client, layout, ttl, relist } = &*self.0;
        f.debug_struct("Etcd")
            .field("client", client)
            .field("prefix", &layout.prefix())
            .field("ttl", ttl)
            .field("relist", relist)
            .finish()
    }
}
