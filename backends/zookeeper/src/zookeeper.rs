//! The type that is registry and resolver.

use std::sync::Arc;

use async_trait::async_trait;
use callboard_core::{
    Error, Instance, Lease, Registry, Resolver, Result, ServiceName, Snapshots, Target, TargetOptions,
};

use crate::layout::{self, Place};
use crate::lease::ZooKeeperLease;
use crate::sessions::Sessions;
use crate::settings::Settings;
use crate::{ZooKeeperBuilder, config, target, watch};

/// A registry in ZooKeeper, and its resolver. Clones share one session on each tokio runtime, which is made at the first
/// use there. So cloning is all it takes to share, whatever the number of services.
///
/// Whatever is done with it has to be done within a tokio runtime. What is made on one ends with it.
#[derive(Clone, Debug)]
pub struct ZooKeeper(Arc<Sessions>);

impl ZooKeeper {
    /// Begins to make one. Hosts are `host`, `host:port`, `[v6]` or `[v6]:port`, with port 2181 by default. Name all
    /// members of the ensemble: one that is not named is no help when the others are gone.
    pub fn builder<H: Into<String>>(hosts: impl IntoIterator<Item = H>) -> ZooKeeperBuilder {
        ZooKeeperBuilder::new(hosts.into_iter().map(Into::into).collect())
    }

    /// Makes one as a dial URL says: `zookeeper://[user:password@]host[:port][,...]/service[?key=value&...]`. The
    /// crate's page lists the keys. The service is not looked at. No server is asked; files that are named are read.
    ///
    /// ```
    /// use callboard_core::Target;
    /// use callboard_zookeeper::ZooKeeper;
    ///
    /// let target: Target = "zookeeper://zk1,zk2,zk3/project/test?root=/services&session=20s".parse()?;
    /// let mut options = target.options();
    /// let zookeeper = ZooKeeper::from_target(&target, &mut options)?;
    /// options.finish()?;
    /// # Ok::<(), callboard_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Invalid`](callboard_core::ErrorKind::Invalid), with what is wrong.
    pub fn from_target(target: &Target, options: &mut TargetOptions<'_>) -> Result<Self> {
        target::builder(target, options)?.build()
    }

    pub(crate) fn new(settings: Settings) -> Self {
        Self(Arc::new(Sessions::new(settings)))
    }
}

#[async_trait]
impl Registry for ZooKeeper {
    async fn register(&self, service: &ServiceName, instance: &Instance) -> Result<Box<dyn Lease>> {
        let Self(sessions) = self;
        let place = Place::new(layout::directory(&sessions.settings.prefix, service)?, instance);
        let session = sessions.session().await.map_err(|error| error.for_service(service))?;
        let mut lease = ZooKeeperLease::new(session, service, place);
        lease.publish(instance, &sessions.settings.acl).await?;
        Ok(Box::new(lease))
    }

    async fn put_service_config(&self, service: &ServiceName, config: Option<&str>) -> Result<()> {
        let Self(sessions) = self;
        let Settings { prefix, acl, .. } = &sessions.settings;
        let directory = layout::directory(prefix, service)?;
        let at = |error: Error| error.for_service(service);
        let session = sessions.session().await.map_err(at)?;
        config::put_service_config(&session, &directory, acl, config).await.map_err(at)
    }
}

impl Resolver for ZooKeeper {
    fn watch(&self, service: &ServiceName) -> Snapshots {
        watch::snapshots(Arc::clone(&self.0), service.clone())
    }
}
