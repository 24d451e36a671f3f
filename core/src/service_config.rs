//! What a registry says of a service beside its instances: gRPC's service config.

mod codes;
mod json;
mod methods;
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
/// | `loadBalancingConfig` | balancers, each an object of one key: its name, and its settings. The first one that the client knows counts |
/// | `loadBalancingPolicy` | the name of a balancer; counts if there is no `loadBalancingConfig` |
/// | `methodConfig` | a list; each entry has a list `name` of methods, and what holds for these: `timeout`, `waitForReady`, `retryPolicy`, `maxRequestMessageBytes`, `maxResponseMessageBytes` |
/// | `retryThrottling` | `maxTokens` and `tokenRatio`: when calls are not retried, as too many fail |
/// | `healthCheckConfig` | `serviceName`; kept, and not acted on yet |
///
/// A name in `methodConfig` is an object: `{"service": "package.Service", "method": "Method"}` is one method; without
/// `method` it is every method of the service, and `{}` is every method that no other name covers. `timeout` and the
/// backoffs are such as `"1.5s"`. As in grpc-go, the name of a field may be written in any case, such as `MaxAttempts`, and
/// a length of time may begin with its point, such as `".01s"`.
///
/// What gRPC gives a meaning to and this does not obey is named in [`not_obeyed`](Self::not_obeyed): `hedgingPolicy`,
/// `perAttemptRecvTimeout`, `connectionScaling` and, until it is acted on, `healthCheckConfig`. A `retryPolicy` and a
/// `hedgingPolicy` in one entry refuse the config. Fields that gRPC does not know are ignored, as is a `null`.
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
    /// The balancers that the service asks for, `loadBalancingConfig`: the first one that the client knows counts. Empty
    /// if it leaves the choice to the client.
    pub load_balancing: Vec<PolicyConfig>,
    /// Bounds the retries of all calls together. None if nothing does.
    pub retry_throttling: Option<RetryThrottling>,
    /// `healthCheckConfig.serviceName`: kept, and not acted on yet.
    pub health_check: Option<String>,
    /// The paths of what stands there, has a meaning to gRPC, and is not obeyed, such as `methodConfig[0].hedgingPolicy`.
    /// It does not refuse the config, as other clients of the service may obey it; whoever takes the config says so.
    pub not_obeyed: Vec<String>,
    /// The paths of what fails every call of its methods, such as `methodConfig[0].timeout` of `"0s"`: a timeout in which
    /// nothing can be answered, and a size of 0, which a message without any field alone keeps to. It is obeyed all the
    /// same, as it may be meant: whoever takes the config says so.
    pub fails_calls: Vec<String>,
    methods: Arc<Methods>,
}

/// How the calls of some methods are made.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MethodConfig {
    /// The deadline of calls that set none, or a later one.
    pub timeout: Option<Duration>,
    /// Whether calls wait for a ready endpoint that do not say themselves.
    pub wait_for_ready: Option<bool>,
    /// How large a message of a request may be, in bytes as it is sent: after compression, without its prefix of 5 bytes.
    /// What a compressed one unfolds to is bounded by the generated client, `max_decoding_message_size`.
    pub max_request_message_bytes: Option<u64>,
    /// The same for a message of a response.
    pub max_response_message_bytes: Option<u64>,
    /// Which failures are tried again.
    pub retry: Option<RetryPolicy>,
}

impl ServiceConfig {
    /// Reads a config. Unknown fields are ignored; what is known and cannot be read refuses the whole. Of a key that
    /// stands twice in a balancer's settings, the last one counts; any other known key may stand once.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the field by its path, such as `methodConfig[1].timeout`.
    pub fn parse(stored: &[u8]) -> Result<Self> {
        read::read(stored)
    }

    /// How calls of this method are made: `/package.Service/Method`. The config's entry for the method counts, else the
    /// one for its service, else the one for all. Cheap enough for every call.
    pub fn method(&self, path: &str) -> Option<&MethodConfig> {
        self.methods.get(path)
    }

    /// Whether it says anything of how the calls of any method are made.
    pub fn has_methods(&self) -> bool {
        !self.methods.is_empty()
    }
}
