//! Which service config is in force.

use std::sync::Arc;

use callboard_core::{Balancer, Error, PolicyConfig, Result, ServiceConfig, ServiceName};

use super::balancers::Balancers;
use super::rules::Rules;

/// Which service config is in force, as [`Channel::service_config`](crate::Channel::service_config) shows it.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct ConfigStatus {
    /// The config in force, as it stands in the registry, or the builder's
    /// [`default_service_config`](crate::ChannelBuilder::default_service_config) while the registry gives none, has not
    /// answered yet, or is not to be heard about it. None if the channel's own defaults are in force.
    pub active: Option<Arc<str>>,
    /// The paths of what stands in it, has a meaning to gRPC, and is not obeyed: see
    /// [`ServiceConfig::not_obeyed`](crate::ServiceConfig::not_obeyed).
    pub not_obeyed: Vec<String>,
    /// The name of the balancer in use.
    pub balancer: String,
    /// Why the config that stands in the registry now is refused. The one in force is then a former one, or none.
    pub rejected: Option<Error>,
}

/// The service config in force, and the balancer that it chooses.
#[derive(Debug)]
pub(crate) struct ActiveConfig {
    service: ServiceName,
    /// Whether the registry's config counts.
    obeys: bool,
    /// What a config can choose among.
    known: Balancers,
    /// The balancer while no config chooses one.
    default: Arc<dyn Balancer>,
    /// What holds while the registry gives no config, if the channel was given one.
    fallback: Option<Fallback>,
    /// What the balancer in use was chosen by. None if it is the default.
    chosen: Option<PolicyConfig>,
    /// Whether the registry has said what config there is, if any.
    told: bool,
    /// What stands in the registry, be it in force or refused.
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

/// A config that was read, and the balancer that it makes necessary.
struct Accepted {
    text: Arc<str>,
    config: Arc<ServiceConfig>,
    chosen: Option<PolicyConfig>,
    /// None if the one in use stays.
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
            told: false,
            seen: None,
            rules: None,
            status: Arc::new(status),
        }
    }

    /// Puts a config in force that holds while the registry gives none. Returns the balancer to use from now on, if that
    /// is another one.
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

    /// What calls need of the config in force. None if that says nothing of calls.
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

    /// Whether calls need not wait to be told how they are to be made.
    pub(crate) fn is_settled(&self) -> bool {
        self.told || self.is_off()
    }

    /// Takes over what stands in the registry, if it can be read. Returns the balancer to use from now on, if that is
    /// another one.
    pub(crate) fn take(&mut self, stored: Option<&Arc<[u8]>>) -> Option<Arc<dyn Balancer>> {
        self.told = true;
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
                tracing::warn!(%service, former_stays = active, error = error.chain(), "the service config is refused");
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
            tracing::warn!(%service, ?not_obeyed, "the service config says what this channel does not do");
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

    /// There is no config any more: the channel's own is in force, or else its defaults are.
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

/// What has not changed is nearly always the same allocation.
fn is_same(old: Option<&Arc<[u8]>>, new: Option<&Arc<[u8]>>) -> bool {
    old.map(Arc::as_ptr) == new.map(Arc::as_ptr) || old == new
}
