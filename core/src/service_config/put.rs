//! Putting a config into a registry.

use std::time::Duration;

use super::ServiceConfig;
use crate::{Error, ErrorKind, Registry, Result, Service};

/// The name under which a service's config stands beside its instances, in registries that have names. It can be no
/// instance's id, and no part of a service's name.
pub const CONFIG_NAME: &str = "@config";

/// How long [`configure`] waits for the registry.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Puts a service's config into a registry, or removes it, once it has been read: what no client could read is refused.
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid) if it cannot be read; [`Timeout`](ErrorKind::Timeout) after 10 s without an answer; and
/// what [`Registry::configure`] says.
pub async fn configure(registry: &dyn Registry, service: &Service, config: Option<&str>) -> Result<()> {
    if let Some(config) = config {
        ServiceConfig::parse(config.as_bytes()).map_err(|error| error.for_service(service))?;
    }
    let late = |_| Error::new(ErrorKind::Timeout, format!("no answer within {TIMEOUT:?}")).for_service(service);
    tokio::time::timeout(TIMEOUT, registry.configure(service, config)).await.map_err(late)?
}
