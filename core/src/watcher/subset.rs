//! Limits how many instances are used.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::{Breaks, Instance};

/// Chooses which instances of a set that is too large are kept: those whose ids have the lowest hashes. So most of them stay
/// the same from set to set, and without the seed nobody can choose an id that is kept.
#[derive(Clone, Debug)]
pub(super) struct Subset {
    most: usize,
    seed: RandomState,
}

/// What is kept, in its order, and how many records are left out.
pub(super) type Cut = (Vec<Arc<Instance>>, usize);

impl Subset {
    /// Keeps at most this many, and at least one.
    pub(super) fn of(most: usize) -> Self {
        Self { most: most.max(1), seed: RandomState::new() }
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    pub(super) fn fits(&self, records: usize) -> bool {
        records <= self.most
    }

    /// Cuts a set. All records of one id are kept, or none.
    pub(super) async fn cut(self, said: Vec<Arc<Instance>>) -> Cut {
        let mut breaks = Breaks::new();
        breaks.now().await;
        let (mut ranks, mut lowest) = (Vec::with_capacity(said.len()), Vec::new());
        let enough = self.enough(said.len());
        for instance in &said {
            let rank = self.rank(instance);
            ranks.push(rank);
            if rank <= enough {
                lowest.push(rank);
            }
            breaks.take().await;
        }
        if lowest.len() < self.most {
            lowest.clone_from(&ranks);
        }
        let highest = *lowest.select_nth_unstable(self.most - 1).1;
        breaks.now().await;
        let (all, mut kept) = (said.len(), Vec::with_capacity(self.most));
        for (instance, rank) in said.into_iter().zip(ranks) {
            if rank <= highest {
                kept.push(instance);
            }
            breaks.take().await;
        }
        breaks.now().await;
        let left_out = all - kept.len();
        (kept, left_out)
    }

    /// A rank below which there are a few more records than are kept, unless many records share few ids. So only a small part
    /// of the ranks has to be ordered.
    fn enough(&self, records: usize) -> u64 {
        let share = self.most as f64 / records as f64;
        (u64::MAX as f64 * share * 1.2) as u64
    }

    fn rank(&self, instance: &Instance) -> u64 {
        self.seed.hash_one(instance.id())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn said(ids: impl IntoIterator<Item = usize>) -> Vec<Arc<Instance>> {
        let address = |id: usize| format!("10.0.{}.{}:1", id / 256, id % 256).parse().expect("an address");
        ids.into_iter().map(|id| Arc::new(Instance::new(id.to_string(), address(id)).expect("an id"))).collect()
    }

    fn ids(set: &[Arc<Instance>]) -> HashSet<String> {
        set.iter().map(|instance| instance.id().to_owned()).collect()
    }

    #[tokio::test]
    async fn whoever_is_kept_stays_while_others_come_and_go() {
        let subset = Subset::of(100);
        let (first, left_out) = subset.clone().cut(said(0..1_000)).await;
        assert_eq!((first.len(), left_out), (100, 900));
        assert!(first.is_sorted_by_key(|instance| instance.id().parse::<usize>().expect("a number")), "in their order");
        let (again, _) = subset.clone().cut(said((0..1_000).rev())).await;
        assert_eq!(ids(&first), ids(&again), "whatever the order");
        let (second, _) = subset.cut(said(0..1_010)).await;
        let stayed = ids(&first).intersection(&ids(&second)).count();
        assert!(stayed >= 90, "{stayed} of 100 stay when ten come");
        let (other, _) = Subset::of(100).cut(said(0..1_000)).await;
        assert_ne!(ids(&first), ids(&other), "another channel keeps others");
    }

    #[tokio::test]
    async fn all_records_of_one_id_are_kept_or_none() {
        let twice = said((0..100).chain(0..100));
        let (kept, left_out) = Subset::of(20).cut(twice).await;
        assert_eq!((kept.len() + left_out, kept.len() % 2), (200, 0));
    }
}
