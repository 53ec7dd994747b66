//! Ghosts: fingerprints of keys that were evicted not long ago.
//!
//! ```text
//! line of 64 bytes: 16 words of u32, each two u16 fingerprints
//! ```
//! A line is a ring of 31 fingerprints and a cursor; the oldest is overwritten.
//! A match is a set membership and nothing else: it may be false (31 in 65,536)
//! and it may be lost when two evictions race for one place. Asked only when a
//! new key comes, written only when an item is dropped.
//!
//! # Safety
//! One spot makes a line of the region into a reference to atomics; `lines_of` has
//! checked its bounds, and the region outlives it.

use crate::error::Error;
use crate::hash::{KeyHash, scale};
use crate::memory::MapOptions;
#[cfg(not(loom))]
use crate::memory::Region;
use crate::sync::{AtomicU32, Ordering};

/// Fingerprints in one line.
pub(crate) const PRINTS_PER_LINE: u32 = 31;
/// Bytes of one line.
pub(crate) const LINE_BYTES: usize = 64;
const WORDS: usize = 16;

/// A table of ghosts.
#[derive(Debug)]
pub struct Ghosts {
    #[cfg(not(loom))]
    memory: Region,
    #[cfg(loom)]
    memory: Vec<[AtomicU32; WORDS]>,
    lines: u32,
}

impl Ghosts {
    /// Room for about `capacity` fingerprints, on ordinary pages.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub fn with_capacity(capacity: u64) -> Result<Self, Error> {
        Self::new(capacity, MapOptions::default())
    }

    /// Room for about `capacity` fingerprints.
    pub(crate) fn new(capacity: u64, options: MapOptions) -> Result<Self, Error> {
        let lines =
            u32::try_from(capacity.div_ceil(u64::from(PRINTS_PER_LINE)).max(1)).unwrap_or(u32::MAX);
        #[cfg(not(loom))]
        let memory = Region::map("the ghosts", lines as usize * LINE_BYTES, options)?;
        #[cfg(loom)]
        let memory = {
            let _ = options;
            (0..lines).map(|_| std::array::from_fn(|_| AtomicU32::new(0))).collect()
        };
        Ok(Self { memory, lines })
    }

    /// Memory in bytes.
    pub fn bytes(&self) -> usize {
        self.lines as usize * LINE_BYTES
    }

    /// How many fingerprints fit.
    pub fn capacity(&self) -> u64 {
        u64::from(self.lines) * u64::from(PRINTS_PER_LINE)
    }

    #[inline]
    fn line(&self, hash: KeyHash) -> &[AtomicU32; WORDS] {
        let line = scale(hash.index_bits(), self.lines) as usize;
        #[cfg(not(loom))]
        return lines_of(&self.memory, line);
        #[cfg(loom)]
        &self.memory[line]
    }

    /// Asks for the key's line ahead of its use.
    #[inline]
    pub fn prefetch(&self, hash: KeyHash) {
        crate::prefetch::line(core::ptr::from_ref(self.line(hash)).cast());
    }

    /// Remembers an evicted key.
    pub fn insert(&self, hash: KeyHash) {
        let line = self.line(hash);
        let print = u32::from(hash.fingerprint());
        // The cursor is the low half of word 0. Races lose one ghost at worst.
        let head = line[0].load(Ordering::Relaxed);
        let at = (head & 0xffff) % PRINTS_PER_LINE + 1;
        let (word, shift) = ((at / 2) as usize, (at % 2) * 16);
        let put = |old: u32| (old & !(0xffff << shift)) | (print << shift);
        if word == 0 {
            line[0].store((put(head) & !0xffff) | at, Ordering::Relaxed);
        } else {
            line[word].store(put(line[word].load(Ordering::Relaxed)), Ordering::Relaxed);
            line[0].store((head & !0xffff) | at, Ordering::Relaxed);
        }
    }

    /// Whether the key was evicted not long ago.
    pub fn contains(&self, hash: KeyHash) -> bool {
        let line = self.line(hash);
        let print = u32::from(hash.fingerprint());
        if line[0].load(Ordering::Relaxed) >> 16 == print {
            return true;
        }
        line[1..].iter().any(|word| {
            let word = word.load(Ordering::Relaxed);
            word & 0xffff == print || word >> 16 == print
        })
    }
}

#[cfg(not(loom))]
#[inline]
fn lines_of(memory: &Region, line: usize) -> &[AtomicU32; WORDS] {
    debug_assert!((line + 1) * LINE_BYTES <= memory.len_bytes());
    atomic_line(memory.base().wrapping_add(line * LINE_BYTES))
}

/// # Safety
/// The one unsafe spot of this file: a zeroed, aligned line of the region above,
/// only ever accessed as atomics, that lives as long as the region.
#[cfg(not(loom))]
#[allow(unsafe_code)]
#[inline]
fn atomic_line<'a>(p: *mut u8) -> &'a [AtomicU32; WORDS] {
    // SAFETY: `lines_of` has checked the bounds; see above.
    unsafe { &*p.cast::<[AtomicU32; WORDS]>() }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::hash::KeyHasher;

    #[test]
    fn the_last_evicted_keys_are_remembered_and_older_ones_forgotten() {
        let hasher = KeyHasher::new(7);
        let ghosts = Ghosts::new(31 * 64, MapOptions::default()).unwrap();
        let hash = |i: u32| hasher.hash(&i.to_le_bytes());
        for i in 0..100_000u32 {
            ghosts.insert(hash(i));
        }
        let recent = (99_000..100_000).filter(|&i| ghosts.contains(hash(i))).count();
        let older = (0..50_000).filter(|&i| ghosts.contains(hash(i))).count();
        assert!(recent > 980, "{recent} of the last 1000");
        assert!(older < 100, "{older} false of 50000");
    }

    #[test]
    fn every_place_of_a_line_is_used() {
        let ghosts = Ghosts::new(1, MapOptions::default()).unwrap();
        for i in 1..=PRINTS_PER_LINE as u64 {
            ghosts.insert(KeyHash(i << 32));
        }
        for i in 1..=PRINTS_PER_LINE as u64 {
            assert!(ghosts.contains(KeyHash(i << 32)), "{i}");
        }
    }
}
