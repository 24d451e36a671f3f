//! All endpoints and their connections.

mod match_up;
mod removed;

use std::collections::HashMap;
use std::sync::Arc;

use callboard_core::{Backoff, Breaks, ConnectivityState, Endpoint, Instance, Member};
use tokio::time::{Duration, Instant};

use self::match_up::match_up;
use self::removed::Removed;
use super::counts::{Bounds, Counts};
use super::subchannel::{Status, Subchannel};
use crate::grpc::Defaults;

/// Every endpoint and its subchannel, in the registry's order.
#[derive(Debug)]
pub(in crate::control) struct Subchannels {
    list: Vec<Subchannel>,
    /// The endpoints of the subchannels. Calls and the balancer share this list, so that it is made once for each
    /// change of the registry and not whenever a connection opens or closes.
    endpoints: Arc<[Endpoint]>,
    /// The statuses of the subchannels, shared likewise.
    statuses: Arc<[Arc<Status>]>,
    /// The place of each subchannel, by its number.
    places: HashMap<u64, usize>,
    last_number: u64,
    counts: Counts,
    edition: u64,
    states_edition: u64,
    all_wanted: bool,
    removed: Removed,
    backoff: Backoff,
    bounds: Bounds,
}

impl Subchannels {
    /// An empty list. Each subchannel will use this backoff.
    pub(in crate::control) fn new(backoff: Backoff, bounds: Bounds) -> Self {
        Self {
            list: Vec::new(),
            endpoints: Arc::default(),
            statuses: Arc::default(),
            places: HashMap::new(),
            last_number: 0,
            counts: Counts::default(),
            edition: 0,
            states_edition: 0,
            all_wanted: false,
            removed: Removed::default(),
            backoff,
            bounds,
        }
    }

    /// Takes over a set from the registry. Connections of endpoints that stay are kept. False if nothing has changed.
    pub(in crate::control) async fn take(&mut self, instances: &Arc<[Arc<Instance>]>) -> bool {
        let of_one_length = instances.len() == self.endpoints.len();
        let pairs = || instances.iter().zip(self.endpoints.iter()).enumerate();
        let changed: Vec<_> =
            pairs().filter(|(_, (new, old))| !Arc::ptr_eq(new, old.instance())).map(|(index, _)| index).collect();
        if of_one_length && changed.is_empty() {
            return false;
        }
        if of_one_length
            && changed.iter().all(|index| instances[*index].address() == self.endpoints[*index].instance().address())
        {
            // The common change, of a weight or of metadata: no endpoint has to be looked up.
            let mut endpoints = self.endpoints.to_vec();
            for place in changed {
                self.change(place, |subchannel| subchannel.change_to(&instances[place]));
                endpoints[place] = self.list[place].endpoint().clone();
            }
            self.endpoints = endpoints.into();
        } else {
            self.rearrange(instances).await;
        }
        self.edition += 1;
        true
    }

    /// Matches old and new endpoints. Yields to other tasks meanwhile, as it takes long with thousands of endpoints.
    /// Not cancel-safe: dropped half-way, it leaves half a list.
    async fn rearrange(&mut self, instances: &[Arc<Instance>]) {
        let mut breaks = Breaks::new();
        let matches = match_up(&self.endpoints, instances, &mut breaks).await;
        let mut former: Vec<_> = self.list.drain(..).map(Some).collect();
        for (instance, known) in instances.iter().zip(matches) {
            breaks.take().await;
            let subchannel = match known.and_then(|place| former[place].take()) {
                Some(mut known) => {
                    known.change_to(instance);
                    known
                }
                None => self.add(instance),
            };
            self.list.push(subchannel);
        }
        self.removed.forget_what_is_over();
        for subchannel in former.into_iter().flatten() {
            breaks.take().await;
            self.removed.add(subchannel);
        }
        self.index(breaks).await;
    }

    /// Rebuilds the shared lists and the figures.
    async fn index(&mut self, mut breaks: Breaks) {
        self.endpoints = self.list.iter().map(|subchannel| subchannel.endpoint().clone()).collect();
        self.statuses = self.list.iter().map(|subchannel| Arc::clone(subchannel.status())).collect();
        self.places.clear();
        self.counts = Counts::default();
        for (place, subchannel) in self.list.iter().enumerate() {
            breaks.take().await;
            self.places.insert(subchannel.number(), place);
            self.counts.push(subchannel.counted(self.bounds));
        }
    }

    fn add(&mut self, instance: &Arc<Instance>) -> Subchannel {
        self.last_number += 1;
        let mut subchannel = match self.removed.take(instance.address()) {
            Some(removed) => removed.come_back(self.last_number, instance),
            None => Subchannel::new(self.last_number, Arc::clone(instance), self.backoff.clone()),
        };
        subchannel.want(self.all_wanted);
        subchannel
    }

    /// Connects all of them from now on, or none but those that an order wants.
    pub(in crate::control) fn want_all(&mut self, all: bool) {
        if !(self.all_wanted && all) {
            self.change_all(|subchannel| subchannel.want(all));
        }
        self.all_wanted = all;
    }

    /// Connects these from now on. Of the others, those that are connected on demand stay.
    pub(in crate::control) fn want_only(&mut self, listed: &[Member]) {
        let mut wanted = vec![false; self.list.len()];
        for member in listed {
            if let Some(wanted) = wanted.get_mut(member.index()) {
                *wanted = true;
            }
        }
        let mut wanted = wanted.into_iter();
        self.change_all(|subchannel| subchannel.want_only(wanted.next().unwrap_or_default()));
        self.all_wanted = false;
    }

    /// Changes one subchannel, and updates the figures.
    pub(in crate::control) fn change<T>(&mut self, place: usize, change: impl FnOnce(&mut Subchannel) -> T) -> T {
        let (was_ready, former) = (self.list[place].is_ready(), self.list[place].state());
        let changed = change(&mut self.list[place]);
        self.counts.note(place, self.list[place].counted(self.bounds));
        if was_ready || self.list[place].is_ready() {
            self.edition += 1;
        }
        if former != self.list[place].state() {
            self.states_edition += 1;
        }
        changed
    }

    /// Changes all of them, and updates the figures.
    pub(in crate::control) fn change_all(&mut self, change: impl FnMut(&mut Subchannel)) {
        self.list.iter_mut().for_each(change);
        self.counts = Counts::default();
        self.list.iter().for_each(|subchannel| self.counts.push(subchannel.counted(self.bounds)));
        self.edition += 1;
        self.states_edition += 1;
    }

    /// Requests reports from all that are ready: see [`Subchannel::ask_for_reports`].
    pub(in crate::control) fn ask_for_reports(&mut self, every: Option<Duration>, defaults: &Defaults) {
        self.list.iter_mut().for_each(|subchannel| subchannel.ask_for_reports(every, defaults));
    }

    /// Notes that calls wait: see [`Subchannel::hurry`].
    pub(in crate::control) fn hurry(&mut self) {
        let resting: Vec<_> = self.counts.resting().collect();
        resting.into_iter().for_each(|place| self.change(place, Subchannel::hurry));
    }

    /// Checks extra connections: see [`Subchannel::tend_extra_connections`]. True if one may be tried again from now
    /// on.
    pub(in crate::control) fn tend_extra_connections(&mut self, now: Instant) -> bool {
        let (mut pauses_end, idle) = (false, self.bounds.extra_idle);
        while let Some(place) = self.counts.next_extra_connections(now) {
            pauses_end |= self.change(place, |subchannel| subchannel.tend_extra_connections(now, idle));
        }
        pauses_end
    }

    /// The place of the subchannel with this number. None if it was removed.
    pub(in crate::control) fn place(&self, number: u64) -> Option<usize> {
        self.places.get(&number).copied()
    }

    pub(in crate::control) fn any_ready(&self) -> bool {
        self.counts.of(ConnectivityState::Ready) > 0
    }

    pub(in crate::control) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Grows whenever an endpoint, or a connection that calls can be sent on, has changed.
    pub(in crate::control) fn edition(&self) -> u64 {
        self.edition
    }

    /// Grows whenever the state of an endpoint has changed.
    pub(in crate::control) fn states_edition(&self) -> u64 {
        self.states_edition
    }

    pub(in crate::control) fn endpoints(&self) -> &Arc<[Endpoint]> {
        &self.endpoints
    }

    pub(in crate::control) fn statuses(&self) -> &Arc<[Arc<Status>]> {
        &self.statuses
    }

    /// All of them, in the registry's order.
    pub(in crate::control) fn list(&self) -> &[Subchannel] {
        &self.list
    }
}
