#![doc = include_str!("../README.md")]

use std::sync::atomic::{AtomicU64, Ordering};

use callboard_core::{Balancer, Call, Endpoint, Pick, Picker};

/// Sends calls to the ready endpoints in turn. gRPC's `round_robin`.
///
/// All endpoints are connected. The calls of each picker start at a random endpoint, so that many clients do not all
/// begin with the same one; of any n·k picks in a row, from however many threads, each of n endpoints gets exactly k.
/// Weights are not looked at. A picker without endpoints lets calls wait.
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

    fn picker(&self, ready: &[Endpoint]) -> Box<dyn Picker> {
        Box::new(Turns::starting_at(fastrand::u64(..ready.len().max(1) as u64), ready.len()))
    }
}

#[derive(Debug)]
struct Turns {
    /// The number of the next pick. Where it wraps, shares would be off by one call, unless n is a power of two. It
    /// starts below n, so that comes after almost 2^64 picks: centuries, at a thousand million calls per second.
    next: AtomicU64,
    endpoints: u64,
}

impl Turns {
    fn starting_at(next: u64, endpoints: usize) -> Self {
        Self { next: AtomicU64::new(next), endpoints: endpoints as u64 }
    }
}

impl Picker for Turns {
    fn pick(&self, _: &Call<'_>) -> Pick {
        // Nobody has to take turns; and one endpoint is where all threads would meet at the counter.
        if self.endpoints == 1 {
            return Pick::Endpoint(0);
        }
        // Relaxed: only that each pick gets a number of its own matters, and nothing is published through it.
        match self.next.fetch_add(1, Ordering::Relaxed).checked_rem(self.endpoints) {
            Some(index) => Pick::Endpoint(index as usize),
            None => Pick::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Barrier;

    use callboard_core::Instance;
    use proptest::prelude::*;

    use super::*;

    fn endpoints(n: usize) -> Vec<Endpoint> {
        let address = |i| format!("127.0.0.1:{}", i + 1).parse().unwrap();
        (0..n).map(|i| Endpoint::new(Instance::new(format!("e{i}"), address(i)).unwrap())).collect()
    }

    fn pick(picker: &dyn Picker) -> usize {
        let (headers, extensions) = Default::default();
        match picker.pick(&Call::new("/a.B/C", &headers, &extensions)) {
            Pick::Endpoint(index) => index,
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
        let three = endpoints(3);
        let firsts: BTreeSet<_> = (0..200).map(|_| pick(&*RoundRobin.picker(&three))).collect();
        assert_eq!(firsts, BTreeSet::from([0, 1, 2]));
    }

    #[test]
    fn threads_share_the_turns_exactly() {
        let (picker, start) = (RoundRobin.picker(&endpoints(7)), Barrier::new(4));
        let each = || {
            start.wait();
            counts((0..70_000).map(|_| pick(&*picker)), 7)
        };
        let totals = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(each));
            let counts = threads.map(|thread| thread.join().unwrap());
            (0..7).map(|index| counts.iter().map(|counts| counts[index]).sum()).collect::<Vec<usize>>()
        });
        assert_eq!(totals, [40_000; 7]);
    }

    #[test]
    fn without_endpoints_calls_wait() {
        let (headers, extensions) = Default::default();
        let answer = RoundRobin.picker(&[]).pick(&Call::new("/a.B/C", &headers, &extensions));
        assert_eq!(answer, Pick::Wait);
    }

    #[test]
    fn the_counter_can_pass_what_32_bits_hold() {
        let turns = Turns::starting_at(u64::from(u32::MAX) - 1, 3);
        let picks: Vec<_> = (0..6).map(|_| pick(&turns)).collect();
        assert_eq!(picks, [2, 0, 1, 2, 0, 1]);
    }

    proptest! {
        #[test]
        fn any_window_is_shared_exactly(n in 1_usize..50, rounds in 1_usize..5, skipped in 0_usize..100) {
            let picker = RoundRobin.picker(&endpoints(n));
            (0..skipped).map(|_| pick(&*picker)).for_each(drop);
            prop_assert_eq!(counts((0..n * rounds).map(|_| pick(&*picker)), n), vec![rounds; n]);
        }
    }
}
