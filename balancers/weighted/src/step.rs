//! The step from one pick to the next.

/// 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// How many candidates on either side of the golden section are rated. With 128, no gap of an arc is longer than 3.13
/// times its average in circles of up to 60,000 slots, and than 5 times in all larger circles that were tried.
const REACH: u64 = 128;

/// The step, in slots, that visits the slots of a circle of this size as evenly as possible.
///
/// A step that is coprime to the number of slots visits each of them once in a round. How evenly it does so follows
/// from the quotients of Euclid's algorithm: the smaller their sum, the less any section of the walk deviates from fair
/// shares. The golden ratio has the smallest quotients, so the best step is near it.
pub(crate) fn even_step(slots: u64) -> u64 {
    let golden = scale(GOLDEN, slots);
    let near = golden.saturating_sub(REACH).max(1)..=(golden + REACH).min(slots.saturating_sub(1));
    let rated = near.filter_map(|step| Some((unevenness(step, slots)?, step.abs_diff(golden), step)));
    // None for a circle of one slot: the step is 0.
    rated.min().map_or(0, |(_, _, step)| step)
}

/// `whole` times `fraction` divided by 2^64, rounded down.
pub(crate) fn scale(fraction: u64, whole: u64) -> u64 {
    ((u128::from(fraction) * u128::from(whole)) >> 64) as u64
}

/// The sum of the quotients in Euclid's algorithm. None if the two are not coprime.
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
