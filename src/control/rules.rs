//! What a service's config says of its calls.

use std::sync::Arc;

use callboard_core::{MethodConfig, ServiceConfig};

/// What calls need of a service's config, as of one moment.
#[derive(Debug)]
pub(crate) struct Rules {
    config: Arc<ServiceConfig>,
}

impl Rules {
    /// Those of this config, which follow the `former` ones. None if it says nothing of calls.
    pub(super) fn new(config: Arc<ServiceConfig>, former: Option<&Self>) -> Option<Self> {
        let _ = former;
        config.has_methods().then_some(Self { config })
    }

    /// How calls of this method are made.
    pub(crate) fn method(&self, path: &str) -> Option<&MethodConfig> {
        self.config.method(path)
    }
}
