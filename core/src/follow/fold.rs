//! From what a registry says to a set without duplicates.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use crate::Instance;

/// Instances without duplicates, in the registry's order.
pub(super) type Set = Arc<[Arc<Instance>]>;

/// Makes a set of what a registry says. What is in `old` too is the same allocation as there; if nothing has changed,
/// the whole set is.
///
/// Of several records of one id the newest incarnation is kept, and then of several ids at one address; on equal
/// incarnations, the later record.
pub(super) fn fold(old: Option<&Set>, mut instances: Vec<Arc<Instance>>) -> Set {
    let before = old.map_or(&[][..], |old| old);
    let set = match changed_in_place(before, &instances) {
        Some(changed) => {
            let mut set = before.to_vec();
            // From the end, so that what takes the place of the removed one is not asked for any more.
            for place in changed.into_iter().rev() {
                set[place] = instances.swap_remove(place);
            }
            set
        }
        None => {
            drop_duplicates(&mut instances);
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

/// The places of the instances that have changed, if each has the id and the address that stood in its place before.
/// That is so for most sets, which then cost one comparison for each instance: no duplicates have to be looked for, as
/// there were none before.
fn changed_in_place(old: &[Arc<Instance>], new: &[Arc<Instance>]) -> Option<Vec<usize>> {
    if old.len() != new.len() {
        return None;
    }
    let mut changed = Vec::new();
    for (place, (old, new)) in old.iter().zip(new).enumerate() {
        if !same(old, new) {
            if old.id != new.id || old.address != new.address {
                return None;
            }
            changed.push(place);
        }
    }
    Some(changed)
}

/// Whether two instances are equal, which needs no look at them if they are one allocation.
fn same(one: &Arc<Instance>, other: &Arc<Instance>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

fn drop_duplicates(instances: &mut Vec<Arc<Instance>>) {
    let mut kept = vec![true; instances.len()];
    drop_older(instances, &mut kept, |instance| instance.id.as_str());
    drop_older(instances, &mut kept, |instance| &instance.address);
    let mut kept = kept.into_iter();
    instances.retain(|_| kept.next().unwrap_or(true));
}

/// Of the instances that are kept so far, keeps one for each key.
fn drop_older<'a, K: Eq + Hash>(instances: &'a [Arc<Instance>], kept: &mut [bool], key: impl Fn(&'a Instance) -> K) {
    let mut newest: HashMap<K, usize> = HashMap::with_capacity(instances.len());
    for (index, instance) in instances.iter().enumerate() {
        if !kept[index] {
            continue;
        }
        match newest.entry(key(instance)) {
            Entry::Vacant(first) => drop(first.insert(index)),
            Entry::Occupied(mut other) => {
                let newer = instances[*other.get()].incarnation <= instance.incarnation;
                let dropped = if newer { other.insert(index) } else { index };
                kept[dropped] = false;
            }
        }
    }
}

/// Finds instances in the old set: the next one first, because most sets keep their order.
struct Reuse<'a> {
    old: &'a [Arc<Instance>],
    next: usize,
    by_id: Option<HashMap<&'a str, usize>>,
}

impl Reuse<'_> {
    /// What the old set has, if that is equal; or else the instance itself.
    fn or(&mut self, instance: Arc<Instance>) -> Arc<Instance> {
        let found = match self.old.get(self.next) {
            Some(old) if old.id == instance.id => Some(self.next),
            _ => self.by_id().get(instance.id.as_str()).copied(),
        };
        let Some(place) = found else { return instance };
        self.next = place + 1;
        if same(&self.old[place], &instance) { Arc::clone(&self.old[place]) } else { instance }
    }

    fn by_id(&mut self) -> &HashMap<&str, usize> {
        let old = self.old;
        self.by_id.get_or_insert_with(|| old.iter().enumerate().map(|(place, old)| (old.id.as_str(), place)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Address, Incarnation};

    fn instance(id: &str, port: u16, incarnation: u64) -> Instance {
        let address = Address::tcp("h", port).expect("an address");
        Instance::new(id, address).expect("an id").incarnation(Incarnation::from_micros(incarnation))
    }

    fn folded(old: Option<&Set>, said: Vec<Instance>) -> Set {
        fold(old, said.into_iter().map(Arc::new).collect())
    }

    fn ids(set: &Set) -> Vec<&str> {
        set.iter().map(|instance| instance.id.as_str()).collect()
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
            vec![instance("new", 9, 1), instance("d", 4, 1), instance("a", 1, 1), instance("c", 3, 1).weight(7)];
        let second = folded(Some(&first), moved);
        assert_eq!(ids(&second), ["new", "d", "a", "c"]);
        assert!(Arc::ptr_eq(&second[1], &first[3]));
        assert!(Arc::ptr_eq(&second[2], &first[0]));
        assert_eq!(second[3].weight, 7);
    }

    #[test]
    fn several_changes_in_place_stay_in_their_places() {
        let said = || ["a", "b", "c", "d"].into_iter().zip(1..).map(|(id, port)| instance(id, port, 1));
        let first = folded(None, said().collect());
        let second = folded(Some(&first), said().map(|i| if i.id.as_str() < "c" { i.weight(7) } else { i }).collect());
        assert_eq!(
            second.iter().map(|i| (i.id.as_str(), i.weight)).collect::<Vec<_>>(),
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
        assert_eq!((ids(&set), set[0].address.to_string()), (vec!["a", "b"], "h:1".to_owned()));
        let set = folded(None, vec![instance("a", 1, 5), instance("b", 2, 1), instance("a", 3, 5)]);
        assert_eq!((ids(&set), set[1].address.to_string()), (vec!["b", "a"], "h:3".to_owned()));
    }

    #[test]
    fn of_one_address_the_newest_incarnation_is_kept() {
        let set = folded(None, vec![instance("old", 1, 1), instance("b", 2, 1), instance("new", 1, 2)]);
        assert_eq!(ids(&set), ["b", "new"]);
    }

    #[test]
    fn a_record_that_loses_its_id_holds_no_address() {
        let set = folded(None, vec![instance("a", 1, 5), instance("a", 2, 6), instance("b", 1, 4)]);
        assert_eq!(ids(&set), ["a", "b"]);
    }

    #[test]
    fn an_instance_that_takes_the_place_of_another_is_checked_for_duplicates() {
        let first = folded(None, vec![instance("a", 1, 1), instance("b", 2, 1)]);
        let second = folded(Some(&first), vec![instance("a", 1, 1), instance("b", 1, 2)]);
        assert_eq!(ids(&second), ["b"]);
    }

    #[test]
    fn an_absurd_weight_is_passed_on_as_it_is() {
        assert_eq!(folded(None, vec![instance("a", 1, 1).weight(u32::MAX)])[0].weight, u32::MAX);
    }

    fn said() -> impl Strategy<Value = Vec<Instance>> {
        let one = (0..6u16, 1..6u16, 0..3u64, 1..3u32);
        let one = one
            .prop_map(|(id, port, incarnation, weight)| instance(&format!("i{id}"), port, incarnation).weight(weight));
        proptest::collection::vec(one, 0..12)
    }

    /// The same by comparing each record with each other one.
    fn slowly(said: &[Instance]) -> Vec<Instance> {
        let beaten = |set: &[Instance], index: usize, rival: &dyn Fn(&Instance, &Instance) -> bool| {
            set.iter().enumerate().any(|(other, instance)| {
                other != index
                    && rival(instance, &set[index])
                    && (instance.incarnation, other) > (set[index].incarnation, index)
            })
        };
        let keep = |set: Vec<Instance>, rival: &dyn Fn(&Instance, &Instance) -> bool| -> Vec<Instance> {
            (0..set.len()).filter(|index| !beaten(&set, *index, rival)).map(|index| set[index].clone()).collect()
        };
        let by_id = keep(said.to_vec(), &|a, b| a.id == b.id);
        keep(by_id, &|a, b| a.address == b.address)
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
