//! How far each pick moves on.

/// 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// How many steps on either side of the golden section are looked at. With 128, no arc waits longer than 3.13 times its
/// average in circles of up to 60,000 slots, and 5 times in those of any size that were tried.
const REACH: u64 = 128;

/// The number of slots to move on by in a circle of so many, such that the slots are visited as evenly as can be.
///
/// A step that has no factor in common with the slots visits each of them once in a round. How evenly it does so is
/// told by the quotients of Euclid's algorithm: the smaller their sum, the less any stretch of the walk deviates from
/// fair shares. The golden ratio has the smallest there are, so the best is found in its neighbourhood.
pub(crate) fn even_step(slots: u64) -> u64 {
    let golden = scale(GOLDEN, slots);
    let near = golden.saturating_sub(REACH).max(1)..=(golden + REACH).min(slots.saturating_sub(1));
    let rated = near.filter_map(|step| Some((unevenness(step, slots)?, step.abs_diff(golden), step)));
    // None for a circle of one slot, in which there is nowhere to go.
    rated.min().map_or(0, |(_, _, step)| step)
}

/// The part of `whole` that `fraction` is of 2^64, rounded down.
pub(crate) fn scale(fraction: u64, whole: u64) -> u64 {
    ((u128::from(fraction) * u128::from(whole)) >> 64) as u64
}

/// The sum of the quotients in Euclid's algorithm; none if the two have a factor in common.
fn unevenness(step: u64, slots: u64) -> Option<u64> {
    let (mut a, mut b, mut sum) = (slots, step, 0);
    while b != 0 {
        sum += a / b;
        (a, b) = (b, a % b);
    }
    (a == 1).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_visited_once_in_a_round() {
        for slots in 1..2_000 {
            let step = even_step(slots);
            let mut visited: Vec<_> = (0..slots).map(|k| k * step % slots).collect();
            visited.sort_unstable();
            assert!(visited.into_iter().eq(0..slots), "{slots} slots, step {step}");
        }
    }

    #[test]
    fn a_step_is_found_and_even_for_circles_of_any_size() {
        // Products of the first primes: the sizes with the fewest steps to choose from.
        let primorials = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37].iter().scan(1, |product, prime| {
            *product *= prime;
            Some(*product)
        });
        for slots in primorials.chain((0..64).map(|bit| u64::MAX >> bit)) {
            let sum = unevenness(even_step(slots), slots).expect("no factor in common");
            // The golden ratio's own is 1.44 times the binary logarithm.
            assert!(sum <= 2 * u64::from(slots.ilog2()) + 8, "{slots} slots: {sum}");
        }
    }
}
