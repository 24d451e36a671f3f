//! Whom calls can be given to.

use std::sync::Arc;

use callboard_core::{Balancer, ConnectivityState, Endpoint, Picker, later};
use tokio::time::{Duration, Instant};

use super::roster::Roster;
use super::subchannel::Subchannel;
use crate::lookaside::{List, Steering, Unasked};
use crate::transport::Connection;

/// A balancer cannot have a new picker made more often than this.
const SHORTEST_LIFE: Duration = Duration::from_millis(10);

/// What calls can choose from.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) choice: Arc<Choice>,
    /// Those of the endpoints, in the same order.
    pub(crate) connections: Arc<[Connections]>,
}

/// The ready endpoints and the picker over them. A call holds it to its end, so it holds no connection.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) picker: Box<dyn Picker>,
    pub(crate) endpoints: Arc<[Endpoint]>,
    /// What chooses instead of the picker while a balancer's list decides.
    pub(crate) steering: Option<Steering>,
}

impl Choice {
    /// Whether it is by this list or, without one, by the channel's own balancer.
    fn is_by(&self, list: Option<&Arc<List>>) -> bool {
        match (&self.steering, list) {
            (None, None) => true,
            (Some(steering), Some(list)) => steering.is_by(list),
            _ => false,
        }
    }
}

/// A ready endpoint's open connections: the first, and those that were opened because it was full.
#[derive(Debug)]
pub(crate) struct Connections {
    first: Arc<Connection>,
    more: Vec<Arc<Connection>>,
}

impl Connections {
    fn of(subchannel: &Subchannel) -> Option<Self> {
        let mut connections = subchannel.connections().cloned();
        let first = connections.next()?;
        Some(Self { first, more: connections.collect() })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Connection>> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// Whether this is what the subchannel has, unchanged.
    fn is(&self, now: &Subchannel) -> bool {
        self.iter().map(Arc::as_ptr).eq(now.connections().map(Arc::as_ptr))
    }
}

/// The ready endpoints as they were when the picker was made. A new picker is made only if they have changed, or if the
/// balancer wants one every so often.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    ready: Option<Arc<Ready>>,
    /// When a new picker is due although nothing has changed.
    renew_at: Option<Instant>,
    /// A new picker is to be made although the endpoints are the same.
    stale: bool,
    /// The roster's when it was looked at last.
    edition: u64,
}

impl Rotation {
    pub(super) fn ready(&self) -> Option<&Arc<Ready>> {
        self.ready.as_ref()
    }

    /// When to [`update`](Self::update) although nothing has changed.
    pub(super) fn renew_at(&self) -> Option<Instant> {
        self.renew_at
    }

    /// Has a new picker made by the next update, even if nothing has changed. Calls are given to the old one until then.
    pub(super) fn renew(&mut self) {
        self.stale = true;
    }

    /// Makes a new choice if anything has changed. `list` is the balancer's, if one decides.
    pub(super) fn update(&mut self, balancer: &dyn Balancer, roster: &Roster, list: Option<&Arc<List>>) {
        let now = Instant::now();
        let stale = self.stale || self.renew_at.is_some_and(|at| at <= now);
        let old = self.ready.as_deref();
        let untouched = std::mem::replace(&mut self.edition, roster.edition()) == roster.edition();
        if untouched && !stale && old.is_none_or(|old| old.choice.is_by(list)) {
            return;
        }
        let (endpoints, connections) = (ready_endpoints(old, roster), ready_connections(old, roster));
        let same = |old: &Ready| {
            Arc::ptr_eq(&old.choice.endpoints, &endpoints)
                && Arc::ptr_eq(&old.connections, &connections)
                && old.choice.is_by(list)
        };
        if old.is_some_and(same) && !stale {
            return;
        }
        let life = balancer.refresh_interval().filter(|_| !endpoints.is_empty() && list.is_none());
        self.renew_at = life.map(|life| later(now, life.max(SHORTEST_LIFE)));
        self.stale = false;
        self.ready = (!endpoints.is_empty()).then(|| {
            let (picker, steering): (Box<dyn Picker>, _) = match list {
                None => (balancer.picker(&endpoints), None),
                Some(list) => (Box::new(Unasked), Some(Steering::new(list, &endpoints))),
            };
            Arc::new(Ready { choice: Arc::new(Choice { picker, endpoints, steering }), connections })
        });
    }
}

/// The endpoints that are ready: a list that there is already, if one will do.
fn ready_endpoints(old: Option<&Ready>, roster: &Roster) -> Arc<[Endpoint]> {
    let ready = || roster.subchannels().iter().filter(|subchannel| subchannel.is_ready()).map(Subchannel::endpoint);
    if roster.census().count(ConnectivityState::Ready) == roster.endpoints().len() {
        return Arc::clone(roster.endpoints());
    }
    let instances = || ready().map(|endpoint| Arc::as_ptr(endpoint.instance()));
    let same =
        |old: &&Ready| old.choice.endpoints.iter().map(|endpoint| Arc::as_ptr(endpoint.instance())).eq(instances());
    old.filter(same).map_or_else(|| ready().cloned().collect(), |old| Arc::clone(&old.choice.endpoints))
}

/// Their connections: the list that there is already, if it will do.
fn ready_connections(old: Option<&Ready>, roster: &Roster) -> Arc<[Connections]> {
    let ready = || roster.subchannels().iter().filter(|subchannel| subchannel.is_ready());
    let same = |old: &&Ready| {
        let mut now = ready();
        old.connections.iter().all(|old| now.next().is_some_and(|now| old.is(now))) && now.next().is_none()
    };
    old.filter(same).map_or_else(|| ready().filter_map(Connections::of).collect(), |old| Arc::clone(&old.connections))
}
