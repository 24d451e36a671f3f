//! From a URL to a backend.

use std::sync::Arc;

use callboard_core::{Registry, Resolver, Result, ServiceName, Target, TargetOptions};

use super::clients::shared;
use super::{keys, schemes, target};
use crate::config::{Known, Names};
use crate::features::{self, Both, MakeBackend};

pub(crate) type MakeResolver = dyn Fn(&Target, &mut TargetOptions<'_>) -> Result<Arc<dyn Resolver>> + Send + Sync;

/// The registry and the service that a URL names, to [`register`](crate::register) a server with.
///
/// The URL is that of [`dial`](crate::dial). Its query keys about calls, such as `balancer`, are a client's, and passed over
/// here: what they say is not checked. No I/O happens here but the reading of files that it names, and the registry need not be up.
///
/// Whatever a process makes by URLs that say the same of the registry (scheme, user, password, hosts, and the backend's own
/// keys, word by word; not the service) shares one client of it, and so its connections: this, [`resolver`], [`put_service_config`],
/// [`dial`](crate::dial) and [`serve`](crate::serve). The client ends when the last that was made of it is dropped. For a
/// client of its own, make a backend by its builder.
///
/// ```no_run
/// # async fn doc() -> callboard::Result<()> {
/// use std::time::Duration;
/// use callboard::{RegistrationSettings, Instance, register, registry};
///
/// let (registry, service) = registry("etcd://127.0.0.1:2379/project/test?ttl=15s")?;
/// let instance = Instance::at("10.0.0.7:50051".parse()?)?;
/// let registration = register(registry, &service, instance, RegistrationSettings::default());
/// registration.wait_registered(Duration::from_secs(30)).await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Invalid`](callboard_core::ErrorKind::Invalid) if the URL is malformed or has a key that nobody knows;
/// [`Unsupported`](callboard_core::ErrorKind::Unsupported) if the scheme is not known, or needs a feature that is off:
/// the message says which.
pub fn registry(url: &str) -> Result<(Arc<dyn Registry>, ServiceName)> {
    let (backend, service) = both(url)?;
    Ok((backend, service))
}

/// The resolver and the service that a URL names, to [`watch`](callboard_core::watch) who serves without calling them:
/// for dashboards, and for [external balancers](crate::lookaside).
///
/// The URL is that of [`registry`], and so are the rules.
///
/// ```no_run
/// # async fn doc() -> callboard::Result<()> {
/// use callboard::{WatchSettings, watch, resolver};
///
/// let (resolver, service) = resolver("etcd://127.0.0.1:2379/project/test")?;
/// let mut watcher = watch(resolver, &service, WatchSettings::default());
/// let resolution = watcher.changed().await;
/// println!("{:?}", resolution.instances);
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`registry`] says.
pub fn resolver(url: &str) -> Result<(Arc<dyn Resolver>, ServiceName)> {
    let (backend, service) = both(url)?;
    Ok((backend, service))
}

fn both(url: &str) -> Result<(Arc<dyn Both>, ServiceName)> {
    let known: Names<MakeBackend> = schemes(features::backends());
    let target = target(url, &known)?;
    let mut options = target.options();
    let backend = made(known.find(target.scheme())?, &target, &mut options)?;
    keys::pass_over(&mut options);
    options.finish()?;
    Ok((backend, target.service()?))
}

/// The backend that a URL means: the one that is in use already, if there is one.
fn made(make: &MakeBackend, target: &Target, options: &mut TargetOptions<'_>) -> Result<Arc<dyn Both>> {
    Ok(shared(make(target, options)?, target, options))
}

/// Puts a service's config into the registry that a URL names, or removes it with None. What channels could not read is
/// refused here, but for the settings of balancers, which only those can read.
///
/// The URL is that of [`registry`]. Channels to the service obey the config as soon as they hear of it, unless they are
/// told not to ([`service_config`](crate::ChannelBuilder::service_config)). It stays until it is replaced or removed. To
/// put it into a [`Registry`] that you hold, call its `put_service_config`.
///
/// ```no_run
/// # async fn doc() -> callboard::Result<()> {
/// let url = "etcd://127.0.0.1:2379/project/test";
/// callboard::put_service_config(url, Some(r#"{"loadBalancingConfig": [{"pick_first": {}}]}"#)).await?;
/// callboard::put_service_config(url, None).await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`registry`] says; [`Invalid`](callboard_core::ErrorKind::Invalid), naming the field, if the config cannot be read;
/// [`Timeout`](callboard_core::ErrorKind::Timeout) after 10 s without an answer; what the registry answers, and
/// [`Unsupported`](callboard_core::ErrorKind::Unsupported) if it keeps no configs.
pub async fn put_service_config(url: &str, config: Option<&str>) -> Result<()> {
    let (registry, service) = registry(url)?;
    callboard_core::put_service_config(&*registry, &service, config).await
}

/// The client's side of each backend that is compiled in, by scheme.
pub(super) fn resolvers() -> impl Iterator<Item = Known<MakeResolver>> {
    features::backends().into_iter().map(|Known { name, feature, make }| {
        let resolver = |make: Arc<MakeBackend>| -> Arc<MakeResolver> {
            Arc::new(move |target, options| Ok(made(&*make, target, options)?))
        };
        Known { name, feature, make: make.map(resolver) }
    })
}
