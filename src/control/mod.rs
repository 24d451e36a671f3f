//! The one task that runs a channel.
//!
//! Resolver updates and connection events go in; connections are dialled; what calls need to know comes out as one
//! [`Published`] value behind an atomic pointer. Calls share nothing else with this task.

mod lines;
mod plan;
mod policy;
mod published;
mod roster;
mod rotation;
mod rules;
mod subchannel;
mod summary;
mod throttle;

use std::sync::{Arc, Weak};

use callboard_core::{Backoff, Balancer, Connect, ConnectivityState};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::lookaside::Source;
use crate::shared::{Defaults, Shared};
use crate::transport::{Connector, Event, Settings};
use plan::Walk;
use roster::Roster;
use rotation::Rotation;
use subchannel::Subchannel;

pub use policy::ConfigStatus;
pub(crate) use policy::Policy;
pub use published::EndpointStatus;
pub(crate) use published::{Published, Verdict};
pub(crate) use rotation::{Choice, Ready};
pub(crate) use rules::Rules;
pub(crate) use summary::{Standing, Summary};
pub(crate) use throttle::Throttle;

/// What a channel's task is started with.
pub(crate) struct Parts {
    /// The one in use: the service's config may change it.
    pub(crate) balancer: Arc<dyn Balancer>,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) settings: Settings,
    pub(crate) backoff: Backoff,
    /// How many connections one endpoint may have.
    pub(crate) most_connections: usize,
}

/// The state of the task.
pub(crate) struct Control {
    parts: Parts,
    policy: Policy,
    follow: Source,
    /// Weak, so that the task ends with the last channel.
    shared: Weak<Shared>,
    standing: Arc<Standing>,
    roster: Roster,
    walk: Option<Walk>,
    rotation: Rotation,
    /// Told by calls that find no place.
    crowd: Arc<Notify>,
    events: mpsc::UnboundedReceiver<(u64, Event)>,
    reports: mpsc::UnboundedSender<(u64, Event)>,
    last_id: u64,
    asks_for_reports: bool,
    /// Whether an external balancer's list decides.
    by_list: bool,
}

impl Control {
    pub(crate) fn new(parts: Parts, policy: Policy, follow: Source, shared: &Arc<Shared>) -> Self {
        let (reports, events) = mpsc::unbounded_channel();
        Self {
            parts,
            policy,
            follow,
            shared: Arc::downgrade(shared),
            standing: Arc::clone(&shared.standing),
            roster: Roster::default(),
            walk: None,
            rotation: Rotation::default(),
            crowd: Arc::clone(&shared.crowd),
            events,
            reports,
            last_id: 0,
            asks_for_reports: false,
            by_list: false,
        }
    }

    /// Runs until the last channel is dropped, which `dropped` resolves at.
    pub(crate) async fn run(mut self, mut dropped: oneshot::Receiver<()>) {
        loop {
            let wake = self.next_wake();
            tokio::select! {
                _ = &mut dropped => return,
                () = self.follow.changed() => self.take_view(),
                // This task holds a sender, so the channel never ends.
                Some((id, event)) = self.events.recv() => self.take_event(id, event),
                () = self.crowd.notified() => {
                    self.widen();
                    // What calls read has not changed; publishing it would wake all that wait.
                    continue;
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            while let Ok((id, event)) = self.events.try_recv() {
                self.take_event(id, event);
            }
            if self.follow.heed(|| self.roster.subchannels().iter().any(Subchannel::is_ready)) {
                self.take_view();
            }
            self.dial_what_is_due();
            if !self.publish() {
                return;
            }
        }
    }

    /// Takes over what the registry says: connections of what stays are kept, whatever the balancer.
    fn take_view(&mut self) {
        let switched = self.take_config();
        let Some(instances) = self.follow.view().instances.clone() else { return };
        let by_list = self.follow.list().is_some();
        let other_decides = std::mem::replace(&mut self.by_list, by_list) != by_list;
        if self.roster.take(&instances, &self.parts.backoff) || switched || other_decides {
            self.replan();
        }
    }

    /// Takes over the service's config, as soon as the registry has answered, whoever decides about endpoints. True if it
    /// has brought another balancer.
    fn take_config(&mut self) -> bool {
        if !self.follow.has_answered() {
            return false;
        }
        let Some(balancer) = self.policy.take(self.follow.view().config.as_ref()) else { return false };
        self.parts.balancer = balancer;
        self.rotation.renew();
        true
    }

    fn take_event(&mut self, id: u64, event: Event) {
        // None if the endpoint was removed, or its attempt given up, while the event was on its way.
        let subchannels = self.roster.subchannels_mut();
        let Some(subchannel) = subchannels.iter_mut().find(|subchannel| subchannel.owns(id)) else { return };
        let failed = matches!(event, Event::Failed(_));
        let was_ready = subchannel.is_ready();
        subchannel.take_event(id, event);
        let lost = was_ready && !subchannel.is_ready();
        match &mut self.walk {
            Some(walk) if failed => walk.failed(subchannel.address()),
            Some(_) if lost => self.replan(),
            _ => {}
        }
    }

    /// Asks the balancer anew which endpoints to connect. While an external balancer's list decides, they all are.
    fn replan(&mut self) {
        if self.by_list {
            self.walk = None;
            return;
        }
        let endpoints = self.roster.endpoints();
        self.walk = match self.parts.balancer.connect(endpoints) {
            Connect::InOrder { order, stagger } => {
                let addresses = order.iter().filter_map(|index| endpoints.get(*index));
                Some(Walk::new(addresses.map(|endpoint| endpoint.instance().address.clone()), stagger))
            }
            // `Connect` may grow; what this channel does not know it treats as the default.
            _ => None,
        };
    }

    fn dial_what_is_due(&mut self) {
        let now = Instant::now();
        let subchannels = self.roster.subchannels_mut();
        // What is published after this wakes the calls that wait for a place, and they ask for one more connection.
        subchannels.iter_mut().for_each(|subchannel| subchannel.end_pause(now));
        let due = match &mut self.walk {
            None => which(subchannels, |subchannel| subchannel.is_due(now)),
            Some(walk) => walk.step(subchannels, now),
        };
        due.into_iter().for_each(|index| self.dial(index));
    }

    /// Opens one more connection to each endpoint that is full, if it may have more.
    fn widen(&mut self) {
        let (now, most) = (Instant::now(), self.parts.most_connections);
        let crowded = which(self.roster.subchannels(), |subchannel| subchannel.is_crowded(most, now));
        crowded.into_iter().for_each(|index| self.dial(index));
    }

    fn dial(&mut self, index: usize) {
        self.last_id += 1;
        let Parts { connector, settings, .. } = &self.parts;
        let subchannel = &mut self.roster.subchannels_mut()[index];
        subchannel.dial(self.last_id, Arc::clone(connector), settings.clone(), self.reports.clone());
    }

    fn next_wake(&self) -> Option<Instant> {
        let subchannels = self.roster.subchannels();
        let widen_at = subchannels.iter().filter_map(Subchannel::widen_at).min();
        let dial_at = match &self.walk {
            // An idle one is dialled in the same turn of the loop in which it becomes idle.
            None => subchannels.iter().filter_map(Subchannel::retry_at).min(),
            Some(walk) => walk.next_wake(subchannels),
        };
        widen_at.into_iter().chain(dial_at).chain(self.rotation.renew_at()).min()
    }

    /// Asks each ready endpoint to report out of band, if the balancer wants that.
    fn ask_for_reports(&mut self, defaults: &Defaults) {
        let every = self.parts.balancer.load_reports();
        if every.is_some() || self.asks_for_reports {
            let subchannels = self.roster.subchannels_mut();
            subchannels.iter_mut().for_each(|subchannel| subchannel.ask_for_reports(every, defaults));
        }
        self.asks_for_reports = every.is_some();
    }

    /// Publishes what has changed. False if nobody is left to read it.
    fn publish(&mut self) -> bool {
        let Some(shared) = self.shared.upgrade() else { return false };
        self.ask_for_reports(&shared.defaults);
        self.rotation.update(&*self.parts.balancer, &self.roster, self.follow.list());
        let view = self.follow.view();
        let summary = Summary::of(&shared.service, view, self.roster.subchannels());
        let summary = Arc::new(summary.beside(self.follow.lookaside()));
        let published = Published::new(&self.rotation, summary, &self.policy, view.instances.is_some(), &self.roster);
        shared.publish(published);
        true
    }
}

/// The places of those that are meant.
fn which(subchannels: &[Subchannel], meant: impl Fn(&Subchannel) -> bool) -> Vec<usize> {
    subchannels.iter().enumerate().filter(|(_, subchannel)| meant(subchannel)).map(|(index, _)| index).collect()
}

/// However the task ends: with the last channel, by a panic of the balancer, or with its runtime. In the last two cases
/// there may be calls, which must not wait for what nobody does any more.
impl Drop for Control {
    fn drop(&mut self) {
        for endpoint in self.roster.endpoints().iter() {
            endpoint.set_state(ConnectivityState::Shutdown);
        }
        self.standing.note(Arc::new(self.standing.now().ended()));
        if let Some(shared) = self.shared.upgrade() {
            tracing::warn!(service = %shared.service, "the channel's task has ended before the channel");
            let ended = Published::ended(&shared.published());
            shared.publish(ended);
        }
    }
}
