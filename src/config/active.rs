//! The active service config.

use std::sync::Arc;

use callboard_core::{Balancer, Error, PolicyConfig, Result, ServiceConfig, ServiceName};

use super::balancers::Balancers;
use super::rules::Rules;

/// The active service config, as [`Channel::service_config`](crate::Channel::service_config) shows it.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct ConfigStatus {
    /// The text of the active config: the registry's, or the builder's
    /// [`default_service_config`](crate::ChannelBuilder::default_service_config) while the registry has none, has not
    /// answered yet, or is ignored. None if the channel's own defaults are active.
    pub active: Option<Arc<str>>,
    /// The paths of its fields that gRPC defines and this channel does not obey: see
    /// [`ServiceConfig::not_obeyed`](crate::ServiceConfig::not_obeyed).
    pub not_obeyed: Vec<String>,
    /// The name of the balancer in use.
    pub balancer: String,
    /// Why the config in the registry is rejected. The active one is then a former one, or none.
    pub rejected: Option<Error>,
}

/// The active service config, and the balancer that it chooses.
#[derive(Debug)]
pub(crate) struct ActiveConfig {
    service: ServiceName,
    /// Whether the registry's config is obeyed.
    obeys: bool,
    /// The balancers that a config can choose.
    known: Balancers,
    /// The balancer if no config chooses one.
    default: Arc<dyn Balancer>,
    /// The config to use while the registry has none, if the channel was given one.
    fallback: Option<Fallback>,
    /// The entry that has chosen the balancer in use. None if it is the default.
    chosen: Option<PolicyConfig>,
    /// Whether the registry has answered if there is a config.
    answered: bool,
    /// The registry's config, active or rejected.
    seen: Option<Arc<[u8]>>,
    rules: Option<Arc<Rules>>,
    status: Arc<ConfigStatus>,
}

/// The channel's own config.
#[derive(Clone, Debug)]
struct Fallback {
    text: Arc<str>,
    config: Arc<ServiceConfig>,
    chosen: Option<PolicyConfig>,
    balancer: Arc<dyn Balancer>,
}

/// A config that was parsed, and the balancer that it chooses.
struct Accepted {
    text: Arc<str>,
    config: Arc<ServiceConfig>,
    chosen: Option<PolicyConfig>,
    /// None if the balancer in use stays.
    balancer: Option<Arc<dyn Balancer>>,
}

impl ActiveConfig {
    pub(crate) fn new(service: &ServiceName, default: Arc<dyn Balancer>, known: Balancers, obeys: bool) -> Self {
        let balancer = default.name().to_owned();
        let status = ConfigStatus { active: None, not_obeyed: Vec::new(), balancer, rejected: None };
        Self {
            service: service.clone(),
            obeys,
            known,
            default,
            fallback: None,
            chosen: None,
            answered: false,
            seen: None,
            rules: None,
            status: Arc::new(status),
        }
    }

    /// Sets the config to use while the registry has none. Returns the balancer to use from now on, if that changes.
    pub(crate) fn fall_back_to(&mut self, text: &str) -> Result<Option<Arc<dyn Balancer>>> {
        let accepted = self.read(text.as_bytes())?;
        self.fallback = Some(Fallback {
            text: Arc::clone(&accepted.text),
            config: Arc::clone(&accepted.config),
            chosen: accepted.chosen.clone(),
            balancer: accepted.balancer.clone().unwrap_or_else(|| Arc::clone(&self.default)),
        });
        Ok(self.accept(accepted))
    }

    /// The active config's rules for calls. None if there are none.
    pub(crate) fn rules(&self) -> Option<&Arc<Rules>> {
        self.rules.as_ref()
    }

    pub(crate) fn status(&self) -> &Arc<ConfigStatus> {
        &self.status
    }

    /// Whether the registry's config is ignored.
    pub(crate) fn is_off(&self) -> bool {
        !self.obeys
    }

    /// Whether calls need not wait for the service config.
    pub(crate) fn is_settled(&self) -> bool {
        self.answered || self.is_off()
    }

    /// Takes over the registry's config, if it is valid. Returns the balancer to use from now on, if that changes.
    pub(crate) fn take(&mut self, stored: Option<&Arc<[u8]>>) -> Option<Arc<dyn Balancer>> {
        self.answered = true;
        if self.is_off() || is_same(self.seen.as_ref(), stored) {
            return None;
        }
        self.seen = stored.cloned();
        let Some(stored) = stored else { return self.fall_back() };
        match self.read(stored) {
            Ok(accepted) => self.accept(accepted),
            Err(error) => {
                let (service, active) = (&self.service, self.status.active.is_some());
                let error = error.for_service(service);
                tracing::warn!(%service, former_stays = active, error = error.chain(), "the service config is rejected");
                self.note(|status| status.rejected = Some(error));
                None
            }
        }
    }

    fn read(&self, stored: &[u8]) -> Result<Accepted> {
        let config = ServiceConfig::parse(stored)?;
        let chosen = self.known.first_known(&config.load_balancing)?;
        let balancer = match chosen {
            _ if chosen == self.chosen.as_ref() => None,
            Some(policy) => Some(self.known.make(&policy.name, &policy.settings)?),
            None => Some(Arc::clone(&self.default)),
        };
        let chosen = chosen.cloned();
        // JSON is UTF-8, so nothing is replaced.
        Ok(Accepted { text: String::from_utf8_lossy(stored).into(), config: Arc::new(config), chosen, balancer })
    }

    fn accept(&mut self, accepted: Accepted) -> Option<Arc<dyn Balancer>> {
        let Accepted { text, config, chosen, balancer } = accepted;
        if !config.not_obeyed.is_empty() {
            let (service, not_obeyed) = (&self.service, &config.not_obeyed);
            tracing::warn!(%service, ?not_obeyed, "the service config has fields that this channel does not obey");
        }
        if !config.misspelt.is_empty() {
            let (service, misspelt) = (&self.service, &config.misspelt);
            tracing::warn!(%service, ?misspelt, "the service config has fields that mean nothing");
        }
        if !config.fails_calls.is_empty() {
            let (service, fails_calls) = (&self.service, &config.fails_calls);
            tracing::warn!(%service, ?fails_calls, "the service config fails every call of these methods");
        }
        self.note(|status| status.not_obeyed.clone_from(&config.not_obeyed));
        self.chosen = chosen;
        self.rules = Rules::new(config, self.rules.as_deref()).map(Arc::new);
        self.activate(Some(text), balancer)
    }

    /// Handles the removal of the config: the channel's own becomes active, or else the defaults.
    fn fall_back(&mut self) -> Option<Arc<dyn Balancer>> {
        if let Some(Fallback { text, config, chosen, balancer }) = self.fallback.clone() {
            let balancer = (chosen != self.chosen).then_some(balancer);
            return self.accept(Accepted { text, config, chosen, balancer });
        }
        self.rules = None;
        self.note(|status| status.not_obeyed.clear());
        let balancer = self.chosen.take().map(|_| Arc::clone(&self.default));
        self.activate(None, balancer)
    }

    fn activate(&mut self, text: Option<Arc<str>>, balancer: Option<Arc<dyn Balancer>>) -> Option<Arc<dyn Balancer>> {
        self.note(|status| {
            if let Some(balancer) = &balancer {
                balancer.name().clone_into(&mut status.balancer);
            }
            (status.active, status.rejected) = (text, None);
        });
        let ConfigStatus { active, balancer: name, .. } = &*self.status;
        tracing::debug!(service = %self.service, config = active.is_some(), balancer = name, "the service config has changed");
        balancer
    }

    fn note(&mut self, change: impl FnOnce(&mut ConfigStatus)) {
        change(Arc::make_mut(&mut self.status));
    }
}

/// Compares pointers first: an unchanged config is nearly always the same allocation.
fn is_same(old: Option<&Arc<[u8]>>, new: Option<&Arc<[u8]>>) -> bool {
    old.map(Arc::as_ptr) == new.map(Arc::as_ptr) || old == new
}
