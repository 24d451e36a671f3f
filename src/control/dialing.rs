//! Which endpoints are dialled, and when there is something to do.

use std::sync::Arc;

use callboard_core::{Connect, Members};
use tokio::time::{Duration, Instant};

use super::Parts;
use super::connect_order::{ConnectOrder, Plan};
use super::subchannel::Subchannel;
use super::task::Control;

/// How many attempts are started in a row, and how long the next ones wait then. Without a pause, thousands of attempts
/// that fail at once would starve other tasks on this thread.
const MOST_BEGUN: usize = 16;
const BETWEEN: Duration = Duration::from_millis(4);

impl Control {
    /// Asks the balancer again which endpoints to connect.
    pub(super) fn replan(&mut self) {
        let members = Members::new(Arc::clone(self.subchannels.endpoints()));
        self.plan = match self.balancer().connect(&members) {
            Connect::InOrder { order, attempt_delay } => {
                let listed = order.iter().filter_map(|member| self.subchannels.list().get(member.index()));
                let order = ConnectOrder::new(listed.map(Subchannel::number), attempt_delay);
                self.subchannels.want_all(false);
                Plan::InOrder(order)
            }
            Connect::Only(listed) => {
                self.subchannels.want_only(&listed);
                Plan::Only
            }
            // `Connect` is non-exhaustive; unknown variants are treated as the default.
            _ => {
                self.subchannels.want_all(true);
                Plan::All
            }
        };
    }

    /// Connects the endpoints that picks have asked for. True if there are any.
    pub(super) fn connect_on_demand(&mut self) -> bool {
        let asked_for = self.picker.take_demands();
        for member in &asked_for {
            self.subchannels.change(member.index(), Subchannel::demand);
        }
        !asked_for.is_empty()
    }

    pub(super) fn dial_what_is_due(&mut self) {
        let now = Instant::now();
        if self.subchannels.tend_extra_connections(now) {
            self.widen();
        }
        if let Plan::InOrder(order) = &mut self.plan {
            if order.keep(&mut self.subchannels) {
                return;
            }
            order.step(&mut self.subchannels, now).into_iter().for_each(|place| self.dial(place));
        }
        if now < self.dial_from {
            return;
        }
        for _ in 0..MOST_BEGUN {
            let Some(place) = self.subchannels.counts().next_due(now, self.parts.max_dials) else { return };
            self.dial(place);
        }
        self.dial_from = now + BETWEEN;
    }

    /// Opens one more connection to each endpoint whose streams are all in use while calls wait, if it may have more.
    pub(super) fn widen(&mut self) {
        let (now, most) = (Instant::now(), self.parts.most_connections);
        if most == 1 {
            return;
        }
        let all = self.subchannels.list().iter().enumerate();
        let crowded: Vec<_> = all.filter(|(_, one)| one.is_crowded(most, now)).map(|(place, _)| place).collect();
        crowded.into_iter().for_each(|place| self.dial(place));
    }

    fn dial(&mut self, place: usize) {
        self.last_id += 1;
        let (id, Parts { connector, settings, .. }, reports) = (self.last_id, &self.parts, &self.reports);
        self.subchannels.change(place, |subchannel| {
            subchannel.dial(id, Arc::clone(connector), settings.clone(), reports.clone());
        });
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        let counts = self.subchannels.counts();
        let due_at = || counts.due_at(self.parts.max_dials).map(|at| at.max(self.dial_from));
        let dial_at = match &self.plan {
            Plan::InOrder(_) if self.subchannels.any_ready() => None,
            Plan::InOrder(order) => order.next_at().into_iter().chain(due_at()).min(),
            Plan::All | Plan::Only => due_at(),
        };
        let others = [counts.extra_connections_at(), counts.hopes_end_at(Instant::now()), self.picker.refresh_at()];
        dial_at.into_iter().chain(others.into_iter().flatten()).min()
    }
}
