//! From a URL to a backend.

use std::sync::Arc;

use callboard_core::{Registry, Resolver, Result, Service, Target, TargetOptions};

use super::names::Names;
use crate::features::{self, Known};

/// Both sides of a backend. They share its client.
pub(crate) struct Backend {
    pub(super) registry: Arc<dyn Registry>,
    pub(super) resolver: Arc<dyn Resolver>,
}

#[cfg_attr(
    not(any(feature = "consul", feature = "etcd", feature = "file", feature = "zookeeper")),
    expect(dead_code, reason = "a memory board is not made from a URL")
)]
impl Backend {
    pub(crate) fn of(backend: impl Registry + Resolver + Clone) -> Self {
        Self { registry: Arc::new(backend.clone()), resolver: Arc::new(backend) }
    }
}

pub(crate) type MakeBackend = dyn Fn(&Target, &mut TargetOptions<'_>) -> Result<Backend> + Send + Sync;
pub(crate) type MakeResolver = dyn Fn(&Target, &mut TargetOptions<'_>) -> Result<Arc<dyn Resolver>> + Send + Sync;

/// The registry and the service that a URL names, to [`announce`](crate::announce) a server with.
///
/// The URL is that of [`dial`](crate::dial), with the query keys of the scheme's backend alone: those about calls, such
/// as `balancer`, are a client's. No I/O happens here, and the registry need not be up. The registry is what a backend's
/// own constructor gives: one that is made once can announce several servers over one connection.
///
/// ```no_run
/// # async fn doc() -> callboard::Result<()> {
/// use std::time::Duration;
/// use callboard::{AnnounceSettings, Instance, announce, registry};
///
/// let (registry, service) = registry("etcd://127.0.0.1:2379/project/test?ttl=15s")?;
/// let instance = Instance::at("10.0.0.7:50051".parse()?)?;
/// let announcement = announce(registry, &service, instance, AnnounceSettings::default());
/// announcement.on_board(Duration::from_secs(30)).await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Invalid`](callboard_core::ErrorKind::Invalid) if the URL is malformed or has a key that nobody knows;
/// [`Unsupported`](callboard_core::ErrorKind::Unsupported) if the scheme is not known, or needs a feature that is off:
/// the message says which.
pub fn registry(url: &str) -> Result<(Arc<dyn Registry>, Service)> {
    let (Backend { registry, .. }, service) = both(url)?;
    Ok((registry, service))
}

/// The resolver and the service that a URL names, to [`follow`](callboard_core::follow) who serves without calling them:
/// for dashboards, and for [external balancers](crate::lookaside).
///
/// The URL is that of [`registry`], and so are the rules.
///
/// ```no_run
/// # async fn doc() -> callboard::Result<()> {
/// use callboard::{FollowSettings, follow, resolver};
///
/// let (resolver, service) = resolver("etcd://127.0.0.1:2379/project/test")?;
/// let mut follow = follow(resolver, &service, FollowSettings::default());
/// let view = follow.changed().await;
/// println!("{:?}", view.instances);
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`registry`] says.
pub fn resolver(url: &str) -> Result<(Arc<dyn Resolver>, Service)> {
    let (Backend { resolver, .. }, service) = both(url)?;
    Ok((resolver, service))
}

fn both(url: &str) -> Result<(Backend, Service)> {
    let target: Target = url.parse()?;
    let mut options = target.options();
    let schemes: Names<MakeBackend> = Names::new("scheme", features::backends());
    let backend = schemes.find(target.scheme())?(&target, &mut options)?;
    options.finish()?;
    Ok((backend, target.service()?))
}

/// Puts a service's config into the registry that a URL names, or removes it with None. What channels could not read is
/// refused here, but for the settings of balancers, which only those can read.
///
/// The URL is that of [`registry`]. Channels to the service obey the config as soon as they hear of it, unless they are
/// told not to ([`service_config`](crate::ChannelBuilder::service_config)). It stays until it is replaced or removed. To
/// put it into a [`Registry`] that you hold, call its `configure`.
///
/// ```no_run
/// # async fn doc() -> callboard::Result<()> {
/// let url = "etcd://127.0.0.1:2379/project/test";
/// callboard::configure(url, Some(r#"{"loadBalancingConfig": [{"pick_first": {}}]}"#)).await?;
/// callboard::configure(url, None).await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`registry`] says; [`Invalid`](callboard_core::ErrorKind::Invalid), naming the field, if the config cannot be read;
/// [`Timeout`](callboard_core::ErrorKind::Timeout) after 10 s without an answer; what the registry answers, and
/// [`Unsupported`](callboard_core::ErrorKind::Unsupported) if it keeps no configs.
pub async fn configure(url: &str, config: Option<&str>) -> Result<()> {
    let (registry, service) = registry(url)?;
    callboard_core::configure(&*registry, &service, config).await
}

/// The client's side of each backend that is compiled in, by scheme.
pub(super) fn resolvers() -> impl Iterator<Item = Known<MakeResolver>> {
    features::backends().into_iter().map(|Known { name, feature, make }| {
        let resolver = |make: Arc<MakeBackend>| -> Arc<MakeResolver> {
            Arc::new(move |target, options| Ok(make(target, options)?.resolver))
        };
        Known { name, feature, make: make.map(resolver) }
    })
}
