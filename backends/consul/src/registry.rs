//! The type that is registry and resolver.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use callboard_core::{Error, ErrorKind, Instance, Lease, Registry, Resolver, Result, ServiceName, Snapshots};

use crate::error::at;
use crate::lease::{self, Leases};
use crate::watch::{self, Watches};

/// Services in Consul: registered with the local agent, watched by blocking queries. Clones share their connections.
///
/// It is made without I/O: the agent need not be there yet.
///
/// ```no_run
/// use callboard_consul::Consul;
/// use callboard_core::{Instance, Registry};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> callboard_core::Result<()> {
/// let consul = Consul::builder().address("127.0.0.1:8500").build()?;
/// let instance = Instance::at("10.0.0.7:50051".parse()?)?;
/// let lease = consul.register(&"project-test".parse()?, &instance).await?;
/// lease.revoke().await
/// # }
/// ```
#[derive(Clone)]
pub struct Consul {
    leases: Arc<Leases>,
    watches: Arc<Watches>,
}

impl Consul {
    pub(crate) fn new(leases: Leases, watches: Watches) -> Self {
        Self { leases: Arc::new(leases), watches: Arc::new(watches) }
    }
}

impl fmt::Debug for Consul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Watches { agent, options, wait, configs } = &*self.watches;
        f.debug_struct("Consul")
            .field("agent", agent)
            .field("options", options)
            .field("wait", wait)
            .field("configs", &configs.is_some())
            .field("tags", &self.leases.tags)
            .field("checks", &self.leases.checks)
            .finish()
    }
}

#[async_trait]
impl Registry for Consul {
    async fn register(&self, service: &ServiceName, instance: &Instance) -> Result<Box<dyn Lease>> {
        lease::register(&self.leases, service, instance).await.map_err(at(service))
    }

    async fn put_service_config(&self, service: &ServiceName, config: Option<&str>) -> Result<()> {
        let off = || Error::new(ErrorKind::Unsupported, "configs are turned off here, by the setting config");
        let put = async { self.watches.configs.as_ref().ok_or_else(off)?.put(service, config).await };
        put.await.map_err(at(service))
    }
}

impl Resolver for Consul {
    fn watch(&self, service: &ServiceName) -> Snapshots {
        watch::watch(&self.watches, service)
    }
}
