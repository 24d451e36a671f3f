//! What a service's config says of its calls.

use std::sync::Arc;

use callboard_core::{MethodConfig, RetryPolicy, ServiceConfig};

use super::throttle::Throttle;

/// What calls need of a service's config, as of one moment.
#[derive(Debug)]
pub(crate) struct Rules {
    config: Arc<ServiceConfig>,
    throttle: Option<Arc<Throttle>>,
}

impl Rules {
    /// Those of this config, which follow the `former` ones. None if it says nothing of calls.
    pub(crate) fn new(config: Arc<ServiceConfig>, former: Option<&Self>) -> Option<Self> {
        let bucket = former.and_then(Self::throttle);
        let throttle = config.retry_throttling.map(|says| Throttle::renewed(bucket, says));
        config.has_methods().then_some(Self { config, throttle })
    }

    /// How calls of this method are made.
    pub(crate) fn method(&self, path: &str) -> Option<&MethodConfig> {
        self.config.method(path)
    }

    /// When calls of this method are sent again.
    pub(crate) fn retry(&self, path: &str) -> Option<&RetryPolicy> {
        self.method(path)?.retry.as_ref()
    }

    /// What stops retries while too many calls fail.
    pub(crate) fn throttle(&self) -> Option<&Arc<Throttle>> {
        self.throttle.as_ref()
    }
}
