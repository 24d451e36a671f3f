//! The backend.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard_core::{
    Error, ErrorKind, Instance, Lease, Registry, Resolver, Result, ServiceName, Snapshots, Target, TargetOptions,
};

use crate::ConsulBuilder;
use crate::agent::Agent;
use crate::checks::Checks;
use crate::config::Configs;
use crate::entries::Entries;
use crate::guard::Guards;
use crate::http::Options;
use crate::{register, url, watch};

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
pub struct Consul(Arc<Inner>);

/// What registrations and watches share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) agent: Agent,
    pub(crate) query: Query,
    pub(crate) tags: Vec<String>,
    pub(crate) checks: Checks,
    pub(crate) guards: Guards,
    pub(crate) entries: Entries,
}

/// What a watch asks for.
#[derive(Debug)]
pub(crate) struct Query {
    /// Everything but `index` and `wait`.
    pub(crate) options: Options,
    pub(crate) wait: Duration,
    /// None if nobody wants to know of a config.
    pub(crate) configs: Option<Arc<Configs>>,
}

impl Consul {
    /// Begins with the defaults: see each setting.
    pub fn builder() -> ConsulBuilder {
        ConsulBuilder::default()
    }

    /// Reads the settings from a dial URL, such as `consul://127.0.0.1:8500/project-test?dc=dc1&ttl=15s`. The crate's
    /// own page lists the keys. The service in the URL is not looked at here.
    ///
    /// # Errors
    /// [`Invalid`](callboard_core::ErrorKind::Invalid), naming the part of the URL, or the key and what is expected.
    pub fn from_target(target: &Target, options: &mut TargetOptions<'_>) -> Result<Self> {
        url::builder(target, options).map_err(|error| error.in_backend("consul"))?.build()
    }

    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }
}

impl fmt::Debug for Consul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { agent, query, tags, checks, .. } = &*self.0;
        f.debug_struct("Consul")
            .field("agent", agent)
            .field("query", query)
            .field("tags", tags)
            .field("checks", checks)
            .finish()
    }
}

#[async_trait]
impl Registry for Consul {
    async fn register(&self, service: &ServiceName, instance: &Instance) -> Result<Box<dyn Lease>> {
        register::register(&self.0, service, instance).await.map_err(at(service))
    }

    async fn put_service_config(&self, service: &ServiceName, config: Option<&str>) -> Result<()> {
        let Inner { agent, query, .. } = &*self.0;
        let off = || Error::new(ErrorKind::Unsupported, "configs are turned off here, by the setting config");
        let put = async { query.configs.as_ref().ok_or_else(off)?.put(agent, service, config).await };
        put.await.map_err(at(service))
    }
}

impl Resolver for Consul {
    fn watch(&self, service: &ServiceName) -> Snapshots {
        watch::watch(Arc::clone(&self.0), service)
    }
}

/// Says of an error where it happened.
pub(crate) fn at(service: &ServiceName) -> impl Fn(Error) -> Error + '_ {
    move |error| error.in_backend("consul").for_service(service)
}
