//! Who is signed in, and their connections.

mod match_up;

use std::collections::HashMap;
use std::sync::Arc;

use callboard_core::{Backoff, Breaks, ConnectivityState, Endpoint, Instance};
use tokio::time::{Duration, Instant};

use self::match_up::match_up;
use super::census::Census;
use super::departed::Departed;
use super::subchannel::Subchannel;
use super::trouble::Shown;
use crate::shared::Defaults;

/// What the roster has to know of the channel's settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// How long a further connection may be idle.
    pub(super) extra_idle: Duration,
    /// How long an attempt to connect may take.
    pub(super) connect_timeout: Duration,
}

/// Every endpoint and its subchannel, in the registry's order.
#[derive(Debug)]
pub(super) struct Roster {
    /// As the registry said it last.
    instances: Arc<[Arc<Instance>]>,
    subchannels: Vec<Subchannel>,
    /// The subchannels' own. Calls and the balancer are given this list, so that it is made once for each change of the
    /// registry and not whenever a connection comes or goes.
    endpoints: Arc<[Endpoint]>,
    /// The subchannels' own, too.
    shown: Arc<[Arc<Shown>]>,
    /// Where each subchannel is, by its number.
    places: HashMap<u64, usize>,
    last_number: u64,
    census: Census,
    edition: u64,
    all_wanted: bool,
    departed: Departed,
    backoff: Backoff,
    bounds: Bounds,
}

impl Roster {
    /// Nobody yet. The backoff is that of each subchannel.
    pub(super) fn new(backoff: Backoff, bounds: Bounds) -> Self {
        Self {
            instances: Arc::default(),
            subchannels: Vec::new(),
            endpoints: Arc::default(),
            shown: Arc::default(),
            places: HashMap::new(),
            last_number: 0,
            census: Census::default(),
            edition: 0,
            all_wanted: false,
            departed: Departed::default(),
            backoff,
            bounds,
        }
    }

    /// Takes over what the registry says: connections of what stays are kept. False if nothing has changed.
    pub(super) async fn take(&mut self, instances: &Arc<[Arc<Instance>]>) -> bool {
        let of_one_length = instances.len() == self.instances.len();
        let pairs = || instances.iter().zip(self.instances.iter()).enumerate();
        let changed: Vec<_> =
            pairs().filter(|(_, (new, old))| !Arc::ptr_eq(new, old)).map(|(index, _)| index).collect();
        if of_one_length && changed.is_empty() {
            return false;
        }
        if of_one_length && changed.iter().all(|index| instances[*index].address() == self.instances[*index].address())
        {
            // The common change, of a weight or of metadata: nothing has to be looked up.
            let mut endpoints = self.endpoints.to_vec();
            for place in changed {
                self.change(place, |subchannel| subchannel.change_to(&instances[place]));
                endpoints[place] = self.subchannels[place].endpoint().clone();
            }
            self.endpoints = endpoints.into();
        } else {
            self.rearrange(instances).await;
        }
        self.instances = Arc::clone(instances);
        self.edition += 1;
        true
    }

    /// Others have their turn meanwhile, as it takes a while with thousands. Whoever drops this leaves half a roster.
    async fn rearrange(&mut self, instances: &[Arc<Instance>]) {
        let mut breaks = Breaks::new();
        let matches = match_up(&self.instances, instances, &mut breaks).await;
        let mut former: Vec<_> = self.subchannels.drain(..).map(Some).collect();
        for (instance, known) in instances.iter().zip(matches) {
            breaks.take().await;
            let subchannel = match known.and_then(|place| former[place].take()) {
                Some(mut known) => {
                    known.change_to(instance);
                    known
                }
                None => self.welcome(instance),
            };
            self.subchannels.push(subchannel);
        }
        self.departed.forget_what_is_over();
        for subchannel in former.into_iter().flatten() {
            breaks.take().await;
            self.departed.add(subchannel);
        }
        self.list(breaks).await;
    }

    /// Makes the lists anew that others are given, and counts.
    async fn list(&mut self, mut breaks: Breaks) {
        self.endpoints = self.subchannels.iter().map(|subchannel| subchannel.endpoint().clone()).collect();
        self.shown = self.subchannels.iter().map(|subchannel| Arc::clone(subchannel.shown())).collect();
        self.places.clear();
        self.census = Census::default();
        for (place, subchannel) in self.subchannels.iter().enumerate() {
            breaks.take().await;
            self.places.insert(subchannel.number(), place);
            self.census.push(subchannel.figures(self.bounds));
        }
    }

    fn welcome(&mut self, instance: &Arc<Instance>) -> Subchannel {
        self.last_number += 1;
        let mut subchannel = match self.departed.take(instance.address()) {
            Some(left) => left.come_back(self.last_number, instance),
            None => Subchannel::new(self.last_number, Arc::clone(instance), self.backoff.clone()),
        };
        subchannel.want(self.all_wanted);
        subchannel
    }

    /// Has all of them connected from now on, or none but those that a walk wants.
    pub(super) fn want(&mut self, all: bool) {
        if !(self.all_wanted && all) {
            self.change_all(|subchannel| subchannel.want(all));
        }
        self.all_wanted = all;
    }

    /// Changes one subchannel: what is counted of it may change.
    pub(super) fn change<T>(&mut self, place: usize, change: impl FnOnce(&mut Subchannel) -> T) -> T {
        let was_ready = self.subchannels[place].is_ready();
        let changed = change(&mut self.subchannels[place]);
        self.census.note(place, self.subchannels[place].figures(self.bounds));
        if was_ready || self.subchannels[place].is_ready() {
            self.edition += 1;
        }
        changed
    }

    /// Changes all of them.
    pub(super) fn change_all(&mut self, change: impl FnMut(&mut Subchannel)) {
        self.subchannels.iter_mut().for_each(change);
        self.census = Census::default();
        self.subchannels.iter().for_each(|subchannel| self.census.push(subchannel.figures(self.bounds)));
        self.edition += 1;
    }

    /// Asks all that are ready for reports: see [`Subchannel::ask_for_reports`].
    pub(super) fn ask_for_reports(&mut self, every: Option<Duration>, defaults: &Defaults) {
        self.subchannels.iter_mut().for_each(|subchannel| subchannel.ask_for_reports(every, defaults));
    }

    /// Notes that calls wait: see [`Subchannel::hurry`].
    pub(super) fn hurry(&mut self) {
        let resting: Vec<_> = self.census.resting().collect();
        resting.into_iter().for_each(|place| self.change(place, Subchannel::hurry));
    }

    /// Looks after further connections: see [`Subchannel::tend_lines`]. True if one may be tried again from now on.
    pub(super) fn tend_lines(&mut self, now: Instant) -> bool {
        let (mut pauses_end, idle) = (false, self.bounds.extra_idle);
        while let Some(place) = self.census.next_lines(now) {
            pauses_end |= self.change(place, |subchannel| subchannel.tend_lines(now, idle));
        }
        pauses_end
    }

    /// Where the subchannel of this number is. None if it was removed.
    pub(super) fn place(&self, number: u64) -> Option<usize> {
        self.places.get(&number).copied()
    }

    pub(super) fn any_ready(&self) -> bool {
        self.census.count(ConnectivityState::Ready) > 0
    }

    pub(super) fn census(&self) -> &Census {
        &self.census
    }

    /// Grows whenever an endpoint, or a connection that calls can be sent on, has changed.
    pub(super) fn edition(&self) -> u64 {
        self.edition
    }

    pub(super) fn endpoints(&self) -> &Arc<[Endpoint]> {
        &self.endpoints
    }

    pub(super) fn shown(&self) -> &Arc<[Arc<Shown>]> {
        &self.shown
    }

    pub(super) fn subchannels(&self) -> &[Subchannel] {
        &self.subchannels
    }
}
