//! Makes a backend from a URL.

use std::sync::Arc;

use callboard_core::{Registry, Resolver, Result, ServiceName, Target, TargetOptions};

use super::clients::shared;
use super::{schemes, target, url_keys};
use crate::config::{Known, Names};
use crate::features::{self, Both, MakeBackend};

pub(crate) type MakeResolver = dyn Fn(&Target, &mut TargetOptions<'_>) -> Result<Arc<dyn Resolver>> + Send + Sync;

/// Returns the registry and the service that a URL names, to [`register`](crate::register) a server with.
///
/// The URL is that of [`dial`](crate::dial). Query keys about calls, such as `balancer`, are for clients: they are
/// accepted here, and their values are not checked. Apart from reading files that the URL names, this does no I/O, and
/// the registry need not be up.
///
/// URLs with the same settings for the registry share one client of it, and so its connections, within a process: this
/// function, [`resolver`], [`put_service_config`], [`dial`](crate::dial) and [`serve`](crate::serve). The settings are
/// the scheme, the user, the password, the hosts, and the backend's own keys, compared as text; the service does not
/// count. The client ends when the last value made from it is dropped. To get a client of its own, use the backend's
/// builder.
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
/// [`Invalid`](callboard_core::ErrorKind::Invalid) if the URL is malformed or has an unknown key;
/// [`Unsupported`](callboard_core::ErrorKind::Unsupported) if the scheme is not known, or needs a feature that is off:
/// the message says which.
pub fn registry(url: &str) -> Result<(Arc<dyn Registry>, ServiceName)> {
    let (backend, service) = both(url)?;
    Ok((backend, service))
}

/// Returns the resolver and the service that a URL names, to [`watch`](callboard_core::watch) the service's instances
/// without calling them: for dashboards, and for [external balancers](crate::lookaside).
///
/// The URL and the rules are those of [`registry`].
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
    url_keys::pass_over(&mut options);
    options.finish()?;
    Ok((backend, target.service()?))
}

/// The backend for a URL: the one in use already, if there is one.
fn made(make: &MakeBackend, target: &Target, options: &mut TargetOptions<'_>) -> Result<Arc<dyn Both>> {
    Ok(shared(make(target, options)?, target, options))
}

/// Puts a service config into the registry that a URL names, or removes it with None. A config that channels could not
/// read is rejected here. The settings of balancers are not checked, as only the balancers can read them.
///
/// The URL is that of [`registry`]. Channels to the service apply the config as soon as they receive it, unless
/// [`service_config`](crate::ChannelBuilder::service_config) is off. The config stays until it is replaced or removed.
/// With a [`Registry`] at hand, call its `put_service_config` instead.
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
/// As [`registry`] says; [`Invalid`](callboard_core::ErrorKind::Invalid), naming the field, if the config cannot be
/// read; [`Timeout`](callboard_core::ErrorKind::Timeout) after 10 s without an answer;
/// [`Unsupported`](callboard_core::ErrorKind::Unsupported) if the registry stores no configs; and the registry's own
/// errors.
pub async fn put_service_config(url: &str, config: Option<&str>) -> Result<()> {
    let (registry, service) = registry(url)?;
    callboard_core::put_service_config(&*registry, &service, config).await
}

/// The resolver of each backend that is compiled in, by scheme.
pub(super) fn resolvers() -> impl Iterator<Item = Known<MakeResolver>> {
    features::backends().into_iter().map(|Known { name, feature, make }| {
        let resolver = |make: Arc<MakeBackend>| -> Arc<MakeResolver> {
            Arc::new(move |target, options| Ok(made(&*make, target, options)?))
        };
        Known { name, feature, make: make.map(resolver) }
    })
}
