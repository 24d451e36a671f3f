//! Connecting one endpoint out of several: happy eyeballs.

use callboard_core::{ConnectivityState, later};
use tokio::time::{Duration, Instant};

use super::subchannel::Subchannel;
use super::subchannels::Subchannels;

/// Which endpoints to connect, as the balancer has decided.
#[derive(Debug)]
pub(super) enum Plan {
    All,
    /// The named endpoints, and others on demand.
    Only,
    InOrder(ConnectOrder),
}

impl Plan {
    /// Whether endpoints may be connected on demand.
    pub(super) fn is_partial(&self) -> bool {
        matches!(self, Self::Only)
    }
}

/// The order in which endpoints are tried, until one is ready, and how far it has gone.
#[derive(Debug)]
pub(super) struct ConnectOrder {
    /// The numbers of the subchannels.
    order: Vec<u64>,
    attempt_delay: Duration,
    /// How many attempts have been started in the first pass.
    begun: usize,
    /// When the next attempt starts, unless the one before has failed earlier.
    next_at: Option<Instant>,
}

impl ConnectOrder {
    pub(super) fn new(order: impl Iterator<Item = u64>, attempt_delay: Duration) -> Self {
        Self { order: order.collect(), attempt_delay, begun: 0, next_at: None }
    }

    /// Notes a failed attempt. If it was the one started last, the next one starts at once.
    pub(super) fn failed(&mut self, number: u64) {
        if self.begun > 0 && self.order.get(self.begun - 1) == Some(&number) {
            self.next_at = None;
        }
    }

    /// Keeps the endpoint that is ready, and closes the others. False if none is ready.
    pub(super) fn keep(&self, subchannels: &mut Subchannels) -> bool {
        if !subchannels.any_ready() {
            return false;
        }
        let counts = subchannels.counts();
        let open = counts.of(ConnectivityState::Ready) + counts.of(ConnectivityState::Connecting);
        if open > 1 {
            // The first in the order, or else any.
            let in_order = self.order.iter().filter_map(|number| subchannels.place(*number));
            let ready = |place: &usize| subchannels.list()[*place].is_ready();
            let kept = in_order.chain(0..subchannels.list().len()).find(ready);
            for place in 0..subchannels.list().len() {
                let subchannel = &subchannels.list()[place];
                if Some(place) != kept && (subchannel.is_ready() || subchannel.is_connecting()) {
                    subchannels.change(place, Subchannel::rest);
                }
            }
        }
        true
    }

    /// Makes the next steps of the first pass, and returns which subchannels to dial now. They are started one at a
    /// time, each with a head start. A subchannel is wanted from its start on, and is dialled again when its own
    /// backoff is over.
    pub(super) fn step(&mut self, subchannels: &mut Subchannels, now: Instant) -> Vec<usize> {
        let mut dial: Vec<usize> = Vec::new();
        while self.begun < self.order.len() && self.next_at.is_none_or(|at| at <= now) {
            let number = self.order[self.begun];
            self.begun += 1;
            let Some(place) = subchannels.place(number) else { continue };
            subchannels.change(place, |subchannel| subchannel.want(true));
            let subchannel = &subchannels.list()[place];
            if subchannel.is_due(now) {
                dial.push(place);
                self.next_at = Some(later(now, self.attempt_delay));
            } else if let Some(since) = subchannel.connecting_since() {
                // The head start began with the attempt, not with this order. Otherwise changes in the registry that
                // come faster than the attempt delay would keep the others from being dialled.
                self.next_at = Some(later(since, self.attempt_delay));
            }
        }
        dial
    }

    /// When to [`step`](Self::step) next. None when the first pass is over.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.next_at.filter(|_| self.begun < self.order.len())
    }
}
