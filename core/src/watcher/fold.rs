//! Makes a set without duplicates from what a registry lists.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::{Address, Instance};

/// Instances without duplicates, in the registry's order.
pub(super) type Set = Arc<[Arc<Instance>]>;

/// Makes a set from what a registry lists. Instances that are in `old` too keep their allocation. If nothing has changed,
/// the whole set does.
///
/// Of several records of one id the newest incarnation is kept; on equal incarnations, the later record. Several ids at one
/// address are all kept: otherwise a server that may write its own key only could remove another one from the set.
pub(super) fn fold(old: Option<&Set>, mut instances: Vec<Arc<Instance>>) -> Set {
    let before = old.map_or(&[][..], |old| old);
    let set = match changed_in_place(before, &instances) {
        Some(changed) => {
            let mut set = before.to_vec();
            // From the end, so that the instance that `swap_remove` moves is not needed any more.
            for place in changed.into_iter().rev() {
                set[place] = instances.swap_remove(place);
            }
            set
        }
        None => {
            drop_older(&mut instances);
            let mut reuse = Reuse { old: before, next: 0, by_id: None };
            instances.into_iter().map(|instance| reuse.or(instance)).collect()
        }
    };
    let unchanged = |old: &Set| old.len() == set.len() && old.iter().zip(&set).all(|(old, new)| Arc::ptr_eq(old, new));
    match old {
        Some(old) if unchanged(old) => Arc::clone(old),
        _ => set.into(),
    }
}

/// Instances with the address of an earlier one, each as a pair with that one; at most `most` pairs.
pub(super) fn at_one_address(set: &[Arc<Instance>], most: usize) -> Vec<(&Instance, &Instance)> {
    let mut first: HashMap<&Address, &Instance> = HashMap::with_capacity(set.len());
    let pairs = set.iter().map(|instance| (*first.entry(instance.address()).or_insert(instance), &**instance));
    pairs.filter(|(first, second)| first.id() != second.id()).take(most).collect()
}

/// The places of the instances that have changed, if every place has the id and the address that it had before.
/// That is so for most sets, which then cost one comparison for each instance: there can be no new duplicates.
fn changed_in_place(old: &[Arc<Instance>], new: &[Arc<Instance>]) -> Option<Vec<usize>> {
    if old.len() != new.len() {
        return None;
    }
    let mut changed = Vec::new();
    for (place, (old, new)) in old.iter().zip(new).enumerate() {
        if !same(old, new) {
            if old.id() != new.id() || old.address() != new.address() {
                return None;
            }
            changed.push(place);
        }
    }
    Some(changed)
}

/// Whether two instances are equal. One allocation is not compared with itself.
fn same(one: &Arc<Instance>, other: &Arc<Instance>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

/// Keeps one of each id.
fn drop_older(instances: &mut Vec<Arc<Instance>>) {
    let mut kept = vec![true; instances.len()];
    let mut newest: HashMap<&str, usize> = HashMap::with_capacity(instances.len());
    for (index, instance) in instances.iter().enumerate() {
        match newest.entry(instance.id()) {
            Entry::Vacant(first) => drop(first.insert(index)),
            Entry::Occupied(mut other) => {
                let newer = instances[*other.get()].incarnation() <= instance.incarnation();
                let dropped = if newer { other.insert(index) } else { index };
                kept[dropped] = false;
            }
        }
    }
    let mut kept = kept.into_iter();
    instances.retain(|_| kept.next().unwrap_or(true));
}

/// Finds instances in the old set: the next one first, because most sets keep their order.
struct Reuse<'a> {
    old: &'a [Arc<Instance>],
    next: usize,
    by_id: Option<HashMap<&'a str, usize>>,
}

impl Reuse<'_> {
    /// The old set's equal instance, or else the instance itself.
    fn or(&mut self, instance: Arc<Instance>) -> Arc<Instance> {
        let found = match self.old.get(self.next) {
            Some(old) if old.id() == instance.id() => Some(self.next),
            _ => self.by_id().get(instance.id()).copied(),
        };
        let Some(place) = found else { return instance };
        self.next = place + 1;
        if same(&self.old[place], &instance) { Arc::clone(&self.old[place]) } else { instance }
    }

    fn by_id(&mut self) -> &HashMap<&str, usize> {
        let old = self.old;
        self.by_id.get_or_insert_with(|| old.iter().enumerate().map(|(place, old)| (old.id(), place)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Incarnation;

    fn instance(id: &str, port: u16, incarnation: u64) -> Instance {
        let address = Address::tcp("h", port).expect("an address");
        Instance::new(id, address).expect("an id").with_incarnation(Incarnation::from_micros(incarnation))
    }

    fn folded(old: Option<&Set>, said: Vec<Instance>) -> Set {
        fold(old, said.into_iter().map(Arc::new).collect())
    }

    fn ids(set: &Set) -> Vec<&str> {
        set.iter().map(|instance| instance.id()).collect()
    }

    #[test]
    fn equal_sets_are_the_same_allocation() {
        let said = || vec![instance("a", 1, 1), instance("b", 2, 1)];
        let first = folded(None, said());
        assert!(Arc::ptr_eq(&first, &folded(Some(&first), said())));
    }

    #[test]
    fn what_has_not_changed_keeps_its_allocation_wherever_it_moves() {
        let first =
            folded(None, vec![instance("a", 1, 1), instance("b", 2, 1), instance("c", 3, 1), instance("d", 4, 1)]);
        let moved =
            vec![instance("new", 9, 1), instance("d", 4, 1), instance("a", 1, 1), instance("c", 3, 1).with_weight(7)];
        let second = folded(Some(&first), moved);
        assert_eq!(ids(&second), ["new", "d", "a", "c"]);
        assert!(Arc::ptr_eq(&second[1], &first[3]));
        assert!(Arc::ptr_eq(&second[2], &first[0]));
        assert_eq!(second[3].weight(), 7);
    }

    #[test]
    fn several_changes_in_place_stay_in_their_places() {
        let said = || ["a", "b", "c", "d"].into_iter().zip(1..).map(|(id, port)| instance(id, port, 1));
        let first = folded(None, said().collect());
        let second = folded(Some(&first), said().map(|i| if i.id() < "c" { i.with_weight(7) } else { i }).collect());
        assert_eq!(
            second.iter().map(|i| (i.id(), i.weight())).collect::<Vec<_>>(),
            [("a", 7), ("b", 7), ("c", 1), ("d", 1)]
        );
        assert!(Arc::ptr_eq(&first[3], &second[3]));
    }

    #[test]
    fn another_order_is_another_set() {
        let first = folded(None, vec![instance("a", 1, 1), instance("b", 2, 1)]);
        let second = folded(Some(&first), vec![instance("b", 2, 1), instance("a", 1, 1)]);
        assert!(!Arc::ptr_eq(&first, &second));
        assert_eq!(ids(&second), ["b", "a"]);
    }

    #[test]
    fn of_one_id_the_newest_incarnation_is_kept_and_then_the_later_record() {
        let set = folded(None, vec![instance("a", 1, 5), instance("b", 2, 1), instance("a", 3, 4)]);
        assert_eq!((ids(&set), set[0].address().to_string()), (vec!["a", "b"], "h:1".to_owned()));
        let set = folded(None, vec![instance("a", 1, 5), instance("b", 2, 1), instance("a", 3, 5)]);
        assert_eq!((ids(&set), set[1].address().to_string()), (vec!["b", "a"], "h:3".to_owned()));
    }

    #[test]
    fn of_one_address_all_ids_are_kept_and_named() {
        let set = folded(None, vec![instance("old", 1, 1), instance("b", 2, 1), instance("new", 1, 2)]);
        assert_eq!(ids(&set), ["old", "b", "new"]);
        let named = |set: &Set, most| -> Vec<_> {
            at_one_address(set, most).iter().map(|(one, other)| format!("{} {}", one.id(), other.id())).collect()
        };
        assert_eq!(named(&set, 9), ["old new"]);
        let many = folded(None, ["a", "b", "c", "d"].map(|id| instance(id, 1, 1)).into());
        assert_eq!(named(&many, 2), ["a b", "a c"]);
    }

    #[test]
    fn an_instance_that_moves_to_the_address_of_another_takes_nobodys_place() {
        let first = folded(None, vec![instance("a", 1, 1), instance("b", 2, 1)]);
        let second = folded(Some(&first), vec![instance("a", 1, 1), instance("b", 1, 2)]);
        assert_eq!(ids(&second), ["a", "b"]);
        assert!(Arc::ptr_eq(&first[0], &second[0]));
    }

    #[test]
    fn an_absurd_weight_is_passed_on_as_it_is() {
        assert_eq!(folded(None, vec![instance("a", 1, 1).with_weight(u32::MAX)])[0].weight(), u32::MAX);
    }

    fn said() -> impl Strategy<Value = Vec<Instance>> {
        let one = (0..6u16, 1..6u16, 0..3u64, 1..3u32);
        let one = one.prop_map(|(id, port, incarnation, weight)| {
            instance(&format!("i{id}"), port, incarnation).with_weight(weight)
        });
        proptest::collection::vec(one, 0..12)
    }

    /// The same by comparing each record with each other one.
    fn slowly(said: &[Instance]) -> Vec<Instance> {
        let beaten = |index: usize| {
            said.iter().enumerate().any(|(other, instance)| {
                instance.id() == said[index].id()
                    && (instance.incarnation(), other) > (said[index].incarnation(), index)
            })
        };
        (0..said.len()).filter(|index| !beaten(*index)).map(|index| said[index].clone()).collect()
    }

    proptest! {
        #[test]
        fn every_sequence_of_sets_gives_what_the_slow_way_gives(sets in proptest::collection::vec(said(), 1..6)) {
            let mut old: Option<Set> = None;
            for said in sets {
                let set = folded(old.as_ref(), said.clone());
                let plain: Vec<_> = set.iter().map(|instance| instance.as_ref().clone()).collect();
                prop_assert_eq!(&plain, &slowly(&said));
                if let Some(old) = &old {
                    let was: Vec<_> = old.iter().map(|instance| instance.as_ref().clone()).collect();
                    prop_assert_eq!(Arc::ptr_eq(old, &set), was == plain);
                    for instance in set.iter() {
                        let kept = old.iter().find(|old| *old == instance);
                        prop_assert!(kept.is_none_or(|kept| Arc::ptr_eq(kept, instance)));
                    }
                }
                old = Some(set);
            }
        }
    }
}
