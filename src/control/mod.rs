//! The one task that runs a channel.
//!
//! Resolver updates and connection events go in; connections are dialled; what calls need to know comes out as one
//! [`Published`] value behind an atomic pointer. Calls share nothing else with this task.

mod census;
mod departed;
mod dials;
mod lines;
mod pace;
mod phase;
mod plan;
mod policy;
mod published;
mod roster;
mod rotation;
mod rules;
mod subchannel;
mod summary;
mod throttle;
mod trouble;

use std::sync::{Arc, Weak};

use callboard_core::{Backoff, Balancer, ConnectivityState};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{Duration, Instant, sleep_until};

use crate::lookaside::Source;
use crate::shared::{Defaults, Shared};
use crate::transport::{Attempt, Connector, Event, Settings};
use plan::Walk;
use roster::{Bounds, Roster};
use rotation::Rotation;
use subchannel::Subchannel;

pub use policy::ConfigStatus;
pub(crate) use policy::Policy;
pub use published::EndpointStatus;
pub(crate) use published::{Published, Since, Verdict};
pub(crate) use rotation::{Choice, Connections, Ready};
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
    /// How long one that was opened because others were full may be idle.
    pub(crate) extra_idle: Duration,
    /// How many attempts to connect may be under way.
    pub(crate) max_dials: usize,
}

/// How many attempts to connect may be under way, if nobody says.
pub(crate) const MAX_DIALS: usize = 100;

/// How many events are taken before others on this thread have their turn.
const MOST_EVENTS: usize = 64;

/// The state of the task.
pub(crate) struct Control {
    parts: Parts,
    policy: Policy,
    watcher: Source,
    /// Weak, so that the task ends with the last channel.
    shared: Weak<Shared>,
    standing: Arc<Standing>,
    roster: Roster,
    walk: Option<Walk>,
    rotation: Rotation,
    /// Told by calls that wait: for an endpoint, or for a place where there may be more.
    wanted: Arc<Notify>,
    /// Told by who wants everything to be dialled now.
    urge: Arc<Notify>,
    events: mpsc::UnboundedReceiver<(Attempt, Event)>,
    reports: mpsc::UnboundedSender<(Attempt, Event)>,
    last_id: u64,
    /// How often endpoints were asked to report last, and as of which edition of the roster.
    asked_for_reports: (Option<Duration>, u64),
    /// Whether an external balancer's list decides.
    by_list: bool,
    /// From when on the next change of the set is taken over.
    follow_from: Instant,
    /// From when on the next ones are dialled that are due.
    dial_from: Instant,
}

impl Control {
    pub(crate) fn new(parts: Parts, policy: Policy, watcher: Source, shared: &Arc<Shared>) -> Self {
        let (reports, events) = mpsc::unbounded_channel();
        let Settings { connect_timeout, .. } = parts.settings;
        let bounds = Bounds { extra_idle: parts.extra_idle, connect_timeout };
        Self {
            roster: Roster::new(parts.backoff.clone(), bounds),
            parts,
            policy,
            watcher,
            shared: Arc::downgrade(shared),
            standing: Arc::clone(&shared.standing),
            walk: None,
            rotation: Rotation::default(),
            wanted: Arc::clone(&shared.wanted),
            urge: Arc::clone(&shared.urge),
            events,
            reports,
            last_id: 0,
            asked_for_reports: (None, 0),
            by_list: false,
            follow_from: Instant::now(),
            dial_from: Instant::now(),
        }
    }

    /// Runs until the last channel is dropped, which `dropped` resolves at.
    pub(crate) async fn run(mut self, mut dropped: oneshot::Receiver<()>) {
        loop {
            let (wake, may_follow) = (self.next_wake(), self.follow_from <= Instant::now());
            tokio::select! {
                _ = &mut dropped => return,
                () = self.watcher.changed(), if may_follow => self.take_resolution().await,
                () = sleep_until(self.follow_from), if !may_follow => continue,
                // This task holds a sender, so the channel never ends.
                Some((attempt, event)) = self.events.recv() => self.take_event(attempt, event),
                () = self.wanted.notified() => {
                    self.roster.hurry();
                    self.widen();
                    // What calls read has not changed.
                    continue;
                }
                () = self.urge.notified() => self.roster.change_all(Subchannel::reset_backoff),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            for _ in 1..MOST_EVENTS {
                let Ok((attempt, event)) = self.events.try_recv() else { break };
                self.take_event(attempt, event);
            }
            if self.watcher.heed(|| self.roster.any_ready()) {
                self.take_resolution().await;
            }
            self.dial_what_is_due();
            if !self.publish() {
                return;
            }
            // However much there is to do, others on this thread have their turn.
            yield_now().await;
        }
    }

    /// Takes over what the registry says: connections of what stays are kept, whatever the balancer.
    async fn take_resolution(&mut self) {
        let switched = self.take_config();
        let Some(instances) = self.watcher.resolution().instances.clone() else { return };
        let by_list = self.watcher.list().is_some();
        let other_decides = std::mem::replace(&mut self.by_list, by_list) != by_list;
        let begun = Instant::now();
        if self.roster.take(&instances).await || switched || other_decides {
            self.replan();
        }
        self.follow_from = Instant::now() + pause_after(begun.elapsed());
    }

    /// Takes over the service's config, as soon as the registry has answered, whoever decides about endpoints. True if it
    /// has brought another balancer.
    fn take_config(&mut self) -> bool {
        if !self.watcher.has_answered() {
            return false;
        }
        let Some(balancer) = self.policy.take(self.watcher.resolution().config.as_ref()) else { return false };
        self.parts.balancer = balancer;
        self.rotation.renew();
        true
    }

    fn take_event(&mut self, Attempt { by, id }: Attempt, event: Event) {
        // None if the endpoint was removed while the event was on its way.
        let Some(place) = self.roster.place(by) else { return };
        let failed = matches!(event, Event::Failed(_));
        let lost = self.roster.change(place, |subchannel| {
            let was_ready = subchannel.is_ready();
            subchannel.take_event(id, event);
            was_ready && !subchannel.is_ready()
        });
        match &mut self.walk {
            Some(walk) if failed => walk.failed(by),
            Some(_) if lost => self.replan(),
            _ => {}
        }
    }

    /// Asks each ready endpoint to report out of band, if the balancer wants that.
    fn ask_for_reports(&mut self, defaults: &Defaults) {
        let every = self.parts.balancer.oob_report_interval();
        let (asked, edition) = std::mem::replace(&mut self.asked_for_reports, (every, self.roster.edition()));
        let changed = asked != every || edition != self.roster.edition();
        if changed && (asked.is_some() || every.is_some()) {
            self.roster.ask_for_reports(every, defaults);
        }
    }

    /// Publishes what has changed. False if nobody is left to read it.
    fn publish(&mut self) -> bool {
        let Some(shared) = self.shared.upgrade() else { return false };
        self.ask_for_reports(&shared.defaults);
        self.rotation.update(&*self.parts.balancer, &self.roster, self.watcher.list());
        let resolution = self.watcher.resolution();
        let summary = Summary::of(&shared.service, resolution, &self.roster);
        let summary = Arc::new(summary.beside(self.watcher.lookaside()));
        let published =
            Published::new(&self.rotation, summary, &self.policy, resolution.instances.is_some(), &self.roster);
        shared.publish(published);
        true
    }
}

/// How long the set stays as it is after a change that took so long. With thousands of endpoints and changes without a pause,
/// this leaves most of the time to others.
fn pause_after(change: Duration) -> Duration {
    const HARDLY_ANY: Duration = Duration::from_millis(5);
    const LONGEST: Duration = Duration::from_secs(1);
    if change < HARDLY_ANY { Duration::ZERO } else { LONGEST.min(change * 20) }
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
            if !std::thread::panicking() {
                shared.runtime.note_end();
            }
            tracing::warn!(service = %shared.service, "the channel's task has ended before the channel");
            let ended = Published::ended(&shared.published());
            shared.publish(ended);
        }
    }
}
