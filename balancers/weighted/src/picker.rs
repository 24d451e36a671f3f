//! The picker: a walk round the circle.

use std::fmt;
use std::sync::Arc;

use callboard_core::{Call, MAX_WEIGHT, Member, Members, Pick, Picker, Turns};

use crate::circle::Circle;
use crate::step::even_step;

/// Walks round a circle in equal steps; the endpoint on whose arc a step ends takes the call.
///
/// The steps are near the golden section of the circle, which spreads them evenly: by the three gap theorem, the number
/// of picks between two visits to an arc has at most three values, whatever the other arcs are.
pub(crate) struct Walk {
    /// Points on a circle of circumference 2^64, so that integer overflow wraps correctly.
    ///
    /// The slots need not divide 2^64, so a step is off by up to half a point; the first pick is in the middle of a
    /// slot. It takes as many picks as 2^64 divided by the slots to drift to the edge of one: more than 10^10 with
    /// 10,000 endpoints of the highest weight. Then one round is off by a few calls, and the next are exact again.
    turns: Turns,
    circle: Circle,
    /// The weights of the ready members, in their order.
    weights: Vec<u16>,
    ready: Arc<[Member]>,
}

impl Walk {
    /// Makes a picker by the weights in the registry.
    pub(crate) fn new(members: &Members) -> Self {
        let weights = members.ready().iter().map(|member| members[*member].weight()).collect();
        Self::with_weights(members, clamped(weights))
    }

    /// Makes a picker by these weights of the ready members, in their order.
    pub(crate) fn with_weights(members: &Members, weights: Vec<u16>) -> Self {
        let ready = Arc::clone(members.ready());
        let weights = reduced(weights);
        let circle = Circle::new(&weights);
        let slots = u128::from(circle.slots().max(1));
        let first = u128::from(fastrand::u64(..circle.slots().max(1)));
        let step = u128::from(even_step(circle.slots()));
        let start = ((first << 64 | 1 << 63) / slots) as u64;
        Self { turns: Turns::new(start, (((step << 64) + slots / 2) / slots) as u64), circle, weights, ready }
    }

    /// Draws one of the members that the call does not avoid, in proportion to their weights. None if there is none, or
    /// if all of them have weight 0.
    fn another(&self, call: &Call<'_>) -> Option<Member> {
        let others = || self.ready.iter().zip(&self.weights).filter(|(member, _)| !call.avoids(**member));
        let mut left = match others().map(|(_, weight)| u64::from(*weight)).sum() {
            0 => return None,
            total => fastrand::u64(..total),
        };
        let mut takes = |weight: u64| left.checked_sub(weight).map(|rest| left = rest).is_none();
        others().find(|(_, weight)| takes(u64::from(**weight))).map(|(member, _)| *member)
    }
}

/// The effective weights: at most [`MAX_WEIGHT`], and 1 for all if all are 0.
fn clamped(mut weights: Vec<u32>) -> Vec<u16> {
    const { assert!(MAX_WEIGHT == u16::MAX as u32) };
    if weights.iter().all(|weight| *weight == 0) {
        weights.fill(1);
    }
    weights.into_iter().map(|weight| u16::try_from(weight).unwrap_or(u16::MAX)).collect()
}

/// Divides the weights by their greatest common divisor, which makes rounds as short as possible.
fn reduced(weights: Vec<u16>) -> Vec<u16> {
    let factor = weights.iter().copied().fold(0, gcd).max(1);
    weights.into_iter().map(|weight| weight / factor).collect()
}

fn gcd(mut a: u16, mut b: u16) -> u16 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl Picker for Walk {
    fn pick(&self, call: &Call<'_>) -> Pick {
        // A circle of one slot needs no turns.
        let point = if self.circle.slots() > 1 { self.turns.next() } else { 0 };
        let Some(owner) = self.circle.owner(point).map(|index| self.ready[index]) else { return Pick::Wait };
        let other = if call.avoids_any() && call.avoids(owner) { self.another(call) } else { None };
        Pick::To(other.unwrap_or(owner))
    }
}

impl fmt::Debug for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Walk").field("slots", &self.circle.slots()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
