//! Picks by a balancer's list.

use std::collections::HashMap;
use std::sync::Arc;

use callboard_core::{Balancer, Call, CallMetadata, Instance, Member, Members, Outcome, Pick, Picker, Status, Turns};

use super::list::{Entry, List};

/// The balancer while an external balancer's list decides. The channel's own one is not asked.
#[derive(Debug)]
pub(super) struct ByList(Arc<List>);

impl ByList {
    pub(super) fn new(list: &Arc<List>) -> Self {
        Self(Arc::clone(list))
    }
}

impl Balancer for ByList {
    fn name(&self) -> &str {
        "grpclb"
    }

    fn picker(&self, members: &Members) -> Box<dyn Picker> {
        Box::new(ListPicker::new(&self.0, members))
    }
}

/// Picks among the ready endpoints by a balancer's list.
///
/// There are two rotations, as in grpc-go. The first one goes over all entries, and fails a call whose turn falls on a
/// drop entry. The second one goes over the entries whose servers are ready. So while all servers are ready, each of n
/// entries takes exactly k of any n·k calls. A server that is not ready leaves its calls to the others, and the share
/// of dropped calls stays the same. The balancer decides the order of the list, and how often a server is in it.
#[derive(Debug)]
pub(super) struct ListPicker {
    list: Arc<List>,
    /// The entries whose servers are ready, and the metadata of calls to them.
    ready: Vec<(Member, Option<Arc<CallMetadata>>)>,
    turns: Turns,
}

impl ListPicker {
    pub(super) fn new(list: &Arc<List>, members: &Members) -> Self {
        let servers = servers(list, members);
        let ready = |entry: &Entry| match entry {
            Entry::Server { server, metadata } => servers[*server].map(|member| (member, metadata.clone())),
            Entry::Drop { .. } => None,
        };
        let ready: Vec<_> = list.entries().iter().filter_map(ready).collect();
        let turns = Turns::new(fastrand::u64(..ready.len().max(1) as u64), 1);
        Self { list: Arc::clone(list), ready, turns }
    }
}

impl Picker for ListPicker {
    /// A call that is picked for again is not dropped: otherwise too many calls would be.
    fn pick(&self, call: &Call<'_>) -> Pick {
        if self.ready.is_empty() {
            return Pick::Wait;
        }
        if !call.is_asked_again()
            && self.list.drops() > 0
            && let Entry::Drop { token } = &self.list.entries()[turn(&self.list.turns, self.list.entries().len())]
        {
            self.list.counts.dropped(token);
            return Pick::Drop(Status::unavailable(format!("request dropped by grpclb: drop entry {token:?}")));
        }
        let first = turn(&self.turns, self.ready.len());
        let (before, after) = self.ready.split_at(first);
        let will_do = |(member, _): &&(Member, _)| !call.avoids_any() || !call.avoids(*member);
        let (member, metadata) = after.iter().chain(before).find(will_do).unwrap_or(&self.ready[first]);
        self.list.counts.picked();
        match metadata {
            None => Pick::To(*member),
            Some(metadata) => Pick::With(*member, Arc::clone(metadata)),
        }
    }

    fn done(&self, _: Member, outcome: &Outcome) {
        self.list.counts.ended(outcome);
    }
}

/// The ready member for each server of the list, if there is one. Members mostly come in the order of the list, so the
/// next one is tried first.
fn servers(list: &List, members: &Members) -> Vec<Option<Member>> {
    let ready = members.ready();
    let address = |index: usize| ready.get(index).map(|member| members[*member].instance().address());
    let (mut next, mut elsewhere) = (0, None);
    let mut find = |server: &Arc<Instance>| {
        let found = if address(next) == Some(server.address()) {
            Some(next)
        } else {
            let by_address = || (0..ready.len()).filter_map(|index| Some((address(index)?, index)));
            elsewhere.get_or_insert_with(|| by_address().collect::<HashMap<_, _>>()).get(server.address()).copied()
        };
        next = found.map_or(next, |found| found + 1);
        found.map(|index| ready[index])
    };
    list.servers().iter().map(&mut find).collect()
}

/// The next index below `among`, which is at least 1.
fn turn(turns: &Turns, among: usize) -> usize {
    (turns.next() % among as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use callboard_core::{Address, ConnectivityState, Endpoint};
    use proptest::prelude::*;

    use super::*;
    use crate::lookaside::LB_TOKEN;
    use crate::lookaside::subset::Subset;
    use crate::lookaside::v1::Server;

    fn list(said: &[Server]) -> Arc<List> {
        Arc::new(List::read(said, &Arc::default(), Subset::to(100)).expect("a list"))
    }

    fn at(port: u16, token: &str) -> Server {
        Server::at(([127, 0, 0, 1], port).into(), token)
    }

    fn members(ports: impl IntoIterator<Item = u16>) -> Members {
        let instance = |port| Instance::at(Address::tcp("127.0.0.1", port).expect("an address")).expect("an id");
        let endpoints: Vec<_> = ports.into_iter().map(|port| Endpoint::new(instance(port))).collect();
        endpoints.iter().for_each(|endpoint| endpoint.set_state(ConnectivityState::Ready));
        Members::new(endpoints)
    }

    fn choose(picker: &ListPicker, again: bool) -> Pick {
        let (headers, extensions) = Default::default();
        let call = Call::new("/a.B/C", &headers, &extensions);
        picker.pick(&if again { call.again() } else { call })
    }

    /// How often each token came up in a number of picks; drops under their own token.
    fn picks(picker: &ListPicker, count: usize) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..count {
            let token = match choose(picker, false) {
                Pick::With(_, metadata) => metadata.for_request()[LB_TOKEN].to_str().expect("text").to_owned(),
                Pick::Drop(status) => status.message.rsplit('"').nth(1).expect("a token").to_owned(),
                Pick::Wait => "wait".to_owned(),
                other => panic!("{other:?}"),
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
        let picker = ListPicker::new(&list, &members([2, 1]));
        assert_eq!(picks(&picker, 400), counts([("a", 100), ("b", 100), ("c", 100), ("d", 100)]));
    }

    #[test]
    fn what_is_not_ready_leaves_its_calls_to_the_others_and_drops_stay_as_they_are() {
        let list = list(&[at(1, "a"), at(2, "b"), at(3, "c"), Server::dropping("d")]);
        let picker = ListPicker::new(&list, &members([1, 3]));
        assert_eq!(picks(&picker, 400), counts([("a", 150), ("c", 150), ("d", 100)]));
    }

    #[test]
    fn a_new_set_of_ready_ones_does_not_start_the_drops_over() {
        let list = list(&[at(1, "a"), at(2, "b"), Server::dropping("d"), Server::dropping("d")]);
        let mut all = BTreeMap::new();
        for ports in [vec![1], vec![1, 2], vec![2]].into_iter().cycle().take(400) {
            let one = picks(&ListPicker::new(&list, &members(ports)), 1);
            one.into_iter().for_each(|(token, count)| *all.entry(token).or_insert(0) += count);
        }
        assert_eq!(all["d"], 200);
    }

    #[test]
    fn nothing_is_dropped_while_nobody_is_ready() {
        let list = list(&[at(1, "a"), Server::dropping("d")]);
        assert_eq!(picks(&ListPicker::new(&list, &members([9])), 10), counts([("wait", 10)]));
        assert!(list.counts.take().is_zero());
    }

    #[test]
    fn a_call_that_is_asked_for_again_is_not_dropped() {
        let list = list(&[at(1, "a"), Server::dropping("d"), Server::dropping("d")]);
        let picker = ListPicker::new(&list, &members([1]));
        assert!((0..100).all(|_| choose(&picker, true).member() == members([1]).iter().next()));
    }

    proptest! {
        #[test]
        fn any_window_is_shared_exactly(copies in proptest::collection::vec(1_usize..4, 1..8), drops in 0_usize..4, rounds in 1_usize..5) {
            let servers = copies.iter().enumerate().flat_map(|(i, copies)| vec![at(i as u16 + 1, &format!("s{i}")); *copies]);
            let said: Vec<_> = servers.chain(vec![Server::dropping("d"); drops]).collect();
            let picker = ListPicker::new(&list(&said), &members(1..=copies.len() as u16));
            // The second circle is as long as the first one without its drop entries, so rounds of both end together.
            let mut expected: BTreeMap<_, _> = copies.iter().enumerate().map(|(i, copies)| (format!("s{i}"), copies * rounds)).collect();
            if drops > 0 {
                expected.insert("d".to_owned(), drops * rounds);
            }
            prop_assert_eq!(picks(&picker, said.len() * rounds), expected);
        }
    }
}
