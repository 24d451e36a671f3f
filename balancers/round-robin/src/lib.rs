#![doc = include_str!("../README.md")]

use std::sync::Arc;

use callboard_core::{Balancer, Call, Member, Members, Pick, Picker, Turns};

/// Sends calls to the ready endpoints in turn. gRPC's `round_robin`.
///
/// All endpoints are connected. The calls of each picker start at a random endpoint, so that many clients do not all
/// begin with the same one. Of any n·k picks in a row, each of n endpoints gets exactly k. That holds for any number of
/// threads, until these do hardly anything else but pick. Then each thread takes [turns](Turns) of its own, and the
/// calls of any two endpoints differ by at most one for each thread (33 in all). Weights are ignored. A picker without
/// endpoints makes calls wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundRobin;

impl RoundRobin {
    /// The balancer. It has no settings and no state: every value is the same.
    pub fn new() -> Self {
        Self
    }
}

impl Balancer for RoundRobin {
    fn name(&self) -> &str {
        "round_robin"
    }

    fn uses_weights(&self) -> bool {
        false
    }

    fn picker(&self, members: &Members) -> Box<dyn Picker> {
        let ready = Arc::clone(members.ready());
        Box::new(Ring::starting_at(fastrand::u64(..ready.len().max(1) as u64), ready))
    }
}

#[derive(Debug)]
struct Ring {
    /// Numbers the picks. When the number wraps, shares are off by one call, unless n is a power of two. The numbers
    /// start below n, or not far above, so that happens after almost 2^64 picks: centuries, at a thousand million calls
    /// per second.
    turns: Turns,
    ready: Arc<[Member]>,
}

impl Ring {
    fn starting_at(start: u64, ready: Arc<[Member]>) -> Self {
        Self { turns: Turns::new(start, 1), ready }
    }
}

impl Picker for Ring {
    fn pick(&self, call: &Call<'_>) -> Pick {
        // With one endpoint there are no turns to take.
        if let [only] = *self.ready {
            return Pick::To(only);
        }
        let Some(index) = self.turns.next().checked_rem(self.ready.len() as u64) else { return Pick::Wait };
        let (before, after) = self.ready.split_at(index as usize);
        if !call.avoids_any() {
            return Pick::To(after[0]);
        }
        // The next member that the call does not avoid, or else the one whose turn it is.
        Pick::To(*after.iter().chain(before).find(|member| !call.avoids(**member)).unwrap_or(&after[0]))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Barrier;

    use callboard_core::{ConnectivityState, Endpoint, Instance};
    use proptest::prelude::*;

    use super::*;

    fn members(n: usize) -> Members {
        let address = |i| format!("127.0.0.1:{}", i + 1).parse().unwrap();
        let endpoint = |i| Endpoint::new(Instance::new(format!("e{i}"), address(i)).unwrap());
        let endpoints: Vec<_> = (0..n).map(endpoint).collect();
        endpoints.iter().for_each(|endpoint| endpoint.set_state(ConnectivityState::Ready));
        Members::new(endpoints)
    }

    fn pick(picker: &dyn Picker) -> usize {
        let (headers, extensions) = Default::default();
        match picker.pick(&Call::new("/a.B/C", &headers, &extensions)) {
            Pick::To(member) => member.index(),
            other => panic!("{other:?}"),
        }
    }

    fn counts(picks: impl IntoIterator<Item = usize>, n: usize) -> Vec<usize> {
        let mut counts = vec![0; n];
        picks.into_iter().for_each(|index| counts[index] += 1);
        counts
    }

    #[test]
    fn it_has_the_name_that_grpc_gives_it() {
        assert_eq!(RoundRobin::new().name(), "round_robin");
    }

    #[test]
    fn the_first_pick_is_random() {
        let three = members(3);
        let firsts: BTreeSet<_> = (0..200).map(|_| pick(&*RoundRobin.picker(&three))).collect();
        assert_eq!(firsts, BTreeSet::from([0, 1, 2]));
    }

    /// The calls of each of 7 endpoints when 4 threads pick at the same time, with `work` between two picks.
    fn shares_of_4_threads(each: usize, work: impl Fn() + Sync) -> Vec<usize> {
        let (picker, start) = (RoundRobin.picker(&members(7)), Barrier::new(4));
        let picks = || {
            start.wait();
            let pick = |_| {
                work();
                pick(&*picker)
            };
            counts((0..each).map(pick), 7)
        };
        std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(picks));
            let counts = threads.map(|thread| thread.join().unwrap());
            (0..7).map(|index| counts.iter().map(|counts| counts[index]).sum()).collect()
        })
    }

    #[test]
    fn threads_that_do_nothing_but_pick_share_the_turns_but_for_one_for_each() {
        let shares = shares_of_4_threads(70_000, || ());
        assert_eq!(shares.iter().sum::<usize>(), 280_000);
        assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 5, "{shares:?}");
    }

    #[test]
    fn threads_that_do_something_else_too_share_the_turns_exactly() {
        let call = || {
            let begun = std::time::Instant::now();
            while begun.elapsed() < std::time::Duration::from_micros(5) {}
        };
        assert_eq!(shares_of_4_threads(7_000, call), [4_000; 7]);
    }

    #[test]
    fn without_endpoints_calls_wait() {
        let (headers, extensions) = Default::default();
        let answer = RoundRobin.picker(&members(0)).pick(&Call::new("/a.B/C", &headers, &extensions));
        assert_eq!(answer, Pick::Wait);
    }

    #[test]
    fn the_counter_can_pass_what_32_bits_hold() {
        let ring = Ring::starting_at(u64::from(u32::MAX) - 1, Arc::clone(members(3).ready()));
        let picks: Vec<_> = (0..6).map(|_| pick(&ring)).collect();
        assert_eq!(picks, [2, 0, 1, 2, 0, 1]);
    }

    proptest! {
        #[test]
        fn any_window_is_shared_exactly(n in 1_usize..50, rounds in 1_usize..5, skipped in 0_usize..100) {
            let picker = RoundRobin.picker(&members(n));
            (0..skipped).map(|_| pick(&*picker)).for_each(drop);
            prop_assert_eq!(counts((0..n * rounds).map(|_| pick(&*picker)), n), vec![rounds; n]);
        }
    }
}
