//! The order in which endpoints are tried.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use callboard_core::{Endpoint, MAX_WEIGHT, Member, Members};

/// All members: the ready ones, then the rest, each in the given or the shuffled order, with alternating IP address
/// families.
pub(crate) fn order(members: &Members, seed: Option<u64>) -> Vec<Member> {
    let mut order: Vec<Member> = members.iter().collect();
    if let Some(seed) = seed {
        order.sort_by_cached_key(|member| rank(&members[*member], seed));
    }
    interleave(&mut order, |member| family(&members[member]));
    // The sort is stable: it only moves ready members to the front.
    order.sort_by_cached_key(|member| members.ready().binary_search(member).is_err());
    order
}

/// An endpoint's rank in the shuffled order, smallest first. It depends only on this endpoint and the seed, so it does
/// not change when other endpoints are added or removed.
///
/// With u uniformly distributed between 0 and 1, sorting by u^(1/weight) in descending order draws without replacement
/// in proportion to the weights. Sorting by -ln(u)/weight in ascending order gives the same order, and does not round
/// heavy weights to 1.
fn rank(endpoint: &Endpoint, seed: u64) -> (bool, u64) {
    let mut hasher = DefaultHasher::new();
    (seed, endpoint.instance().id()).hash(&mut hasher);
    // An f64 holds the upper 53 bits exactly. Adding a half keeps u away from 0 and 1.
    let u = ((hasher.finish() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    let weight = endpoint.weight().min(MAX_WEIGHT);
    let key = -u.ln() / f64::from(weight.max(1));
    // The bits of non-negative floats have the same order as the floats.
    (weight == 0, key.to_bits())
}

#[derive(Clone, Copy, PartialEq)]
enum Family {
    V4,
    V6,
}

/// None for a Unix socket, and for a host name, which may resolve to either family.
fn family(endpoint: &Endpoint) -> Option<Family> {
    let (host, _) = endpoint.instance().address().host_and_port()?;
    // An IPv6 address may have a zone.
    let ip = host.split_once('%').map_or(host, |(ip, _)| ip);
    Some(match ip.parse().ok()? {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    })
}

/// Makes the two families alternate in the places that they occupy, beginning with that of the first. Members of
/// neither family stay in their places. With only one family nothing moves.
fn interleave(order: &mut [Member], family: impl Fn(Member) -> Option<Family>) {
    let families: Vec<_> = order.iter().map(|member| family(*member)).collect();
    let Some(first) = families.iter().flatten().next().copied() else { return };
    let known = order.iter().copied().zip(&families).filter_map(|(member, family)| Some((member, (*family)?)));
    let (same, other): (Vec<_>, Vec<_>) = known.partition(|(_, family)| *family == first);
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    let places = order.iter_mut().zip(&families).filter(|(_, family)| family.is_some());
    for (turn, (place, _)) in places.enumerate() {
        let next =
            if turn % 2 == 0 { same.next().or_else(|| other.next()) } else { other.next().or_else(|| same.next()) };
        (*place, _) = next.expect("there are as many places as known endpoints");
    }
}

#[cfg(test)]
mod tests {
    use callboard_core::{ConnectivityState, Instance};
    use proptest::prelude::*;

    use super::*;

    fn at(address: &str) -> Endpoint {
        Endpoint::new(Instance::at(address.parse().unwrap()).unwrap())
    }

    fn weighted(id: &str, weight: u32) -> Endpoint {
        Endpoint::new(Instance::new(id, "10.0.0.1:1".parse().unwrap()).unwrap().with_weight(weight))
    }

    /// The places of the members in order.
    fn order(endpoints: &[Endpoint], seed: Option<u64>) -> Vec<usize> {
        super::order(&Members::new(endpoints), seed).into_iter().map(Member::index).collect()
    }

    fn ids(endpoints: &[Endpoint], seed: u64) -> Vec<String> {
        order(endpoints, Some(seed)).into_iter().map(|index| endpoints[index].instance().id().to_owned()).collect()
    }

    /// How many of `seeds` orders begin with each endpoint.
    fn firsts(endpoints: &[Endpoint], seeds: u64) -> Vec<u64> {
        let mut firsts = vec![0; endpoints.len()];
        (0..seeds).for_each(|seed| firsts[order(endpoints, Some(seed))[0]] += 1);
        firsts
    }

    #[test]
    fn families_take_turns_beginning_with_the_first() {
        for (addresses, expected) in [
            (["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "[::1]:1", "[::2]:1"], [0, 3, 1, 4, 2]),
            (["[::1]:1", "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"], [0, 1, 2, 3, 4]),
            (["[::1]:1", "[::2]:1", "[::3]:1", "[::4]:1", "10.0.0.1:1"], [0, 4, 1, 2, 3]),
            (["10.0.0.3:1", "10.0.0.1:1", "10.0.0.2:1", "b:1", "a:1"], [0, 1, 2, 3, 4]),
            (["name:1", "10.0.0.1:1", "unix:/a", "10.0.0.2:1", "[::1]:1"], [0, 1, 2, 4, 3]),
            (["name:1", "10.0.0.1:1", "unix:/a", "10.0.0.2:1", "[fe80::1%2]:1"], [0, 1, 2, 4, 3]),
        ] {
            assert_eq!(order(&addresses.map(at), None), expected, "{addresses:?}");
        }
    }

    #[test]
    fn what_is_ready_comes_first() {
        let endpoints = ["10.0.0.1:1", "10.0.0.2:1", "[::1]:1", "[::2]:1"].map(at);
        endpoints[3].set_state(ConnectivityState::Ready);
        endpoints[0].set_state(ConnectivityState::TransientFailure);
        assert_eq!(order(&endpoints, None), [3, 0, 2, 1]);
    }

    #[test]
    fn weight_zero_comes_last_and_equal_weights_come_first_alike() {
        let endpoints: Vec<_> =
            [0, 1, 1, 1, 0].into_iter().enumerate().map(|(i, w)| weighted(&i.to_string(), w)).collect();
        assert!((0..100).all(|seed| order(&endpoints, Some(seed))[3..].iter().all(|index| [0, 4].contains(index))));
        let firsts = firsts(&endpoints, 9_000);
        assert!(firsts[1..4].iter().all(|count| (2_800..3_200).contains(count)), "{firsts:?}");
    }

    #[test]
    fn the_chance_to_be_first_is_in_proportion_to_the_weight() {
        let endpoints = [weighted("a", 5), weighted("b", 3), weighted("c", 1)];
        let firsts = firsts(&endpoints, 9_000);
        for (count, weight) in firsts.iter().zip([5, 3, 1]) {
            assert!(count.abs_diff(weight * 1_000) < 200, "{firsts:?}");
        }
    }

    #[test]
    fn an_absurd_weight_counts_as_the_highest() {
        let absurd = weighted("a", u32::MAX);
        assert_eq!(rank(&absurd, 7), rank(&weighted("a", MAX_WEIGHT), 7));
    }

    proptest! {
        #[test]
        fn every_endpoint_is_listed_once(
            kinds in prop::collection::vec((0..4_usize, 0..3_u32, any::<bool>()), 0..30),
            seed: Option<u64>,
        ) {
            let mut endpoints = Vec::new();
            for (i, (kind, weight, ready)) in kinds.iter().enumerate() {
                let address = ["10.0.0.1:1", "[::1]:1", "name:1", "unix:/a"][*kind].parse().unwrap();
                endpoints.push(Endpoint::new(Instance::new(i.to_string(), address).unwrap().with_weight(*weight)));
                if *ready {
                    endpoints[i].set_state(ConnectivityState::Ready);
                }
            }
            let mut order = order(&endpoints, seed);
            prop_assert!(order.is_sorted_by_key(|index| !kinds[*index].2), "ready first: {:?}", order);
            order.sort_unstable();
            prop_assert_eq!(order, (0..endpoints.len()).collect::<Vec<_>>());
        }

        #[test]
        fn those_that_stay_keep_their_order(
            weights in prop::collection::vec((0..10_u32, any::<bool>()), 0..30),
            seed: u64,
        ) {
            let mut all = Vec::new();
            let mut stay = Vec::new();
            for (i, (weight, stays)) in weights.into_iter().enumerate() {
                all.push(weighted(&i.to_string(), weight));
                if stays {
                    stay.insert(0, all[i].clone());
                }
            }
            let stays = |id: &String| stay.iter().any(|endpoint| endpoint.instance().id() == *id);
            let kept: Vec<_> = ids(&all, seed).into_iter().filter(stays).collect();
            prop_assert_eq!(ids(&stay, seed), kept);
        }
    }
}
