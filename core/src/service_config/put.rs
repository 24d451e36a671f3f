//! Putting a config into a registry.

use std::time::Duration;

use super::ServiceConfig;
use crate::{Error, ErrorKind, Registry, Result, ServiceName};

/// The name under which a registry keeps a service's config beside its instances. It cannot be an instance's id or a part of
/// a service's name.
pub const CONFIG_NAME: &str = "@config";

/// How long [`put_service_config`] waits for the registry.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Parses a service's config and puts it into a registry, or removes it. A config that no client could read is rejected.
/// Fields that no channel [obeys](ServiceConfig::not_obeyed), settings that [fail every call](ServiceConfig::fails_calls),
/// and fields that seem [misspelt](ServiceConfig::misspelt) are logged as a warning and stored all the same.
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid) if it cannot be read; [`Timeout`](ErrorKind::Timeout) after 10 s without an answer; and
/// what [`Registry::put_service_config`] says.
pub async fn put_service_config(registry: &dyn Registry, service: &ServiceName, config: Option<&str>) -> Result<()> {
    if let Some(config) = config {
        let config = ServiceConfig::parse(config.as_bytes()).map_err(|error| error.for_service(service))?;
        if !config.not_obeyed.is_empty() {
            tracing::warn!(%service, not_obeyed = ?config.not_obeyed, "the config has fields that callboard does not obey");
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
