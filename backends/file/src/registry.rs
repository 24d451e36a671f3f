//! The type that is registry and resolver.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard_core::{Instance, Lease, Registry, Resolver, Result, ServiceName, Snapshots, Target, TargetOptions};

use crate::FileRegistryBuilder;
use crate::place::Place;
use crate::{config, lease, url, watch};

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
    /// Begins to make one with its root: an absolute path of a directory that is there. A service `project/test` is
    /// the directory `project/test` in it, which is made when the first instance registers or a config is put. A root that is not there
    /// is a registry that is out of reach.
    ///
    /// ```
    /// let directory = callboard_file::FileRegistry::builder("/run/callboard").mode(0o750).build()?;
    /// # Ok::<(), callboard_core::Error>(())
    /// ```
    pub fn builder(root: impl Into<PathBuf>) -> FileRegistryBuilder {
        FileRegistryBuilder::new(root.into())
    }

    /// Makes one as a dial URL says: `file:///path/of/service[?key=value&...]`. The crate's page lists the keys. The
    /// service is not looked at: it is the URL's whole path, below the root `/`, or below the one that the key `root`
    /// names.
    ///
    /// ```
    /// use callboard_core::Target;
    /// use callboard_file::FileRegistry;
    ///
    /// let target: Target = "file:///run/callboard/project/test?mode=0750".parse()?;
    /// let mut options = target.options();
    /// let directory = FileRegistry::from_target(&target, &mut options)?;
    /// options.finish()?;
    /// assert_eq!(target.service()?.as_str(), "run/callboard/project/test");
    /// # Ok::<(), callboard_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Invalid`](callboard_core::ErrorKind::Invalid), naming the key, and why its value cannot be used; or if the
    /// URL names a host or a user.
    pub fn from_target(target: &Target, options: &mut TargetOptions<'_>) -> Result<Self> {
        url::builder(target, options)?.build()
    }

    pub(crate) fn new(settings: Settings) -> Self {
        Self(Arc::new(settings))
    }

    fn place(&self, service: &ServiceName) -> Place {
        Place::new(&self.0.root, service, self.0.mode)
    }
}

#[async_trait]
impl Registry for FileRegistry {
    async fn register(&self, service: &ServiceName, instance: &Instance) -> Result<Box<dyn Lease>> {
        let lease = lease::register(self.place(service), service, instance, self.0.poll).await;
        Ok(Box::new(lease.map_err(|error| error.for_service(service))?))
    }

    async fn put_service_config(&self, service: &ServiceName, config: Option<&str>) -> Result<()> {
        config::put_service_config(self.place(service), service, config).await
    }
}

impl Resolver for FileRegistry {
    fn watch(&self, service: &ServiceName) -> Snapshots {
        watch::snapshots(self.place(service), service.clone(), self.0.poll)
    }
}
