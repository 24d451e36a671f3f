//! gRPC's service config, which a registry keeps beside a service's instances.

mod codes;
mod json;
mod methods;
mod misspelt;
mod object;
mod put;
mod read;
mod retry;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use self::methods::Methods;
pub use self::put::{CONFIG_NAME, put_service_config};
pub use self::retry::{RetryPolicy, RetryThrottling};
pub use self::settings::{BalancerSettings, PolicyConfig};
use crate::Result;

/// How a service is to be called: gRPC's [service config]. Read from JSON by [`parse`](Self::parse).
///
/// | field | meaning |
/// |---|---|
/// | `loadBalancingConfig` | balancers, each an object of one key: its name, and its settings. The first one that the client knows is used |
/// | `loadBalancingPolicy` | the name of a balancer; used if there is no `loadBalancingConfig` |
/// | `methodConfig` | a list; each entry has a list `name` of methods, and what holds for these: `timeout`, `waitForReady`, `retryPolicy`, `maxRequestMessageBytes`, `maxResponseMessageBytes` |
/// | `retryThrottling` | `maxTokens` and `tokenRatio`: stops retries while too many calls fail |
/// | `healthCheckConfig` | `serviceName`; kept, and not acted on yet |
///
/// A name in `methodConfig` is an object: `{"service": "package.Service", "method": "Method"}` is one method; without
/// `method` it is every method of the service, and `{}` is every method that no other name covers. `timeout` and the
/// backoffs are texts such as `"1.5s"`. As in grpc-go, the name of a field may be written in any case, such as `MaxAttempts`, and
/// a length of time may begin with its point, such as `".01s"`.
///
/// Fields of gRPC that are not obeyed are named in [`not_obeyed`](Self::not_obeyed): `hedgingPolicy`,
/// `perAttemptRecvTimeout`, `connectionScaling` and, so far, `healthCheckConfig`. A config with a `retryPolicy` and a
/// `hedgingPolicy` in one entry is rejected. Fields that gRPC does not know are ignored, as is a `null`; those that look
/// like a known one misspelt are named in [`misspelt`](Self::misspelt).
///
/// ```
/// use std::time::Duration;
/// use callboard_core::ServiceConfig;
///
/// let config = ServiceConfig::parse(
///     br#"{
///         "loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}],
///         "methodConfig": [
///             {"name": [{"service": "echo.Echo"}], "timeout": "1.5s"},
///             {"name": [{"service": "echo.Echo", "method": "Slow"}], "timeout": "60s"}
///         ]
///     }"#,
/// )?;
/// let timeout = |path| config.method(path).and_then(|method| method.timeout);
/// assert_eq!(timeout("/echo.Echo/Unary"), Some(Duration::from_millis(1500)));
/// assert_eq!(timeout("/echo.Echo/Slow"), Some(Duration::from_secs(60)));
/// assert_eq!(timeout("/other.Other/Unary"), None);
///
/// let error = ServiceConfig::parse(br#"{"methodConfig": [{"timeout": "fast"}]}"#).expect_err("no timeout");
/// assert!(error.to_string().starts_with("service config: methodConfig[0].timeout: "), "{error}");
/// # Ok::<(), callboard_core::Error>(())
/// ```
///
/// [service config]: https://github.com/grpc/grpc/blob/master/doc/service_config.md
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceConfig {
    /// The balancers that the service asks for, `loadBalancingConfig`. The first one that the client knows is used. Empty if
    /// the choice is left to the client.
    pub load_balancing: Vec<PolicyConfig>,
    /// Limits the retries of all calls together. None if there is no limit.
    pub retry_throttling: Option<RetryThrottling>,
    /// `healthCheckConfig.serviceName`: kept, and not acted on yet.
    pub health_check: Option<String>,
    /// The paths of fields that gRPC knows and that are not obeyed, such as `methodConfig[0].hedgingPolicy`. The config is
    /// used all the same, as other clients of the service may obey them; a channel logs a warning.
    pub not_obeyed: Vec<String>,
    /// The paths of settings that fail every call of their methods, such as a `methodConfig[0].timeout` of `"0s"`: a timeout in
    /// which no server can answer, or a message size of 0, which only an empty message keeps to. They are obeyed all the
    /// same, as they may be intended; a channel logs a warning.
    pub fails_calls: Vec<String>,
    /// The paths of fields that gRPC does not know and that are nearly one that it does, with that one, such as
    /// `methodConfig[0].timeot (timeout?)`. At most 16. They are ignored, as all unknown fields are: whoever takes the config
    /// says so.
    pub misspelt: Vec<String>,
    methods: Arc<Methods>,
}

/// How the calls of some methods are made.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MethodConfig {
    /// The deadline of calls that set none, or a later one.
    pub timeout: Option<Duration>,
    /// Whether calls that do not set it themselves wait for a ready endpoint.
    pub wait_for_ready: Option<bool>,
    /// How large a message of a request may be, in bytes as it is sent: after compression, without its prefix of 5 bytes.
    /// The size after decompression is limited by the generated client, `max_decoding_message_size`.
    pub max_request_message_bytes: Option<u64>,
    /// The same for a message of a response.
    pub max_response_message_bytes: Option<u64>,
    /// Which failures are retried, and how.
    pub retry: Option<RetryPolicy>,
}

impl ServiceConfig {
    /// Parses a config. Unknown fields are ignored. If a known field cannot be read, the whole config is rejected. A key that
    /// is in a balancer's settings twice has its last value; any other known key may be there once.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the field by its path, such as `methodConfig[1].timeout`.
    pub fn parse(stored: &[u8]) -> Result<Self> {
        read::read(stored)
    }

    /// How calls of this method are made: `/package.Service/Method`. It is the entry for the method, else the one for its
    /// service, else the one for all methods. Cheap enough for every call.
    pub fn method(&self, path: &str) -> Option<&MethodConfig> {
        self.methods.get(path)
    }

    /// Whether there is an entry for any method.
    pub fn has_methods(&self) -> bool {
        !self.methods.is_empty()
    }
}
