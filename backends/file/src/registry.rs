//! The type that is registry and resolver.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard_core::{Instance, Lease, Registry, Resolver, Result, ServiceName, Snapshots};

use crate::record::Layout;
use crate::{config, lease, watch};

/// A directory as registry, and its resolver, for the processes of one machine. Clones share its settings; there is
/// nothing else to share.
///
/// It is made without I/O. Whatever is done with it has to be done within a tokio runtime with its timers on.
#[derive(Clone, Debug)]
pub struct FileRegistry(Arc<Settings>);

#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) root: PathBuf,
    pub(crate) mode: u32,
    pub(crate) poll: Duration,
}

impl FileRegistry {
    pub(crate) fn new(settings: Settings) -> Self {
        Self(Arc::new(settings))
    }

    fn layout(&self, service: &ServiceName) -> Layout {
        Layout::new(&self.0.root, service, self.0.mode)
    }
}

#[async_trait]
impl Registry for FileRegistry {
    async fn register(&self, service: &ServiceName, instance: &Instance) -> Result<Box<dyn Lease>> {
        let lease = lease::register(self.layout(service), service, instance, self.0.poll).await;
        Ok(Box::new(lease.map_err(|error| error.for_service(service))?))
    }

    async fn put_service_config(&self, service: &ServiceName, config: Option<&str>) -> Result<()> {
        config::put_service_config(self.layout(service), service, config).await
    }
}

impl Resolver for FileRegistry {
    fn watch(&self, service: &ServiceName) -> Snapshots {
        watch::watch(self.layout(service), service.clone(), self.0.poll)
    }
}
