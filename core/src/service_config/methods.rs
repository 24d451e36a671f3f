//! Finds the method config of a call.

use std::collections::HashMap;
use std::sync::Arc;

use super::MethodConfig;

/// The method configs, by the calls that they are for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Methods {
    /// By `/service/method`, and by `/service/` for all of a service.
    named: HashMap<String, Arc<MethodConfig>>,
    default: Option<Arc<MethodConfig>>,
}

/// The calls that a method config is for.
pub(super) enum Covers {
    All,
    /// The key in [`Methods::named`].
    Named(String),
}

impl Methods {
    /// Adds one. False if there was one for the same calls already.
    pub(super) fn add(&mut self, covers: Covers, config: Arc<MethodConfig>) -> bool {
        let former = match covers {
            Covers::All => self.default.replace(config),
            Covers::Named(key) => self.named.insert(key, config),
        };
        former.is_none()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.named.is_empty() && self.default.is_none()
    }

    /// Looks up the method, then its service. It allocates nothing, because it is called by every call.
    pub(super) fn get(&self, path: &str) -> Option<&MethodConfig> {
        let of_service = || path.rfind('/').and_then(|slash| self.named.get(&path[..=slash]));
        let found = self.named.get(path).or_else(of_service).or(self.default.as_ref());
        found.map(|config| &**config)
    }

    /// All of them, each as often as it has names.
    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = &MethodConfig> {
        self.named.values().chain(&self.default).map(|config| &**config)
    }
}
