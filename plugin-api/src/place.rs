//! Memory for values of any type that live for one crossing: the callbacks of read-modify-writes.
//!
//! A batch of such operations is a batch of callbacks, each of a few words; one block for all of
//! them costs less than an allocation each.
//!
//! Always true: what was placed does not move until `reset`, which needs exclusive access.
//!
//! # Safety
//! A block is never grown, and only [`Places::reset`] gives its room to others. Whoever places a
//! value drops it before that.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

/// Words of an ordinary block: the callbacks of a full round.
const BLOCK_WORDS: usize = 2048;

/// What a block consists of, and the largest alignment.
type Word = MaybeUninit<u128>;

/// Room for values.
#[derive(Default)]
pub(crate) struct Places {
    /// The last is being filled; `used` of its words are taken. Vectors of no length, whose room is
    /// reached by pointer alone: a reference to all of a block would end those to what is in it.
    blocks: Vec<Vec<Word>>,
    used: usize,
}

impl Places {
    /// Moves a value to a place of its own. It is not dropped with it.
    pub(crate) fn place<T>(&mut self, value: T) -> *mut T {
        const { assert!(align_of::<T>() <= align_of::<Word>()) };
        let words = size_of::<T>().div_ceil(size_of::<Word>());
        let room = self.blocks.last().map_or(0, |block| block.capacity() - self.used);
        if room < words {
            self.blocks.push(Vec::with_capacity(words.max(BLOCK_WORDS)));
            self.used = 0;
        }
        let block = self.blocks.last_mut().expect("pushed a line above");
        // SAFETY: `words` from here on are the block's, and are taken for this value now; they are
        // as long and as aligned.
        unsafe {
            let at = block.as_mut_ptr().add(self.used).cast::<T>();
            self.used += words;
            at.write(value);
            at
        }
    }

    /// Gives all places to others; keeps one ordinary block.
    pub(crate) fn reset(&mut self) {
        self.used = 0;
        self.blocks.truncate(1);
        if self.blocks.first().is_some_and(|block| block.capacity() > BLOCK_WORDS) {
            self.blocks.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_where_they_are_while_others_are_placed() {
        let mut places = Places::default();
        for _ in 0..3 {
            // More than a block, also where it is interpreted.
            let many = if cfg!(miri) { 700 } else { 3000u64 };
            let placed: Vec<(*mut String, *mut [u64; 5])> = (0..many)
                .map(|i| (places.place(format!("value {i}")), places.place([i; 5])))
                .collect();
            let large = places.place([7u8; 100_000]);
            for (i, (text, words)) in placed.into_iter().enumerate() {
                // SAFETY: placed above, and dropped here alone.
                unsafe {
                    assert_eq!(*text, format!("value {i}"));
                    assert_eq!(*words, [i as u64; 5]);
                    text.drop_in_place();
                }
            }
            // SAFETY: placed above.
            assert!(unsafe { (*large).iter().all(|byte| *byte == 7) });
            places.reset();
        }
    }
}
