//! Turns that many threads take.

use loom::thread::spawn;
use real_std::sync::atomic::{AtomicUsize, Ordering};

use super::check;
use crate::sync::Arc;
use crate::turns::Turns;

/// No lane of the models begins before this, and no model takes so many turns.
const LANES_BEGIN: u64 = 100;

fn taken(turns: &Turns, count: usize) -> Vec<u64> {
    (0..count).map(|_| turns.next()).collect()
}

/// Some threads take turns at once: those of the one counter are all there, once each, and each thread's own are one
/// after the other. Says whether a thread has got a lane.
fn race(counts: [usize; 2]) -> bool {
    // The lanes begin at random, and in each execution alike.
    fastrand::seed(7);
    let turns = Arc::new(Turns::new(0, 1));
    let other = {
        let turns = Arc::clone(&turns);
        spawn(move || taken(&turns, counts[1]))
    };
    let here = taken(&turns, counts[0]);
    let there = other.join().expect("no thread panics");
    let (mut in_first, mut divided) = (Vec::new(), false);
    for mut taken in [here, there] {
        let in_lane = taken.split_off(taken.iter().take_while(|turn| **turn < LANES_BEGIN).count());
        divided |= !in_lane.is_empty();
        assert!(in_lane.windows(2).all(|pair| pair[1] == pair[0] + 1), "a lane's are one step apart: {in_lane:?}");
        assert!(taken.is_sorted(), "{taken:?}");
        in_first.extend(taken);
    }
    in_first.sort_unstable();
    assert!(in_first.iter().copied().eq(0..in_first.len() as u64), "each once: {in_first:?}");
    divided
}

/// While threads do not get into each other's way for long, there is one circle, and each turn of it is taken once.
pub fn each_turn_is_taken_once() {
    check(4, || assert!(!race([2, 2]), "nobody was overtaken four times"));
}

/// A thread that is overtaken four times in a row goes on in a lane of its own. The others do so from their next turn on.
pub fn who_is_overtaken_again_and_again_goes_on_in_a_lane() {
    let divided = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&divided);
    check(8, move || _ = count.fetch_add(usize::from(race([3, 4])), Ordering::Relaxed));
    assert!(divided.load(Ordering::Relaxed) > 0, "it never came to that");
}
