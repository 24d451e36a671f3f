//! [`Memory`]: a registry and a resolver in one process.

use async_trait::async_trait;
use callboard_core::{Instance, Lease, Registry, Resolver, Result, ServiceName, Snapshots};

use crate::lease::MemoryLease;
use crate::store::SharedStore;
use crate::watch;

/// A registry in memory, and its resolver. Clones share one store, which is empty at first.
#[derive(Clone, Debug, Default)]
pub struct Memory(pub(crate) SharedStore);

#[async_trait]
impl Registry for Memory {
    async fn register(&self, service: &ServiceName, instance: &Instance) -> Result<Box<dyn Lease>> {
        let mut lease = MemoryLease::new(self.0.clone(), service, instance);
        lease.update(instance).await?;
        Ok(Box::new(lease))
    }

    async fn put_service_config(&self, service: &ServiceName, config: Option<&str>) -> Result<()> {
        self.0.reach().await?;
        self.0.put_config(service, config.map(str::as_bytes));
        Ok(())
    }
}

impl Resolver for Memory {
    fn watch(&self, service: &ServiceName) -> Snapshots {
        watch::watch(&self.0, service)
    }
}
