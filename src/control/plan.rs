//! Connecting one endpoint out of several: happy eyeballs.

use callboard_core::Address;
use tokio::time::{Duration, Instant};

use super::subchannel::Subchannel;

/// A walk through endpoints in order, until one is ready.
#[derive(Debug)]
pub(super) struct Walk {
    order: Vec<Address>,
    stagger: Duration,
    /// How many have been started in the first pass.
    begun: usize,
    /// When the next one is started, if the one before has not failed by then.
    next_at: Option<Instant>,
}

impl Walk {
    pub(super) fn new(order: impl Iterator<Item = Address>, stagger: Duration) -> Self {
        Self { order: order.collect(), stagger, begun: 0, next_at: None }
    }

    /// Notes a failed attempt: if it was the one begun last, the next one need not wait.
    pub(super) fn failed(&mut self, address: &Address) {
        if self.begun > 0 && self.order.get(self.begun - 1) == Some(address) {
            self.next_at = None;
        }
    }

    /// Says which subchannels to dial now, and lets those rest that are not needed.
    pub(super) fn step(&mut self, subchannels: &mut [Subchannel], now: Instant) -> Vec<usize> {
        if let Some(kept) = self.kept(subchannels) {
            for (index, subchannel) in subchannels.iter_mut().enumerate() {
                if index != kept && (subchannel.is_ready() || subchannel.is_connecting()) {
                    subchannel.rest();
                }
            }
            return Vec::new();
        }
        let mut dial: Vec<usize> = Vec::new();
        // The first pass: one at a time, each with a head start.
        while self.begun < self.order.len() && self.next_at.is_none_or(|at| at <= now) {
            let address = &self.order[self.begun];
            self.begun += 1;
            let Some(index) = position(subchannels, address) else { continue };
            if subchannels[index].is_due(now) {
                dial.push(index);
                self.next_at = Some(now + self.stagger);
            } else if let Some(since) = subchannels[index].connecting_since() {
                // Its head start began with its attempt, not with this walk: changes in the registry that come faster
                // than the stagger must not keep the others from their turn.
                self.next_at = Some(since + self.stagger);
            }
        }
        // Those whose turn has been: each again when its own backoff is over.
        for address in &self.order[..self.begun] {
            if let Some(index) = position(subchannels, address)
                && subchannels[index].is_due(now)
                && !dial.contains(&index)
            {
                dial.push(index);
            }
        }
        dial
    }

    /// The ready one to keep: the first in order, or else any.
    fn kept(&self, subchannels: &[Subchannel]) -> Option<usize> {
        let in_order = self.order.iter().filter_map(|address| position(subchannels, address));
        in_order.chain(0..subchannels.len()).find(|index| subchannels[*index].is_ready())
    }

    pub(super) fn next_wake(&self, subchannels: &[Subchannel]) -> Option<Instant> {
        if subchannels.iter().any(Subchannel::is_ready) {
            return None;
        }
        let first_pass = if self.begun < self.order.len() { self.next_at } else { None };
        let again = self.order[..self.begun]
            .iter()
            .filter_map(|address| position(subchannels, address).and_then(|index| subchannels[index].retry_at()));
        again.chain(first_pass).min()
    }
}

fn position(subchannels: &[Subchannel], address: &Address) -> Option<usize> {
    subchannels.iter().position(|subchannel| subchannel.address() == address)
}
