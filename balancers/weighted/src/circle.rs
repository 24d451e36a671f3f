//! Maps slots to the endpoints that own them.

use crate::step::scale;

/// A circle whose number of slots is the sum of all weights. Each endpoint owns an arc of as many slots as its weight.
///
/// The owner of a slot is found without a search over endpoints. Arcs are laid out in classes: of 1 slot, of 2 to 3, of
/// 4 to 7 and so on. Each class is divided into cells of the length of its shortest possible arc. No arc is strictly
/// inside a cell, so a cell belongs to one endpoint, or to two with a split between them. An arc is shorter than two
/// cells, so there are at most two cells for each endpoint.
pub(crate) struct Circle {
    slots: u64,
    classes: Vec<Class>,
    cells: Vec<Cell>,
}

struct Class {
    start: u64,
    end: u64,
    /// Binary logarithm of the cells' length.
    shift: u32,
    first_cell: usize,
}

struct Cell {
    /// The slot at which `after` begins, or one beyond the cell.
    split: u64,
    before: u32,
    after: u32,
}

/// Weights are at most `MAX_WEIGHT`, which takes 16 bits.
const CLASSES: usize = u16::BITS as usize;

impl Circle {
    /// Lays out the arcs. A weight of 0 gets none.
    pub(crate) fn new(weights: &[u16]) -> Self {
        let mut by_class: [Vec<(u32, u16)>; CLASSES] = Default::default();
        // A set of more than 2^32 endpoints would not fit into memory.
        for (index, weight) in (0..).zip(weights) {
            if let Some(class) = weight.checked_ilog2() {
                by_class[class as usize].push((index, *weight));
            }
        }
        let mut circle = Self { slots: 0, classes: Vec::new(), cells: Vec::with_capacity(2 * weights.len()) };
        for (shift, arcs) in (0..).zip(by_class) {
            if !arcs.is_empty() {
                circle.append_class(shift, &arcs);
            }
        }
        circle
    }

    fn append_class(&mut self, shift: u32, arcs: &[(u32, u16)]) {
        let (start, first_cell) = (self.slots, self.cells.len());
        for (endpoint, weight) in arcs {
            // The last cell either reaches into this arc, or ends before its split and never uses `after`.
            if let Some(last) = self.cells.last_mut() {
                last.after = *endpoint;
            }
            self.slots += u64::from(*weight);
            while start + (((self.cells.len() - first_cell) as u64) << shift) < self.slots {
                self.cells.push(Cell { split: self.slots, before: *endpoint, after: *endpoint });
            }
        }
        self.classes.push(Class { start, end: self.slots, shift, first_cell });
    }

    /// The number of slots: 0 if no weight is above 0.
    pub(crate) fn slots(&self) -> u64 {
        self.slots
    }

    /// The owner at a point of the circle, whose whole circumference is 2^64. None if there are no slots.
    pub(crate) fn owner(&self, point: u64) -> Option<usize> {
        let slot = scale(point, self.slots);
        // At most 16 classes, so at most four comparisons; one class if weights are similar.
        let class = self.classes.get(self.classes.partition_point(|class| class.end <= slot))?;
        let cell = self.cells.get(class.first_cell + ((slot - class.start) >> class.shift) as usize)?;
        Some(if slot < cell.split { cell.before } else { cell.after } as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How many slots each endpoint owns, counted slot by slot.
    fn owned(weights: &[u16]) -> Vec<u64> {
        let circle = Circle::new(weights);
        let mut owned = vec![0; weights.len()];
        for slot in 0..circle.slots() {
            let middle = ((u128::from(slot) << 64 | 1 << 63) / u128::from(circle.slots())) as u64;
            owned[circle.owner(middle).expect("a slot")] += 1;
        }
        owned
    }

    #[test]
    fn the_first_and_the_last_point_are_owned() {
        let circle = Circle::new(&[0, 5, 0, 1, 0]);
        assert_eq!((circle.owner(0), circle.owner(u64::MAX)), (Some(3), Some(1)));
    }

    #[test]
    fn an_empty_circle_has_no_owners() {
        assert!([&[][..], &[0, 0]].into_iter().all(|weights| Circle::new(weights).owner(7).is_none()));
    }

    #[test]
    fn there_are_at_most_two_cells_for_each_endpoint() {
        for weights in [vec![u16::MAX; 100], (1..1_000).collect(), [vec![1; 500], vec![u16::MAX; 500]].concat()] {
            assert!(Circle::new(&weights).cells.len() <= 2 * weights.len());
        }
    }

    proptest! {
        #[test]
        fn each_endpoint_owns_as_many_slots_as_its_weight(
            weights in prop::collection::vec(prop_oneof![0_u16..4, 0_u16..300, Just(4_096), Just(8_191)], 0..40),
        ) {
            let expected: Vec<_> = weights.iter().copied().map(u64::from).collect();
            prop_assert_eq!(owned(&weights), expected);
        }

        #[test]
        fn each_endpoint_owns_one_arc(weights in prop::collection::vec(1_u16..40, 1..40)) {
            let circle = Circle::new(&weights);
            let middle = |slot| ((u128::from(slot) << 64 | 1 << 63) / u128::from(circle.slots())) as u64;
            let mut owners: Vec<_> = (0..circle.slots()).map(|slot| circle.owner(middle(slot))).collect();
            owners.dedup();
            prop_assert_eq!(owners.len(), weights.len());
        }
    }
}
