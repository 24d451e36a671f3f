//! Who is signed in, and their connections.

use std::collections::HashMap;
use std::sync::Arc;

use callboard_core::{Address, Backoff, ConnectivityState, Endpoint, Instance};

use super::subchannel::Subchannel;

/// Every endpoint and its subchannel, in the registry's order.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// As the registry said it last.
    instances: Arc<[Arc<Instance>]>,
    subchannels: Vec<Subchannel>,
    /// The subchannels' own. Calls and the balancer are given this list, so that it is made once for each change of the
    /// registry and not whenever a connection comes or goes.
    endpoints: Arc<[Endpoint]>,
}

impl Roster {
    /// Takes over what the registry says: connections of what stays are kept. False if nothing has changed.
    pub(super) fn take(&mut self, instances: &Arc<[Arc<Instance>]>, backoff: &Backoff) -> bool {
        let of_one_length = instances.len() == self.instances.len();
        let pairs = || instances.iter().zip(self.instances.iter()).enumerate();
        let changed: Vec<_> =
            pairs().filter(|(_, (new, old))| !Arc::ptr_eq(new, old)).map(|(index, _)| index).collect();
        if of_one_length && changed.is_empty() {
            return false;
        }
        if of_one_length && changed.iter().all(|index| instances[*index].address == self.instances[*index].address) {
            // The common change, of a weight or of metadata: nothing has to be looked up.
            let mut endpoints = self.endpoints.to_vec();
            for index in changed {
                self.subchannels[index].change_to(&instances[index]);
                endpoints[index] = self.subchannels[index].endpoint().clone();
            }
            self.endpoints = endpoints.into();
        } else {
            self.rearrange(instances, backoff);
        }
        self.instances = Arc::clone(instances);
        true
    }

    fn rearrange(&mut self, instances: &[Arc<Instance>], backoff: &Backoff) {
        let mut former: HashMap<Address, Subchannel> =
            self.subchannels.drain(..).map(|subchannel| (subchannel.address().clone(), subchannel)).collect();
        for instance in instances {
            let known = former.remove(&instance.address);
            let mut subchannel = known.unwrap_or_else(|| Subchannel::new(Arc::clone(instance), backoff.clone()));
            subchannel.change_to(instance);
            self.subchannels.push(subchannel);
        }
        for (address, subchannel) in former {
            tracing::debug!(%address, "endpoint removed");
            subchannel.endpoint().set_state(ConnectivityState::Shutdown);
        }
        self.endpoints = self.subchannels.iter().map(|subchannel| subchannel.endpoint().clone()).collect();
    }

    pub(super) fn endpoints(&self) -> &Arc<[Endpoint]> {
        &self.endpoints
    }

    pub(super) fn subchannels(&self) -> &[Subchannel] {
        &self.subchannels
    }

    pub(super) fn subchannels_mut(&mut self) -> &mut [Subchannel] {
        &mut self.subchannels
    }
}
