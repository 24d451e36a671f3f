//! The control task of a channel.

use std::sync::{Arc, Weak};

use callboard_core::{Balancer, ConnectivityState};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{Duration, Instant, sleep_until};

use super::connect_order::Plan;
use super::counts::Bounds;
use super::picker::CurrentPicker;
use super::subchannel::Subchannel;
use super::subchannels::Subchannels;
use super::{Parts, Published, Set, Shared, Source, Standing, Summary};
use crate::config::ActiveConfig;
use crate::grpc::Defaults;
use crate::transport::{ConnectionKey, Event, Settings};

/// How many events are handled before the task yields.
const MOST_EVENTS: usize = 64;

/// The state of the task.
pub(super) struct Control {
    pub(super) parts: Parts,
    config: ActiveConfig,
    pub(super) source: Box<dyn Source>,
    /// Weak, so that the task ends with the last channel.
    shared: Weak<Shared>,
    standing: Arc<Standing>,
    pub(super) subchannels: Subchannels,
    pub(super) plan: Plan,
    pub(super) picker: CurrentPicker,
    /// Notified by calls that wait for an endpoint, or for a stream where more connections are permitted.
    wanted: Arc<Notify>,
    /// Notified to dial every endpoint now.
    urge: Arc<Notify>,
    events: mpsc::UnboundedReceiver<(ConnectionKey, Event)>,
    pub(super) reports: mpsc::UnboundedSender<(ConnectionKey, Event)>,
    pub(super) last_id: u64,
    /// The interval at which load reports were requested last, and the edition of the subchannels then.
    asked_for_reports: (Option<Duration>, u64),
    /// Whether the source's balancer is in use.
    by_source: bool,
    /// From when on the next change of the set is taken over.
    take_from: Instant,
    /// From when on endpoints that are due are dialled.
    pub(super) dial_from: Instant,
    /// Since when no endpoint works. None while one does, or may soon.
    failing_since: Option<Instant>,
    /// Whether it was said that the balancer does not look at weights.
    weights_named: bool,
}

impl Control {
    pub(super) fn new(parts: Parts, config: ActiveConfig, source: Box<dyn Source>, shared: &Arc<Shared>) -> Self {
        let (reports, events) = mpsc::unbounded_channel();
        let Settings { connect_timeout, .. } = parts.settings;
        let bounds = Bounds { extra_idle: parts.extra_idle, connect_timeout };
        Self {
            subchannels: Subchannels::new(parts.backoff.clone(), bounds),
            parts,
            config,
            source,
            shared: Arc::downgrade(shared),
            standing: Arc::clone(&shared.standing),
            plan: Plan::All,
            picker: CurrentPicker::default(),
            wanted: Arc::clone(&shared.wanted),
            urge: Arc::clone(&shared.urge),
            events,
            reports,
            last_id: 0,
            asked_for_reports: (None, 0),
            by_source: false,
            take_from: Instant::now(),
            dial_from: Instant::now(),
            failing_since: None,
            weights_named: false,
        }
    }

    /// Runs until the last channel is dropped; then `dropped` resolves.
    pub(super) async fn run(mut self, mut dropped: oneshot::Receiver<()>) {
        loop {
            let (wake, may_take) = (self.next_wake(), self.take_from <= Instant::now());
            tokio::select! {
                _ = &mut dropped => return,
                () = self.source.changed(), if may_take => self.take_set().await,
                () = sleep_until(self.take_from), if !may_take => continue,
                // This task holds a sender, so the channel never ends.
                Some((key, event)) = self.events.recv() => self.take_event(key, event),
                () = self.wanted.notified() => {
                    self.subchannels.hurry();
                    self.widen();
                    if !self.connect_on_demand() {
                        // Nothing to publish.
                        continue;
                    }
                }
                () = self.urge.notified() => self.subchannels.change_all(Subchannel::reset_backoff),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            for _ in 1..MOST_EVENTS {
                let Ok((key, event)) = self.events.try_recv() else { break };
                self.take_event(key, event);
            }
            if self.source.note_ready(self.subchannels.any_ready()) {
                self.take_set().await;
            }
            self.dial_what_is_due();
            if !self.publish() {
                return;
            }
            // Yields, so that other tasks on this thread run even if there is always more to do.
            yield_now().await;
        }
    }

    /// The balancer in use: the source's, or the channel's own.
    pub(super) fn balancer(&self) -> &Arc<dyn Balancer> {
        self.source.balancer().unwrap_or(&self.parts.balancer)
    }

    /// Takes over the source's endpoints. Connections of endpoints that stay are kept, even if the balancer changes.
    async fn take_set(&mut self) {
        let switched = self.take_config();
        let Set::Known(instances) = self.source.set() else { return };
        let by_source = self.source.balancer().is_some();
        let other_decides = std::mem::replace(&mut self.by_source, by_source) != by_source;
        let begun = Instant::now();
        if self.subchannels.take(&instances).await || switched || other_decides {
            self.replan();
            self.warn_of_unused_weights();
        }
        self.take_from = Instant::now() + pause_after(begun.elapsed());
    }

    /// Logs once that instances have different weights and that the balancer does not look at them.
    fn warn_of_unused_weights(&mut self) {
        if self.weights_named || self.balancer().uses_weights() {
            return;
        }
        let endpoints = self.subchannels.endpoints();
        let differs = endpoints.iter().find(|endpoint| endpoint.weight() != endpoints[0].weight());
        let Some(one) = differs else { return };
        let (instance, weight, balancer) = (one.instance().id(), one.weight(), self.balancer().name());
        tracing::warn!(instance, weight, balancer, "the balancer does not look at weights; `weighted` does");
        self.weights_named = true;
    }

    /// Takes over the service config, once the registry has answered. True if the balancer has changed.
    fn take_config(&mut self) -> bool {
        let registry = self.source.registry();
        if registry.instances.is_none() {
            return false;
        }
        let Some(balancer) = self.config.take(registry.config.as_ref()) else { return false };
        self.parts.balancer = balancer;
        true
    }

    fn take_event(&mut self, ConnectionKey { by, id }: ConnectionKey, event: Event) {
        // None if the endpoint was removed meanwhile.
        let Some(place) = self.subchannels.place(by) else { return };
        let failed = matches!(event, Event::Failed(_));
        let lost = self.subchannels.change(place, |subchannel| {
            let was_ready = subchannel.is_ready();
            subchannel.take_event(id, event);
            was_ready && !subchannel.is_ready()
        });
        match &mut self.plan {
            Plan::InOrder(order) if failed => order.failed(by),
            Plan::InOrder(_) if lost => self.replan(),
            _ => {}
        }
    }

    /// Requests out-of-band load reports from each ready endpoint, if the balancer wants them.
    fn ask_for_reports(&mut self, defaults: &Defaults) {
        let every = self.balancer().oob_report_interval();
        let edition = self.subchannels.edition();
        let asked = std::mem::replace(&mut self.asked_for_reports, (every, edition));
        if asked != (every, edition) && (asked.0.is_some() || every.is_some()) {
            self.subchannels.ask_for_reports(every, defaults);
        }
    }

    /// Publishes what has changed. False if the last channel is gone.
    fn publish(&mut self) -> bool {
        let Some(shared) = self.shared.upgrade() else { return false };
        self.ask_for_reports(&shared.defaults);
        let balancer = Arc::clone(self.balancer());
        self.picker.update(&balancer, &self.subchannels, self.plan.is_partial());
        let summary = Arc::new(Summary::of(&shared.service, &*self.source, &self.subchannels));
        let published = Published::new(&self.picker, summary, &self.config, &self.source.set(), &self.subchannels);
        self.log_change(&published);
        shared.publish(published);
        true
    }

    /// Logs once when no endpoint works any more, and once when one works again.
    fn log_change(&mut self, published: &Published) {
        match published.state {
            ConnectivityState::TransientFailure if self.failing_since.is_none() => {
                self.failing_since = Some(Instant::now());
                tracing::warn!(summary = %published.summary, "no endpoint works: calls fail");
            }
            ConnectivityState::Ready => {
                if let Some(since) = self.failing_since.take() {
                    let after = since.elapsed();
                    tracing::info!(service = %published.summary.service(), ?after, "an endpoint works again");
                }
            }
            _ => {}
        }
    }
}

/// How long to wait after a change of the set, given the time that it took. With thousands of endpoints and continuous
/// changes, this leaves most of the time to other tasks.
fn pause_after(change: Duration) -> Duration {
    const HARDLY_ANY: Duration = Duration::from_millis(5);
    const LONGEST: Duration = Duration::from_secs(1);
    if change < HARDLY_ANY { Duration::ZERO } else { LONGEST.min(change * 20) }
}

/// The task ends with the last channel, by a panic of the balancer, or with its runtime. In the last two cases calls
/// may be waiting. They must fail then.
impl Drop for Control {
    fn drop(&mut self) {
        for endpoint in self.subchannels.endpoints().iter() {
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
