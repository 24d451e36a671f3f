//! Choosing by a balancer's list.

use std::collections::HashMap;
use std::sync::Arc;

use callboard_core::{Call, Endpoint, Instance, Pick, Picker, Status, Turns};

use super::list::{Entry, List};
use super::tally::Mark;

/// Chooses by a balancer's list among the endpoints that are ready.
///
/// Two circles, as in grpc-go: the first one goes over all entries, and fails a call whose turn falls on a drop entry.
/// The second one goes over the entries whose servers are ready. So of any n·k calls, each of n entries takes exactly k
/// while all servers are ready; a server that is not leaves its calls to the others, and the share that is dropped
/// stays as the balancer wants it. The order of the list, and how often a server stands in it, is the balancer's word:
/// the channel's own balancer is not asked.
#[derive(Debug)]
pub(crate) struct Steering {
    list: Arc<List>,
    /// Entries whose servers are ready: the endpoint's index, and what calls to it carry.
    ready: Vec<(usize, Arc<Mark>)>,
    turns: Turns,
}

/// What to do with one call.
#[derive(Debug)]
pub(crate) enum Steered {
    To(usize, Arc<Mark>),
    Drop(Status),
    Wait,
}

impl Steering {
    pub(crate) fn new(list: &Arc<List>, endpoints: &[Endpoint]) -> Self {
        let places = places(list, endpoints);
        let ready = |entry: &Entry| match entry {
            Entry::Server { server, mark } => places[*server].map(|index| (index, Arc::clone(mark))),
            Entry::Drop { .. } => None,
        };
        let ready: Vec<_> = list.entries().iter().filter_map(ready).collect();
        let turns = Turns::new(fastrand::u64(..ready.len().max(1) as u64), 1);
        Self { list: Arc::clone(list), ready, turns }
    }

    /// Whether it is by this list.
    pub(crate) fn is_by(&self, list: &Arc<List>) -> bool {
        Arc::ptr_eq(&self.list, list)
    }

    /// Chooses. A call is asked for again when the place that was chosen is full; `may_drop` says that it is asked for
    /// the first time. Otherwise more would be dropped than the balancer wants. What the call avoids is passed over, if
    /// there is anything else.
    pub(crate) fn pick(&self, call: &Call<'_>, may_drop: bool) -> Steered {
        if self.ready.is_empty() {
            return Steered::Wait;
        }
        if may_drop
            && self.list.drops() > 0
            && let Entry::Drop { token } = &self.list.entries()[turn(&self.list.turns, self.list.entries().len())]
        {
            self.list.tally.dropped(token);
            return Steered::Drop(Status::unavailable(format!("request dropped by grpclb: drop entry {token:?}")));
        }
        let first = turn(&self.turns, self.ready.len());
        let (before, after) = self.ready.split_at(first);
        let will_do = |(index, _): &&(usize, _)| !call.avoids_any() || !call.avoids(*index);
        let (index, mark) = after.iter().chain(before).find(will_do).unwrap_or(&self.ready[first]);
        Steered::To(*index, Arc::clone(mark))
    }
}

/// Where each server of the list stands among the endpoints, if it does. Endpoints mostly come in the order of the list,
/// so the next one is looked at first.
fn places(list: &List, endpoints: &[Endpoint]) -> Vec<Option<usize>> {
    let address = |index: usize| endpoints.get(index).map(|endpoint: &Endpoint| endpoint.instance().address());
    let (mut next, mut elsewhere) = (0, None);
    let mut place = |server: &Arc<Instance>| {
        let found = if address(next) == Some(server.address()) {
            Some(next)
        } else {
            let by_address = || endpoints.iter().enumerate().map(|(index, one)| (one.instance().address(), index));
            elsewhere.get_or_insert_with(|| by_address().collect::<HashMap<_, _>>()).get(&server.address()).copied()
        };
        next = found.map_or(next, |found| found + 1);
        found
    };
    list.servers().iter().map(&mut place).collect()
}

/// Whose turn it is among so many, of which there is at least one.
fn turn(turns: &Turns, among: usize) -> usize {
    (turns.next() % among as u64) as usize
}

/// Stands where a picker does while a balancer's list decides. Nobody asks it.
#[derive(Debug)]
pub(crate) struct Unasked;

impl Picker for Unasked {
    fn pick(&self, _: &Call<'_>) -> Pick {
        Pick::Wait
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use callboard_core::Address;
    use proptest::prelude::*;

    use super::*;
    use crate::lookaside::cut::Cut;
    use crate::lookaside::v1::Server;

    fn list(said: &[Server]) -> Arc<List> {
        Arc::new(List::read(said, &Arc::default(), Cut::to(100)).expect("a list"))
    }

    fn at(port: u16, token: &str) -> Server {
        Server::at(([127, 0, 0, 1], port).into(), token)
    }

    fn endpoints(ports: impl IntoIterator<Item = u16>) -> Vec<Endpoint> {
        let instance = |port| Instance::at(Address::tcp("127.0.0.1", port).expect("an address")).expect("an id");
        ports.into_iter().map(|port| Endpoint::new(instance(port))).collect()
    }

    fn choose(steering: &Steering, may_drop: bool) -> Steered {
        let (headers, extensions) = Default::default();
        steering.pick(&Call::new("/a.B/C", &headers, &extensions), may_drop)
    }

    /// How often each token came up in so many picks; drops under their own.
    fn picks(steering: &Steering, count: usize) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..count {
            let token = match choose(steering, true) {
                Steered::To(_, mark) => mark.token.as_ref().expect("a token").to_str().expect("text").to_owned(),
                Steered::Drop(status) => status.message.rsplit('"').nth(1).expect("a token").to_owned(),
                Steered::Wait => "wait".to_owned(),
            };
            *counts.entry(token).or_default() += 1;
        }
        counts
    }

    fn counts<const N: usize>(of: [(&str, usize); N]) -> BTreeMap<String, usize> {
        of.into_iter().map(|(token, count)| (token.to_owned(), count)).collect()
    }

    #[test]
    fn each_entry_gets_its_turn() {
        let list = list(&[at(1, "a"), at(1, "b"), Server::dropping("d"), at(2, "c")]);
        let steering = Steering::new(&list, &endpoints([2, 1]));
        assert_eq!(picks(&steering, 400), counts([("a", 100), ("b", 100), ("c", 100), ("d", 100)]));
    }

    #[test]
    fn what_is_not_ready_leaves_its_calls_to_the_others_and_drops_stay_as_they_are() {
        let list = list(&[at(1, "a"), at(2, "b"), at(3, "c"), Server::dropping("d")]);
        let steering = Steering::new(&list, &endpoints([1, 3]));
        assert_eq!(picks(&steering, 400), counts([("a", 150), ("c", 150), ("d", 100)]));
    }

    #[test]
    fn a_new_set_of_ready_ones_does_not_start_the_drops_over() {
        let list = list(&[at(1, "a"), at(2, "b"), Server::dropping("d"), Server::dropping("d")]);
        let mut all = BTreeMap::new();
        for ports in [vec![1], vec![1, 2], vec![2]].into_iter().cycle().take(400) {
            let one = picks(&Steering::new(&list, &endpoints(ports)), 1);
            one.into_iter().for_each(|(token, count)| *all.entry(token).or_insert(0) += count);
        }
        assert_eq!(all["d"], 200);
    }

    #[test]
    fn nothing_is_dropped_while_nobody_is_ready() {
        let list = list(&[at(1, "a"), Server::dropping("d")]);
        assert_eq!(picks(&Steering::new(&list, &endpoints([9])), 10), counts([("wait", 10)]));
        assert!(list.tally.take().is_zero());
    }

    #[test]
    fn a_call_that_is_asked_for_again_is_not_dropped() {
        let list = list(&[at(1, "a"), Server::dropping("d"), Server::dropping("d")]);
        let steering = Steering::new(&list, &endpoints([1]));
        assert!((0..100).all(|_| matches!(choose(&steering, false), Steered::To(0, _))));
    }

    proptest! {
        #[test]
        fn any_window_is_shared_exactly(copies in proptest::collection::vec(1_usize..4, 1..8), drops in 0_usize..4, rounds in 1_usize..5) {
            let servers = copies.iter().enumerate().flat_map(|(i, copies)| vec![at(i as u16 + 1, &format!("s{i}")); *copies]);
            let said: Vec<_> = servers.chain(vec![Server::dropping("d"); drops]).collect();
            let steering = Steering::new(&list(&said), &endpoints(1..=copies.len() as u16));
            // The second circle is as long as the first one without its drop entries, so rounds of both end together.
            let mut expected: BTreeMap<_, _> = copies.iter().enumerate().map(|(i, copies)| (format!("s{i}"), copies * rounds)).collect();
            if drops > 0 {
                expected.insert("d".to_owned(), drops * rounds);
            }
            prop_assert_eq!(picks(&steering, said.len() * rounds), expected);
        }
    }
}
