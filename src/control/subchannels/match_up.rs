//! Matches the endpoints of a new set with those of the old one.

use std::collections::HashMap;
use std::sync::Arc;

use callboard_core::{Address, Breaks, Endpoint, Instance};

/// For each instance, the place that it had before. An address may be registered under several ids, each of which is an
/// endpoint of its own. Instances are matched by address and id first. The rest are matched by address alone, so that a
/// connection survives a change of the id.
pub(super) async fn match_up(old: &[Endpoint], new: &[Arc<Instance>], breaks: &mut Breaks) -> Vec<Option<usize>> {
    let mut former: Option<Former<'_>> = None;
    let (mut places, mut next) = (Vec::with_capacity(new.len()), 0);
    for instance in new {
        breaks.take().await;
        // Most sets keep their order, so the next one is checked first.
        let found = match old.get(next) {
            Some(old) if Arc::ptr_eq(old.instance(), instance) || is(old, instance) => Some(next),
            _ => {
                if former.is_none() {
                    former = Some(Former::new(old, breaks).await);
                }
                former.iter().flat_map(|former| former.at(instance.address())).find(|place| is(&old[*place], instance))
            }
        };
        next = found.map_or(next, |found| found + 1);
        places.push(found);
    }
    if let Some(former) = former {
        former.match_by_address(new, &mut places, breaks).await;
    }
    places
}

fn is(old: &Endpoint, new: &Instance) -> bool {
    let old = old.instance();
    old.address() == new.address() && old.id() == new.id()
}

/// The old endpoints by their addresses.
struct Former<'a> {
    last: HashMap<&'a Address, usize>,
    /// For each endpoint, the previous one with the same address.
    before: Vec<Option<usize>>,
}

impl<'a> Former<'a> {
    async fn new(old: &'a [Endpoint], breaks: &mut Breaks) -> Self {
        let mut former = Self { last: HashMap::with_capacity(old.len()), before: Vec::with_capacity(old.len()) };
        for (place, endpoint) in old.iter().enumerate() {
            breaks.take().await;
            let before = former.last.insert(endpoint.instance().address(), place);
            former.before.push(before);
        }
        former
    }

    fn at(&self, address: &Address) -> impl Iterator<Item = usize> {
        std::iter::successors(self.last.get(address).copied(), |place| self.before[*place])
    }

    async fn match_by_address(&self, new: &[Arc<Instance>], places: &mut [Option<usize>], breaks: &mut Breaks) {
        let mut left = vec![true; self.before.len()];
        places.iter().flatten().for_each(|place| left[*place] = false);
        for (place, instance) in places.iter_mut().zip(new) {
            if place.is_none() {
                breaks.take().await;
                *place = self.at(instance.address()).find(|place| left[*place]);
                place.iter().for_each(|place| left[*place] = false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(of: &[(&str, u16)]) -> Vec<Arc<Instance>> {
        let one = |(id, port): &(&str, u16)| {
            Arc::new(Instance::new(*id, Address::tcp("h", *port).expect("an address")).expect("an id"))
        };
        of.iter().map(one).collect()
    }

    #[tokio::test]
    async fn endpoints_are_the_same_by_address_and_id_and_then_by_address() {
        let old: Vec<_> = set(&[("a", 1), ("b", 1), ("c", 2)]).into_iter().map(Endpoint::new).collect();
        for (new, places) in [
            (set(&[("a", 1), ("b", 1), ("c", 2)]), vec![Some(0), Some(1), Some(2)]),
            (set(&[("c", 2), ("b", 1), ("a", 1)]), vec![Some(2), Some(1), Some(0)]),
            (set(&[("b", 1), ("z", 1), ("c", 2)]), vec![Some(1), Some(0), Some(2)]),
            (set(&[("x", 1), ("y", 1), ("z", 1)]), vec![Some(1), Some(0), None]),
            (set(&[("a", 3), ("c", 2)]), vec![None, Some(2)]),
            (set(&[]), vec![]),
        ] {
            assert_eq!(match_up(&old, &new, &mut Breaks::new()).await, places, "{new:?}");
        }
    }
}
