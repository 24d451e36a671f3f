//! Connecting one endpoint out of several: happy eyeballs.

use callboard_core::{ConnectivityState, later};
use tokio::time::{Duration, Instant};

use super::roster::Roster;
use super::subchannel::Subchannel;

/// A walk through endpoints in order, until one is ready.
#[derive(Debug)]
pub(super) struct Walk {
    /// The numbers of their subchannels.
    order: Vec<u64>,
    attempt_delay: Duration,
    /// How many have been started in the first pass.
    begun: usize,
    /// When the next one is started, if the one before has not failed by then.
    next_at: Option<Instant>,
}

impl Walk {
    pub(super) fn new(order: impl Iterator<Item = u64>, attempt_delay: Duration) -> Self {
        Self { order: order.collect(), attempt_delay, begun: 0, next_at: None }
    }

    /// Notes a failed attempt: if it was the one begun last, the next one need not wait.
    pub(super) fn failed(&mut self, number: u64) {
        if self.begun > 0 && self.order.get(self.begun - 1) == Some(&number) {
            self.next_at = None;
        }
    }

    /// Keeps the one that is ready, and lets those rest that are not needed then. False if none is.
    pub(super) fn keep(&self, roster: &mut Roster) -> bool {
        if !roster.any_ready() {
            return false;
        }
        let census = roster.census();
        let open = census.count(ConnectivityState::Ready) + census.count(ConnectivityState::Connecting);
        if open > 1 {
            // The first in order, or else any.
            let in_order = self.order.iter().filter_map(|number| roster.place(*number));
            let ready = |place: &usize| roster.subchannels()[*place].is_ready();
            let kept = in_order.chain(0..roster.subchannels().len()).find(ready);
            for place in 0..roster.subchannels().len() {
                let subchannel = &roster.subchannels()[place];
                if Some(place) != kept && (subchannel.is_ready() || subchannel.is_connecting()) {
                    roster.change(place, Subchannel::rest);
                }
            }
        }
        true
    }

    /// The first pass, one at a time, each with a head start: says which to dial now. Each is wanted from its turn on, and
    /// dialled again when its own backoff is over.
    pub(super) fn step(&mut self, roster: &mut Roster, now: Instant) -> Vec<usize> {
        let mut dial: Vec<usize> = Vec::new();
        while self.begun < self.order.len() && self.next_at.is_none_or(|at| at <= now) {
            let number = self.order[self.begun];
            self.begun += 1;
            let Some(place) = roster.place(number) else { continue };
            roster.change(place, |subchannel| subchannel.want(true));
            let subchannel = &roster.subchannels()[place];
            if subchannel.is_due(now) {
                dial.push(place);
                self.next_at = Some(later(now, self.attempt_delay));
            } else if let Some(since) = subchannel.connecting_since() {
                // Its head start began with its attempt, not with this walk: changes in the registry that come faster
                // than the attempt_delay must not keep the others from their turn.
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
