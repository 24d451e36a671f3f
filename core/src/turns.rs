//! A counter for pickers that many threads share.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::thread_number::thread_number;

/// How many lanes there are once threads contend. More threads than that share lanes.
const LANES: usize = 32;

/// How often in a row a thread loses the race before it gets a lane of its own. Calls collide at a counter now and
/// then. To lose so often, the other threads must do hardly anything else but take turns.
const PATIENCE: usize = 4;

/// The lanes start up to this many turns apart, so that they do not all choose the same endpoint at once.
const APART: u64 = 1 << 16;

/// Returns numbers that are one step apart, to many threads at once, for pickers that take endpoints in turn.
///
/// As long as threads do not contend for it, it is one counter: each turn is the one before plus the step. A thread
/// that loses the race too often in a row divides it into lanes, permanently. From then on each thread takes turns in a
/// lane of its own, one step apart as well, and no thread waits for another one's cache line.
///
/// For a picker that means: shares are exact, with any number of threads, until these do hardly anything else but pick.
/// From then on, shares are those of one exact picker per thread, up to 33.
///
/// ```
/// let turns = callboard_core::Turns::new(7, 1);
/// assert_eq!([turns.next(), turns.next(), turns.next()], [7, 8, 9]);
/// ```
pub struct Turns {
    first: Lane,
    step: u64,
    /// None as long as the first lane is enough.
    lanes: OnceLock<Box<[Lane; LANES]>>,
}

/// A counter alone on its cache line, and on the adjacent one that processors prefetch.
#[repr(align(128))]
struct Lane(AtomicU64);

impl Turns {
    /// The first turn is `start`; each one after it is `step` more, and wraps around at 2^64.
    pub fn new(start: u64, step: u64) -> Self {
        Self { first: Lane(AtomicU64::new(start)), step, lanes: OnceLock::new() }
    }

    /// Takes a turn. It never blocks.
    pub fn next(&self) -> u64 {
        match self.lanes.get() {
            None => self.next_in_first().unwrap_or_else(|| self.next_in(self.divide())),
            Some(lanes) => self.next_in(lanes),
        }
    }

    /// None if this thread loses the race too often.
    fn next_in_first(&self) -> Option<u64> {
        // Relaxed: each turn must be taken once, and nothing else is published through it.
        let mut turn = self.first.0.load(Ordering::Relaxed);
        for _ in 0..PATIENCE {
            let next = turn.wrapping_add(self.step);
            match self.first.0.compare_exchange(turn, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(turn) => return Some(turn),
                Err(now) => turn = now,
            }
        }
        None
    }

    fn next_in(&self, lanes: &[Lane; LANES]) -> u64 {
        lanes[thread_number() % LANES].0.fetch_add(self.step, Ordering::Relaxed)
    }

    fn divide(&self) -> &[Lane; LANES] {
        self.lanes.get_or_init(|| {
            let now = self.first.0.load(Ordering::Relaxed);
            let start = |_| now.wrapping_add(self.step.wrapping_mul(fastrand::u64(..APART)));
            Box::new(std::array::from_fn(|index| Lane(AtomicU64::new(start(index)))))
        })
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns").field("step", &self.step).field("divided", &self.lanes.get().is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    /// The turns of each of `threads` threads, which take `each` turns at the same time.
    fn taken(turns: &Turns, threads: usize, each: usize) -> Vec<Vec<u64>> {
        let start = Barrier::new(threads);
        let take = || {
            start.wait();
            (0..each).map(|_| turns.next()).collect()
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().expect("taking a turn does not panic")).collect()
        })
    }

    /// By how much the fullest and the emptiest of `n` shares differ.
    fn spread(turns: &[Vec<u64>], n: u64) -> u64 {
        let mut shares = vec![0; n as usize];
        turns.iter().flatten().for_each(|turn| shares[(turn % n) as usize] += 1);
        shares.iter().max().unwrap_or(&0) - shares.iter().min().unwrap_or(&0)
    }

    #[test]
    fn once_divided_each_thread_takes_its_turns_one_after_the_other_in_a_lane() {
        let turns = Turns::new(0, 1 << 40);
        turns.divide();
        let taken: Vec<_> = (0..LANES).flat_map(|_| taken(&turns, 1, 10)).collect();
        let in_a_row = |turns: &Vec<u64>| turns.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1 << 40));
        assert!(taken.iter().all(in_a_row), "{taken:?}");
        let went_on = |pair: &[Vec<u64>]| pair[1][0] == pair[0][9].wrapping_add(1 << 40);
        assert!(!taken.windows(2).all(went_on), "all threads are in one lane: {taken:?}");
    }

    #[test]
    fn threads_that_do_nothing_but_take_turns_get_fair_shares() {
        let turns = Turns::new(5, 1);
        let taken = taken(&turns, 4, 100_000);
        assert!(spread(&taken, 7) <= 5, "{}", spread(&taken, 7));
    }

    #[test]
    fn there_are_not_more_lanes_than_the_bound_says() {
        let turns = Turns::new(0, 1);
        turns.divide();
        let taken = taken(&turns, 3 * LANES, 1_000);
        assert!(spread(&taken, 7) <= LANES as u64, "{}", spread(&taken, 7));
    }

    proptest! {
        #[test]
        fn one_thread_gets_each_turn_one_step_after_the_one_before(start: u64, step: u64) {
            let turns = Turns::new(start, step);
            for k in 0..50 {
                prop_assert_eq!(turns.next(), start.wrapping_add(step.wrapping_mul(k)));
            }
        }

        #[test]
        fn each_lane_goes_on_with_the_circle_of_the_first(start in 0..1_000_u64, step in 1..1_000_u64) {
            let turns = Turns::new(start, step);
            turns.divide();
            prop_assert!((0..10).all(|_| turns.next() % step == start % step));
        }

        #[test]
        fn whenever_it_is_divided_shares_are_off_by_at_most_one_for_each_lane(
            n in 1..20_u64, before in 0..40_usize, after in 0..40_usize, threads in 1..5_usize,
        ) {
            let turns = Turns::new(0, 1);
            let mut taken_all = taken(&turns, 1, before);
            turns.divide();
            taken_all.extend(taken(&turns, threads, after));
            prop_assert!(spread(&taken_all, n) <= threads as u64 + 1);
        }
    }
}
