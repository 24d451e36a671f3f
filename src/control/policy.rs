//! Which service config is in force.

use std::sync::Arc;

use callboard_core::{Balancer, Error, PolicyConfig, Result, Service, ServiceConfig};

use super::Rules;
use crate::dial::Balancers;

/// Which service config is in force, as [`Channel::service_config`](crate::Channel::service_config) shows it.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct ConfigStatus {
    /// The config in force, as it stands in the registry. None if the channel's own defaults are: the registry gives none,
    /// has not answered yet, or is not to be heard about it.
    pub in_force: Option<Arc<str>>,
    /// The name of the balancer in use.
    pub balancer: String,
    /// Why the config that stands in the registry now is refused. The one in force is then a former one, or none.
    pub refused: Option<Error>,
}

/// The service config in force, and the balancer that it chooses.
#[derive(Debug)]
pub(crate) struct Policy {
    service: Service,
    /// Whether the registry's config counts.
    obeys: bool,
    /// What a config can choose among.
    known: Balancers,
    /// The balancer while no config chooses one.
    default: Arc<dyn Balancer>,
    /// What the balancer in use was chosen by. None if it is the default.
    chosen: Option<PolicyConfig>,
    /// Whether the registry has said what config there is, if any.
    told: bool,
    /// What stands in the registry, be it in force or refused.
    seen: Option<Arc<[u8]>>,
    rules: Option<Arc<Rules>>,
    status: Arc<ConfigStatus>,
}

/// A config that was read, and the balancer that it makes necessary.
struct Accepted {
    text: Arc<str>,
    config: Arc<ServiceConfig>,
    chosen: Option<PolicyConfig>,
    /// None if the one in use stays.
    balancer: Option<Arc<dyn Balancer>>,
}

impl Policy {
    pub(crate) fn new(service: &Service, default: Arc<dyn Balancer>, known: Balancers, obeys: bool) -> Self {
        let status = ConfigStatus { in_force: None, balancer: default.name().to_owned(), refused: None };
        Self {
            service: service.clone(),
            obeys,
            known,
            default,
            chosen: None,
            told: false,
            seen: None,
            rules: None,
            status: Arc::new(status),
        }
    }

    /// What calls need of the config in force. None if that says nothing of calls.
    pub(super) fn rules(&self) -> Option<&Arc<Rules>> {
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
    pub(super) fn is_settled(&self) -> bool {
        self.told || self.is_off()
    }

    /// Takes over what stands in the registry, if it can be read. Returns the balancer to use from now on, if that is
    /// another one.
    pub(super) fn take(&mut self, stored: Option<&Arc<[u8]>>) -> Option<Arc<dyn Balancer>> {
        self.told = true;
        if self.is_off() || is_same(self.seen.as_ref(), stored) {
            return None;
        }
        self.seen = stored.cloned();
        let Some(stored) = stored else { return self.fall_back() };
        match self.read(stored) {
            Ok(accepted) => self.accept(accepted),
            Err(error) => {
                let (service, in_force) = (&self.service, self.status.in_force.is_some());
                let error = error.for_service(service);
                tracing::warn!(%service, former_stays = in_force, error = error.chain(), "the service config is refused");
                self.note(|status| status.refused = Some(error));
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
        self.chosen = chosen;
        self.rules = Rules::new(config, self.rules.as_deref()).map(Arc::new);
        self.put_in_force(Some(text), balancer)
    }

    /// There is no config any more: the channel's own defaults are in force.
    fn fall_back(&mut self) -> Option<Arc<dyn Balancer>> {
        self.rules = None;
        let balancer = self.chosen.take().map(|_| Arc::clone(&self.default));
        self.put_in_force(None, balancer)
    }

    fn put_in_force(
        &mut self,
        text: Option<Arc<str>>,
        balancer: Option<Arc<dyn Balancer>>,
    ) -> Option<Arc<dyn Balancer>> {
        self.note(|status| {
            if let Some(balancer) = &balancer {
                balancer.name().clone_into(&mut status.balancer);
            }
            (status.in_force, status.refused) = (text, None);
        });
        let ConfigStatus { in_force, balancer: name, .. } = &*self.status;
        tracing::debug!(service = %self.service, config = in_force.is_some(), balancer = name, "the service config has changed");
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
