#![doc = include_str!("../README.md")]

mod board;
mod config;
mod connection;
mod entry;
mod failure;
mod feed;
mod feeds;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod keeper;
mod layout;
mod lease;
mod list;
mod settings;
mod tls;
mod url;
mod watch;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard_core::{Instance, Lease, Registry, Resolver, Result, ServiceName, Snapshots, Target, TargetOptions};

pub use self::settings::EtcdBuilder;

use self::board::Board;
use self::connection::{Connection, ours};
use self::layout::Layout;

/// etcd as a registry and as a resolver. Clones share one client for each tokio runtime: one connection to each member,
/// one stream that keeps all leases alive, and one that carries all watches.
///
/// It is made without I/O. A client is made when it is first used in a runtime, and ends with that. So one `Etcd` may
/// serve many runtimes, one after the other or at the same time; what is opened in one of them, a lease or a watch,
/// belongs there, and ends with it: the lease is [`Lost`](callboard_core::ErrorKind::Lost).
#[derive(Clone)]
pub struct Etcd(Arc<Shared>);

struct Shared {
    connection: Arc<Connection>,
    layout: Layout,
    ttl: Duration,
    relist: Duration,
}

impl Etcd {
    /// Begins with the members of a cluster, each `host`, `host:port`, `[v6]` or `[v6]:port`. The port is 2379 by
    /// default.
    pub fn builder<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> EtcdBuilder {
        EtcdBuilder::new(endpoints.into_iter().map(Into::into).collect())
    }

    /// Reads all settings from a dial URL, such as `etcd://user:password@h1,h2:2379/project/test?ttl=10s&prefix=/x`.
    /// The keys are those of the table above. Files that it names are read here, and again for each client that is made.
    ///
    /// ```
    /// use callboard_core::Target;
    /// use callboard_etcd::Etcd;
    ///
    /// let target: Target = "etcd://10.0.0.1:2379,10.0.0.2:2379/project/test?ttl=10s".parse()?;
    /// let mut options = target.options();
    /// let etcd = Etcd::from_target(&target, &mut options)?;
    /// options.finish()?;
    /// # Ok::<(), callboard_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Invalid`](callboard_core::ErrorKind::Invalid), naming the key, and why its value cannot be used.
    pub fn from_target(target: &Target, options: &mut TargetOptions<'_>) -> Result<Self> {
        url::builder(target, options).map_err(ours)?.build()
    }
}

#[async_trait]
impl Registry for Etcd {
    async fn register(&self, service: &ServiceName, instance: &Instance) -> Result<Box<dyn Lease>> {
        let Shared { connection, layout, ttl, .. } = &*self.0;
        let key = layout.key(service, instance.id());
        let lease = lease::register(connection, *ttl, (service, key), instance).await;
        Ok(Box::new(lease.map_err(|error| ours(error).for_service(service))?))
    }

    async fn put_service_config(&self, service: &ServiceName, config: Option<&str>) -> Result<()> {
        let Shared { connection, layout, .. } = &*self.0;
        config::put_service_config(connection, &layout.directory(service).config(), service, config).await
    }
}

impl Resolver for Etcd {
    fn watch(&self, service: &ServiceName) -> Snapshots {
        let Shared { connection, layout, relist, .. } = &*self.0;
        let board = Board::new(service.clone(), layout.directory(service));
        watch::watch(Arc::clone(connection), board, *relist)
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { connection, layout, ttl, relist, .. } = &*self.0;
        f.debug_struct("Etcd")
            .field("connection", connection)
            .field("prefix", &layout.prefix())
            .field("ttl", ttl)
            .field("relist", relist)
            .finish_non_exhaustive()
    }
}
