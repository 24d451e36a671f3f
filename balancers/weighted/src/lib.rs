#![doc = include_str!("../README.md")]

mod circle;
mod measured;
mod picker;
mod round_robin;
mod scale;
mod settings;
mod step;

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, PoisonError};

use callboard_core::{Balancer, Connect, Endpoint, MAX_WEIGHT, Members, Picker};

use crate::picker::Walk;
pub use crate::round_robin::WeightedRoundRobin;
pub use crate::settings::WeightedRoundRobinSettings;

/// Sends calls to the ready endpoints in turn, each as often as its weight in the registry says.
///
/// All endpoints are connected. If the greatest common divisor of the weights is 1 and their sum is s, then of any s
/// picks in a row each endpoint gets exactly as many as its weight. Equal weights are round robin. The picks of an
/// endpoint are spread over a round: the gap between two of them is at most about three times the average (five times,
/// if the sum is above 60,000). Each picker starts at a random place. Threads share one round, until they do hardly
/// anything else but pick. Then each thread takes [turns](callboard_core::Turns) of its own, and an endpoint may be off
/// by a few calls for each thread.
///
/// An endpoint of weight 0 gets no calls, unless all have weight 0: then all are equal. A weight above [`MAX_WEIGHT`]
/// counts as [`MAX_WEIGHT`]; this is logged at `warn` when it is new. A picker without endpoints makes calls wait.
#[derive(Debug, Default)]
pub struct Weighted {
    /// Ids and weights of the endpoints that were above [`MAX_WEIGHT`] when last seen, so that each is logged once.
    clamped: Mutex<HashMap<String, u32>>,
}

impl Weighted {
    /// Makes the balancer. It has no settings. Its only state is what it has logged.
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers the endpoints whose weight is above [`MAX_WEIGHT`], and returns the new ones.
    fn newly_clamped<'a>(&self, members: &'a Members) -> Vec<&'a Endpoint> {
        let all = members.iter().map(|member| &members[member]);
        let clamped: Vec<_> = all.filter(|endpoint| endpoint.weight() > MAX_WEIGHT).collect();
        let now = clamped.iter().map(|endpoint| (endpoint.instance().id().to_owned(), endpoint.weight())).collect();
        let known = mem::replace(&mut *self.clamped.lock().unwrap_or_else(PoisonError::into_inner), now);
        clamped.into_iter().filter(|endpoint| known.get(endpoint.instance().id()) != Some(&endpoint.weight())).collect()
    }
}

impl Clone for Weighted {
    /// A balancer for another channel, with a log state of its own.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Balancer for Weighted {
    fn name(&self) -> &str {
        "weighted"
    }

    fn connect(&self, members: &Members) -> Connect {
        // Logged here and not in `picker`, which is called whenever a connection opens or closes. One line for all,
        // because a registry may hold thousands of them.
        let clamped = self.newly_clamped(members);
        if let Some(first) = clamped.first() {
            tracing::warn!(
                instance = %first.instance().id(),
                weight = first.weight(),
                highest = MAX_WEIGHT,
                instances = clamped.len(),
                "weights above the maximum count as the maximum"
            );
        }
        Connect::All
    }

    fn picker(&self, members: &Members) -> Box<dyn Picker> {
        Box::new(Walk::new(members))
    }
}

#[cfg(test)]
mod tests {
    use callboard_core::Instance;

    use super::*;

    fn endpoint(id: &str, weight: u32) -> Endpoint {
        Endpoint::new(Instance::new(id, "127.0.0.1:1".parse().unwrap()).unwrap().with_weight(weight))
    }

    #[test]
    fn its_name_is_weighted_and_it_connects_all() {
        assert_eq!(Weighted::new().name(), "weighted");
        assert_eq!(Weighted::new().connect(&Members::new([endpoint("a", 0), endpoint("b", u32::MAX)])), Connect::All);
    }

    #[test]
    fn an_absurd_weight_is_new_once_and_again_when_it_changes_or_returns() {
        let balancer = Weighted::new();
        let new = |set: &[Endpoint]| {
            let members = Members::new(set);
            balancer.newly_clamped(&members).iter().map(|e| e.instance().id().to_owned()).collect::<Vec<_>>()
        };
        let (fine, a, b) = (endpoint("fine", MAX_WEIGHT), endpoint("a", MAX_WEIGHT + 1), endpoint("b", u32::MAX));
        assert_eq!(new(&[fine.clone(), a.clone()]), ["a"]);
        assert_eq!(new(&[b.clone(), fine.clone(), a.clone()]), ["b"]);
        assert_eq!(new(&[endpoint("a", MAX_WEIGHT + 2), b.clone()]), ["a"]);
        assert_eq!(new(std::slice::from_ref(&fine)), [""; 0]);
        assert_eq!(new(&[a.clone(), b.clone()]), ["a", "b"]);
        assert_eq!(balancer.clone().newly_clamped(&Members::new([a, b])).len(), 2);
    }
}
