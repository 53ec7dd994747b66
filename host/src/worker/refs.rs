//! Names for values that are being sent from the store's memory.
//!
//! What must always be true: a name is given to one value at a time and comes
//! back once; 0 is nobody's name. Called by the worker.

/// Store and guard by name.
#[derive(Debug, Default)]
pub(crate) struct Refs {
    /// Index = name - 1; a free one holds the next free name in `guard`.
    held: Vec<(u32, u64)>,
    free: u64,
    pub(crate) count: u64,
}

const FREE: u32 = u32::MAX;

impl Refs {
    /// Names a guard of a store.
    pub(crate) fn add(&mut self, store: u32, guard: u64) -> u64 {
        debug_assert!(store != FREE);
        self.count += 1;
        if self.free == 0 {
            self.held.push((store, guard));
            return self.held.len() as u64;
        }
        let name = self.free;
        let place = &mut self.held[name as usize - 1];
        self.free = place.1;
        *place = (store, guard);
        name
    }

    /// What a name stands for, once.
    pub(crate) fn take(&mut self, name: u64) -> Option<(u32, u64)> {
        let at = usize::try_from(name.checked_sub(1)?).ok()?;
        let place = self.held.get_mut(at).filter(|place| place.0 != FREE)?;
        let found = *place;
        *place = (FREE, self.free);
        self.free = name;
        self.count -= 1;
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_once_and_is_used_again() {
        let mut refs = Refs::default();
        let (a, b) = (refs.add(0, 7), refs.add(1, 8));
        assert!(a != 0 && b != 0 && a != b);
        assert_eq!(refs.take(a), Some((0, 7)));
        assert_eq!(refs.take(a), None);
        assert_eq!(refs.add(2, 9), a);
        assert_eq!((refs.take(b), refs.take(a)), (Some((1, 8)), Some((2, 9))));
        assert_eq!((refs.take(0), refs.take(99), refs.count), (None, None, 0));
    }
}
