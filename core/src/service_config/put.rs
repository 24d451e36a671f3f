//! Putting a config into a registry.

use std::time::Duration;

use super::ServiceConfig;
use crate::{Error, ErrorKind, Registry, Result, ServiceName};

/// The name under which a service's config stands beside its instances, in registries that have names. It can be no
/// instance's id, and no part of a service's name.
pub const CONFIG_NAME: &str = "@config";

/// How long [`put_service_config`] waits for the registry.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Puts a service's config into a registry, or removes it, once it has been read: what no client could read is refused.
/// What none [obeys](ServiceConfig::not_obeyed) is warned of, and put: other clients of the service may. So is what
/// [fails every call](ServiceConfig::fails_calls), and what seems [misspelt](ServiceConfig::misspelt).
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid) if it cannot be read; [`Timeout`](ErrorKind::Timeout) after 10 s without an answer; and
/// what [`Registry::put_service_config`] says.
pub async fn put_service_config(registry: &dyn Registry, service: &ServiceName, config: Option<&str>) -> Result<()> {
    if let Some(config) = config {
        let config = ServiceConfig::parse(config.as_bytes()).map_err(|error| error.for_service(service))?;
        if !config.not_obeyed.is_empty() {
            tracing::warn!(%service, not_obeyed = ?config.not_obeyed, "the config says what no channel of ours does");
        }
        if !config.misspelt.is_empty() {
            tracing::warn!(%service, misspelt = ?config.misspelt, "the config has fields that mean nothing");
        }
        if !config.fails_calls.is_empty() {
            tracing::warn!(%service, fails_calls = ?config.fails_calls, "the config fails every call of these methods");
        }
    }
    let late = |_| Error::new(ErrorKind::Timeout, format!("no answer within {TIMEOUT:?}")).for_service(service);
    tokio::time::timeout(TIMEOUT, registry.put_service_config(service, config)).await.map_err(late)?
}
