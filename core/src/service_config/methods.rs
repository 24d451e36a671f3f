//! Which method config holds for a call.

use std::collections::HashMap;
use std::sync::Arc;

use super::MethodConfig;

/// The method configs by what they hold for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Methods {
    /// By `/service/method`, and by `/service/` for all of a service.
    named: HashMap<String, Arc<MethodConfig>>,
    default: Option<Arc<MethodConfig>>,
}

/// What a method config holds for.
pub(super) enum Covers {
    All,
    /// The key in [`Methods::named`].
    Named(String),
}

impl Methods {
    /// False if there was one for this already.
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

    /// Looks up the method, then its service. Nothing is allocated: every call asks.
    pub(super) fn get(&self, path: &str) -> Option<&MethodConfig> {
        let of_service = || path.rfind('/').and_then(|slash| self.named.get(&path[..=slash]));
        let found = self.named.get(path).or_else(of_service).or(self.default.as_ref());
        found.map(|config| &**config)
    }

    /// Each of them, for as many names as it has.
    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = &MethodConfig> {
        self.named.values().chain(&self.default).map(|config| &**config)
    }
}
