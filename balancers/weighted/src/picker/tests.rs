use std::collections::BTreeSet;
use std::sync::Barrier;

use callboard_core::{Balancer, ConnectivityState, Endpoint, Instance};
use proptest::prelude::*;

use super::*;
use crate::Weighted;

fn picker(weights: &[u32]) -> Box<dyn Picker> {
    let address = |i| format!("127.0.0.1:{}", i % 65_535 + 1).parse().unwrap();
    let instance = |i, weight| Instance::new(format!("e{i}"), address(i)).unwrap().with_weight(weight);
    let ready: Vec<_> = weights.iter().enumerate().map(|(i, weight)| Endpoint::new(instance(i, *weight))).collect();
    ready.iter().for_each(|endpoint| endpoint.set_state(ConnectivityState::Ready));
    Weighted::new().picker(&Members::new(ready))
}

fn picks(picker: &dyn Picker, n: usize) -> Vec<usize> {
    let (headers, extensions) = Default::default();
    let call = Call::new("/a.B/C", &headers, &extensions);
    let pick = |_| match picker.pick(&call) {
        Pick::To(member) => member.index(),
        other => panic!("{other:?}"),
    };
    (0..n).map(pick).collect()
}

fn counts(picks: &[usize], n: usize) -> Vec<usize> {
    let mut counts = vec![0; n];
    picks.iter().for_each(|index| counts[*index] += 1);
    counts
}

/// The longest run of equal picks.
fn longest_run(picks: &[usize]) -> usize {
    picks.chunk_by(|a, b| a == b).map(<[_]>::len).max().unwrap_or(0)
}

/// The most by which any endpoint's calls differ from its share, after any number of picks.
fn deviation(picks: &[usize], weights: &[u32]) -> f64 {
    let total = f64::from(weights.iter().sum::<u32>());
    let mut counts = vec![0_u32; weights.len()];
    let mut deviation: f64 = 0.0;
    for (done, index) in picks.iter().enumerate() {
        counts[*index] += 1;
        for (count, weight) in counts.iter().zip(weights) {
            deviation = deviation.max((f64::from(*count) - f64::from(*weight) * (done + 1) as f64 / total).abs());
        }
    }
    deviation
}

/// Realistic weights: a few or many, small or widely spread, some of them 0, never all.
fn some_weights() -> impl Strategy<Value = Vec<u32>> {
    let weight = prop_oneof![0_u32..4, 1_u32..20, 1_u32..500];
    prop::collection::vec(weight, 1..30).prop_filter("not all 0", |weights| weights.iter().any(|weight| *weight > 0))
}

#[test]
fn shares_are_exact_after_each_round_and_within_one_percent_after_10_000_picks() {
    let picker = picker(&[5, 3, 1]);
    assert_eq!(counts(&picks(&*picker, 9), 3), [5, 3, 1]);
    for (count, expected) in counts(&picks(&*picker, 10_000), 3).into_iter().zip([5_556_usize, 3_333, 1_111]) {
        assert!(count.abs_diff(expected) <= 2, "{count} of {expected}");
    }
}

#[test]
fn the_heavy_one_gets_no_bursts() {
    for (weights, longest) in
        [(&[1, 1][..], 1), (&[5, 3, 1], 2), (&[5, 1, 1], 4), (&[101, 100], 2), (&[9, 1], 9), (&[1; 9], 1)]
    {
        assert_eq!(longest_run(&picks(&*picker(weights), 10_000)), longest, "{weights:?}");
    }
    // Two heavy endpoints among many light ones: each gets the same share in every tenth of a round.
    let weights = [vec![500, 500], vec![1; 998]].concat();
    for tenth in picks(&*picker(&weights), 1_998).chunks_exact(199) {
        let heavy = &counts(tenth, 1_000)[..2];
        assert!(heavy.iter().all(|count| (46..=54).contains(count)), "{heavy:?}");
    }
}

#[test]
fn equal_weights_are_round_robin() {
    for weight in [0, 1, 7, 65_535, u32::MAX] {
        let picker = picker(&[weight; 6]);
        let rounds = picks(&*picker, 60);
        assert!(rounds.windows(6).all(|round| round.iter().collect::<BTreeSet<_>>().len() == 6), "{weight}");
    }
}

#[test]
fn weight_zero_gets_no_calls_and_an_only_endpoint_gets_all() {
    assert_eq!(counts(&picks(&*picker(&[0, 2, 0, 1, 0]), 300), 5), [0, 200, 0, 100, 0]);
    for weight in [0, 1, 65_535, u32::MAX] {
        assert_eq!(picks(&*picker(&[weight]), 50), [0; 50]);
    }
}

#[test]
fn absurd_weights_count_as_the_highest() {
    assert_eq!(counts(&picks(&*picker(&[u32::MAX, 65_536, 65_535]), 300), 3), [100; 3]);
}

#[test]
fn the_lightest_gets_its_calls_beside_the_heaviest() {
    assert_eq!(counts(&picks(&*picker(&[65_535, 1]), 3 * 65_536), 2), [3 * 65_535, 3]);
}

#[test]
fn ten_thousand_endpoints_get_their_shares() {
    let weights: Vec<u32> = (0..10_000).map(|i| if i % 10 == 0 { 0 } else { i % 97 + 1 }).collect();
    let total: u32 = weights.iter().sum();
    let counts = counts(&picks(&*picker(&weights), total as usize), weights.len());
    assert!(counts.iter().zip(&weights).all(|(count, weight)| *count == *weight as usize));
}

#[test]
fn ten_thousand_endpoints_of_all_weights_get_their_shares_in_the_long_run() {
    let mut random = fastrand::Rng::with_seed(1);
    let weights: Vec<u32> = (0..10_000).map(|_| random.u32(1..=65_535)).collect();
    let total: u64 = weights.iter().copied().map(u64::from).sum();
    let counts = counts(&picks(&*picker(&weights), 1_000_000), weights.len());
    for (count, weight) in counts.iter().zip(&weights) {
        let share = 1e6 * f64::from(*weight) / total as f64;
        assert!((*count as f64 - share).abs() < 8.0, "weight {weight}: {count} of {share}");
    }
}

/// The calls of 3 endpoints with the weights 5, 3 and 1 when 4 threads pick at the same time, with `work` between two
/// picks.
fn shares_of_4_threads(each: usize, work: impl Fn() + Sync) -> Vec<usize> {
    let (picker, start) = (picker(&[5, 3, 1]), Barrier::new(4));
    let each = || {
        start.wait();
        let pick = |_| {
            work();
            picks(&*picker, 1)[0]
        };
        (0..each).map(pick).collect::<Vec<_>>()
    };
    let all = std::thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(each));
        threads.map(|thread| thread.join().unwrap()).concat()
    });
    counts(&all, 3)
}

#[test]
fn threads_that_do_nothing_but_pick_are_off_by_a_few_calls_each() {
    for (count, expected) in shares_of_4_threads(90_000, || ()).into_iter().zip([200_000_usize, 120_000, 40_000]) {
        assert!(count.abs_diff(expected) <= 10, "{count} of {expected}");
    }
}

#[test]
fn threads_that_do_something_else_too_share_a_round_exactly() {
    let call = || {
        let begun = std::time::Instant::now();
        while begun.elapsed() < std::time::Duration::from_micros(5) {}
    };
    assert_eq!(shares_of_4_threads(9_000, call), [20_000, 12_000, 4_000]);
}

#[test]
fn the_first_pick_is_random() {
    let firsts: BTreeSet<_> = (0..200).map(|_| picks(&*picker(&[1, 1, 1]), 1)[0]).collect();
    assert_eq!(firsts, BTreeSet::from([0, 1, 2]));
}

#[test]
fn without_endpoints_calls_wait() {
    let (headers, extensions) = Default::default();
    assert_eq!(picker(&[]).pick(&Call::new("/a.B/C", &headers, &extensions)), Pick::Wait);
}

proptest! {
    #[test]
    fn any_window_of_a_round_is_shared_exactly(weights in some_weights(), skipped in 0_usize..500) {
        let picker = picker(&weights);
        picks(&*picker, skipped);
        let round = weights.iter().sum::<u32>() as usize;
        let expected: Vec<_> = weights.iter().map(|weight| *weight as usize).collect();
        prop_assert_eq!(counts(&picks(&*picker, round), weights.len()), expected);
    }

    #[test]
    fn shares_are_never_more_than_a_few_calls_off(weights in some_weights()) {
        let deviation = deviation(&picks(&*picker(&weights), 3_000), &weights);
        prop_assert!(deviation < 8.0, "{}", deviation);
    }

    #[test]
    fn no_gap_is_longer_than_about_three_times_the_average(weights in some_weights()) {
        let total: u32 = weights.iter().sum();
        let mut visits = vec![Vec::new(); weights.len()];
        for (k, index) in picks(&*picker(&weights), 2 * total as usize).into_iter().enumerate() {
            visits[index].push(k);
        }
        for (visits, weight) in visits.iter().zip(&weights) {
            let gaps: BTreeSet<_> = visits.windows(2).map(|pair| pair[1] - pair[0]).collect();
            prop_assert!(gaps.len() <= 3, "gaps of weight {}: {:?}", weight, gaps);
            let longest = gaps.last().map_or(0.0, |gap| *gap as f64 * f64::from(*weight) / f64::from(total));
            prop_assert!(longest < 3.13, "gaps of weight {} of {}: {:?}", weight, total, gaps);
        }
    }

    #[test]
    fn any_weights_at_all_give_an_endpoint_of_positive_weight(weights in prop::collection::vec(any::<u32>(), 1..20)) {
        let all_zero = weights.iter().all(|weight| *weight == 0);
        prop_assert!(picks(&*picker(&weights), 100).into_iter().all(|index| weights[index] > 0 || all_zero));
    }
}
