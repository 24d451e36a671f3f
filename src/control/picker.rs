//! The endpoints that calls can be sent to, and the picker that chooses among them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use callboard_core::{Balancer, Instance, Member, Members, Picker, later};
use tokio::time::{Duration, Instant};

use super::subchannel::Subchannel;
use super::subchannels::Subchannels;
use crate::transport::Connection;

/// The shortest refresh interval of a balancer.
const SHORTEST_LIFE: Duration = Duration::from_millis(10);

/// The endpoints that calls can choose from.
#[derive(Debug)]
pub(crate) struct Picking {
    pub(crate) chooser: Arc<Chooser>,
    /// The connections of all members, in their order. None for a member that is not ready.
    pub(crate) connections: Arc<[Option<Connections>]>,
    demands: Arc<Demands>,
}

/// The members and their picker. A call holds it to its end, so it must not hold connections.
#[derive(Debug)]
pub(crate) struct Chooser {
    pub(crate) picker: Box<dyn Picker>,
    pub(crate) members: Members,
    /// The balancer that has made the picker.
    balancer: Arc<dyn Balancer>,
}

/// Members that picks have asked to connect. Calls write it and the task reads it.
#[derive(Debug, Default)]
struct Demands(Mutex<BTreeSet<Member>>);

impl Picking {
    /// Notes that a pick asks to connect this member. The call waits then, which wakes the task.
    pub(crate) fn demand(&self, member: Member) {
        self.demands.0.lock().unwrap_or_else(PoisonError::into_inner).insert(member);
    }

    /// The connections of a member, if it is ready.
    pub(crate) fn connections(&self, member: Member) -> Option<&Connections> {
        self.connections.get(member.index())?.as_ref()
    }
}

/// The open connections of a ready endpoint: the first, and the extra ones.
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
}

/// Makes the pickers, and keeps the latest. A new one is made only if the members or the ready ones among them have
/// changed, or if the balancer asks for one.
#[derive(Debug, Default)]
pub(super) struct CurrentPicker {
    picking: Option<Arc<Picking>>,
    /// When a new picker is due even if nothing has changed.
    refresh_at: Option<Instant>,
    /// The editions of the subchannels at the last update.
    editions: (u64, u64),
}

impl CurrentPicker {
    pub(super) fn picking(&self) -> Option<&Arc<Picking>> {
        self.picking.as_ref()
    }

    /// When to call [`update`](Self::update) even if nothing has changed.
    pub(super) fn refresh_at(&self) -> Option<Instant> {
        self.refresh_at
    }

    /// Takes the members that picks have asked to connect since the last call.
    pub(super) fn take_demands(&self) -> BTreeSet<Member> {
        let Some(picking) = &self.picking else { return BTreeSet::new() };
        std::mem::take(&mut *picking.demands.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a new picker if anything has changed that it depends on. With `partial`, it is made even if no endpoint is
    /// ready.
    pub(super) fn update(&mut self, balancer: &Arc<dyn Balancer>, subchannels: &Subchannels, partial: bool) {
        let now = Instant::now();
        let old = self.picking.as_deref();
        let due = self.refresh_at.is_some_and(|at| at <= now);
        let switched = old.is_some_and(|old| !Arc::ptr_eq(&old.chooser.balancer, balancer));
        let editions = (subchannels.edition(), subchannels.states_edition());
        let former = std::mem::replace(&mut self.editions, editions);
        let stirred = former.1 != editions.1 && (balancer.watches_states() || partial);
        if former.0 == editions.0 && !stirred && !due && !switched {
            return;
        }
        let members = Members::new(Arc::clone(subchannels.endpoints()));
        let connections = connections(old, subchannels);
        let same = |old: &Picking| is_same(&old.chooser.members, &members);
        let outdated = due || switched || stirred && balancer.watches_states();
        let kept = old.filter(|old| same(old) && !outdated);
        let chooser = kept.map(|old| Arc::clone(&old.chooser));
        // If endpoints are connected on demand, calls also wait for changes of state: they ask the same picker again.
        if let Some(old) = kept
            && Arc::ptr_eq(&old.connections, &connections)
            && !stirred
        {
            return;
        }
        let needed = partial || !members.ready().is_empty();
        if chooser.is_none() || !needed {
            let life = balancer.refresh_interval().filter(|_| needed);
            self.refresh_at = life.map(|life| later(now, life.max(SHORTEST_LIFE)));
        }
        self.picking = needed.then(|| {
            let chooser = chooser.unwrap_or_else(|| {
                let (picker, balancer) = (balancer.picker(&members), Arc::clone(balancer));
                Arc::new(Chooser { picker, members, balancer })
            });
            Arc::new(Picking { chooser, connections, demands: Arc::default() })
        });
    }
}

/// Whether the endpoints are the same, and the same ones are ready.
fn is_same(old: &Members, new: &Members) -> bool {
    old.ready() == new.ready() && instances(old).eq(instances(new))
}

fn instances(members: &Members) -> impl Iterator<Item = *const Instance> {
    members.iter().map(|member| Arc::as_ptr(members[member].instance()))
}

/// The connections of all members. The old list is reused if nothing has changed.
fn connections(old: Option<&Picking>, subchannels: &Subchannels) -> Arc<[Option<Connections>]> {
    let same = |old: &&Picking| {
        old.connections.len() == subchannels.list().len()
            && old.connections.iter().zip(subchannels.list()).all(|(old, now)| is(old.as_ref(), now))
    };
    old.filter(same)
        .map_or_else(|| subchannels.list().iter().map(Connections::of).collect(), |old| Arc::clone(&old.connections))
}

/// Whether these are the current connections of the subchannel.
fn is(old: Option<&Connections>, now: &Subchannel) -> bool {
    let old = old.into_iter().flat_map(Connections::iter).map(Arc::as_ptr);
    old.eq(now.connections().map(Arc::as_ptr))
}
