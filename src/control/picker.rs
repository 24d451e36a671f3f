//! What calls can be given to, and the picker that chooses.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use callboard_core::{Balancer, Instance, Member, Members, Picker, later};
use tokio::time::{Duration, Instant};

use super::subchannel::Subchannel;
use super::subchannels::Subchannels;
use crate::transport::Connection;

/// A balancer cannot have a new picker made more often than this.
const SHORTEST_LIFE: Duration = Duration::from_millis(10);

/// What calls can choose from.
#[derive(Debug)]
pub(crate) struct Picking {
    pub(crate) chooser: Arc<Chooser>,
    /// Those of all members, in their order. None for one that is not ready.
    pub(crate) connections: Arc<[Option<Connections>]>,
    demands: Arc<Demands>,
}

/// The members and the picker over them. A call holds it to its end, so it holds no connection.
#[derive(Debug)]
pub(crate) struct Chooser {
    pub(crate) picker: Box<dyn Picker>,
    pub(crate) members: Members,
    /// Which balancer has made the picker.
    balancer: Arc<dyn Balancer>,
}

/// Members that picks have asked to have connected. Calls write it and the task reads it.
#[derive(Debug, Default)]
struct Demands(Mutex<BTreeSet<Member>>);

impl Picking {
    /// Notes that a pick wants this member connected. The call waits then, which wakes the task.
    pub(crate) fn demand(&self, member: Member) {
        self.demands.0.lock().unwrap_or_else(PoisonError::into_inner).insert(member);
    }

    /// A member's connections, if it is ready.
    pub(crate) fn connections(&self, member: Member) -> Option<&Connections> {
        self.connections.get(member.index())?.as_ref()
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
}

/// What was published last for calls to choose from. A new picker is made only if the members or their readiness have
/// changed, or if the balancer wants one.
#[derive(Debug, Default)]
pub(super) struct CurrentPicker {
    picking: Option<Arc<Picking>>,
    /// When a new picker is due although nothing has changed.
    refresh_at: Option<Instant>,
    /// The subchannels' when they were looked at last.
    editions: (u64, u64),
}

impl CurrentPicker {
    pub(super) fn picking(&self) -> Option<&Arc<Picking>> {
        self.picking.as_ref()
    }

    /// When to [`update`](Self::update) although nothing has changed.
    pub(super) fn refresh_at(&self) -> Option<Instant> {
        self.refresh_at
    }

    /// The members that picks have asked to have connected since the last look.
    pub(super) fn take_demands(&self) -> BTreeSet<Member> {
        let Some(picking) = &self.picking else { return BTreeSet::new() };
        std::mem::take(&mut *picking.demands.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a new picker if anything has changed that it is about. `partial` says that it is made even if none is ready.
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
        let kept = old.filter(|old| same(old) && !due && !switched && !(stirred && balancer.watches_states()));
        let chooser = kept.map(|old| Arc::clone(&old.chooser));
        // Where endpoints are connected on demand, calls wait for states too: they ask the same picker again.
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

/// Whether these are the same endpoints, and the same of them are ready.
fn is_same(old: &Members, new: &Members) -> bool {
    old.ready() == new.ready() && instances(old).eq(instances(new))
}

fn instances(members: &Members) -> impl Iterator<Item = *const Instance> {
    members.iter().map(|member| Arc::as_ptr(members[member].instance()))
}

/// The connections of all: the list that there is already, if it will do.
fn connections(old: Option<&Picking>, subchannels: &Subchannels) -> Arc<[Option<Connections>]> {
    let same = |old: &&Picking| {
        old.connections.len() == subchannels.list().len()
            && old.connections.iter().zip(subchannels.list()).all(|(old, now)| is(old.as_ref(), now))
    };
    old.filter(same)
        .map_or_else(|| subchannels.list().iter().map(Connections::of).collect(), |old| Arc::clone(&old.connections))
}

/// Whether this is what the subchannel has, unchanged.
fn is(old: Option<&Connections>, now: &Subchannel) -> bool {
    let old = old.into_iter().flat_map(Connections::iter).map(Arc::as_ptr);
    old.eq(now.connections().map(Arc::as_ptr))
}
