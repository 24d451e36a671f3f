//! The rules of a service config for calls.

use std::sync::Arc;

use callboard_core::{MethodConfig, RetryPolicy, ServiceConfig};

use super::throttle::Throttle;

/// The rules of a service config for calls. Never changed, only replaced.
#[derive(Debug)]
pub(crate) struct Rules {
    config: Arc<ServiceConfig>,
    throttle: Option<Arc<Throttle>>,
}

impl Rules {
    /// The rules of this config, which replace the `former` ones. None if there are none.
    pub(crate) fn new(config: Arc<ServiceConfig>, former: Option<&Self>) -> Option<Self> {
        let bucket = former.and_then(Self::throttle);
        let throttle = config.retry_throttling.map(|says| Throttle::renewed(bucket, says));
        config.has_methods().then_some(Self { config, throttle })
    }

    /// The settings for calls of this method.
    pub(crate) fn method(&self, path: &str) -> Option<&MethodConfig> {
        self.config.method(path)
    }

    /// The retry policy for calls of this method.
    pub(crate) fn retry(&self, path: &str) -> Option<&RetryPolicy> {
        self.method(path)?.retry.as_ref()
    }

    /// The throttle of retries, if there is one.
    pub(crate) fn throttle(&self) -> Option<&Arc<Throttle>> {
        self.throttle.as_ref()
    }
}
