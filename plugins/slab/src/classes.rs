//! Size classes: which slot an item of so many bytes takes.
//!
//! Sizes grow by a factor, in steps of 8 bytes at least, from the smallest item to
//! a whole slab. Each is then widened to the largest size of which as many fit
//! into a slab, so that what is left at a slab's end is less than a slot's rounding.

/// Alignment of slots and the step of their sizes, bytes.
pub(crate) const STEP: usize = 8;
/// Smallest slot, bytes: a header and a short key.
const SLOT_MIN: usize = 32;
/// Lengths up to here find their class in a table, bytes.
const TABLE_MAX: usize = 16 << 10;
/// Most classes of any plan; bounds what a slab's word must hold.
pub(crate) const CLASSES_MAX: usize = 1 << 12;

/// The number of a class.
pub(crate) type ClassId = u16;

/// All classes of one store.
#[derive(Debug)]
pub(crate) struct Classes {
    slots: Box<[u32]>,
    /// Class by length in steps, rounded up.
    table: Box<[ClassId]>,
    slab_size: usize,
}

impl Classes {
    /// Classes for slabs of `slab_size` bytes whose sizes grow by `factor`.
    pub(crate) fn new(slab_size: usize, factor: f64) -> Self {
        let mut slots = Vec::new();
        let mut size = SLOT_MIN.min(slab_size);
        loop {
            let widened = slab_size / (slab_size / size) / STEP * STEP;
            slots.push(widened as u32);
            if widened >= slab_size {
                break;
            }
            let next = (widened as f64 * factor) as usize / STEP * STEP;
            size = next.max(widened + STEP).min(slab_size);
        }
        debug_assert!(slots.len() <= CLASSES_MAX);
        let table = (0..=TABLE_MAX.min(slab_size) / STEP)
            .map(|steps| slots.partition_point(|slot| (*slot as usize) < steps * STEP) as ClassId)
            .collect();
        Self { slots: slots.into(), table, slab_size }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.slots.len()
    }

    /// The class of an item of so many bytes; `None` when it is longer than a slab.
    #[inline]
    pub(crate) fn of(&self, bytes: usize) -> Option<ClassId> {
        if let Some(class) = self.table.get(bytes.div_ceil(STEP)) {
            return Some(*class);
        }
        let class = self.slots.partition_point(|slot| (*slot as usize) < bytes);
        (class < self.slots.len()).then_some(class as ClassId)
    }

    /// Bytes of a slot.
    #[inline]
    pub(crate) fn slot_bytes(&self, class: ClassId) -> usize {
        self.slots[usize::from(class)] as usize
    }

    /// Slots of a slab.
    #[inline]
    pub(crate) fn slots_per_slab(&self, class: ClassId) -> u32 {
        (self.slab_size / self.slot_bytes(class)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_up_to_a_slab_has_the_smallest_slot_that_holds_it() {
        for (slab_size, factor) in [(16 << 10, 1.25), (256 << 10, 1.08), (1 << 20, 2.0)] {
            let classes = Classes::new(slab_size, factor);
            for bytes in (1..20_000).chain((20_000..=slab_size).step_by(977)).chain([slab_size]) {
                if bytes > slab_size {
                    continue;
                }
                let class = classes.of(bytes).expect("it fits");
                assert!(classes.slot_bytes(class) >= bytes, "{bytes} of {slab_size}");
                assert!(class == 0 || classes.slot_bytes(class - 1) < bytes, "{bytes}");
            }
            assert_eq!(classes.of(slab_size + 1), None);
        }
    }

    #[test]
    fn slots_are_aligned_and_fill_their_slab() {
        let classes = Classes::new(256 << 10, 1.08);
        for class in 0..classes.count() as ClassId {
            let (size, count) = (classes.slot_bytes(class), classes.slots_per_slab(class));
            assert_eq!(size % STEP, 0);
            let rest = (256 << 10) - size * count as usize;
            assert!(rest < (STEP * count as usize).max(size / 8), "{size}: {rest} bytes are left");
        }
    }

    #[test]
    fn rounding_costs_six_percent_at_most_over_mixed_lengths() {
        let factor = crate::Settings::default().growth_factor;
        let classes = Classes::new(1 << 20, factor);
        // Lengths whose logarithms are uniform: as many of each magnitude.
        let (mut wanted, mut taken, mut ratio, mut n) = (0.0, 0.0, 0.0, 0.0);
        let mut len = 64.0f64;
        while len < 64e3 {
            let slot = classes.slot_bytes(classes.of(len as usize).expect("it fits")) as f64;
            wanted += len;
            taken += slot;
            ratio += slot / len - 1.0;
            n += 1.0;
            len *= 1.0007;
        }
        assert!(taken / wanted < 1.06, "{} of the bytes", taken / wanted);
        assert!(ratio / n < 0.06, "{} for each item", ratio / n);
    }
}
