//! The seeded key hash, and how its 64 bits are shared out.
//!
//! ```text
//! 63      48 47        32 31                0
//! |  tag 16 | ghost print |  bucket index 32 |
//! ```
//! The three parts never overlap: a tag says nothing about the bucket, and a
//! ghost's fingerprint says nothing about either.

use core::hash::{BuildHasher, Hasher};
use foldhash::quality::FixedState;

/// Hashes keys with a seed chosen at start.
#[derive(Debug, Clone)]
pub struct KeyHasher(FixedState);

impl KeyHasher {
    /// A hasher for this seed; the same seed gives the same hashes.
    pub fn new(seed: u64) -> Self {
        Self(FixedState::with_seed(seed))
    }

    /// Hash of a whole key.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        let mut h = self.0.build_hasher();
        h.write(key);
        KeyHash::of_bits(h.finish())
    }
}

const TAG_SHIFT: u32 = 48;

/// A key's hash. Only [`KeyHasher`] of the same cache makes useful ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(pub u64);

impl KeyHash {
    /// A hash of these bits, save that its tag is not zero.
    #[inline]
    pub fn of_bits(bits: u64) -> Self {
        KeyHash(if bits >> TAG_SHIFT == 0 { bits | 1 << TAG_SHIFT } else { bits })
    }

    /// The bits that choose a bucket.
    #[inline]
    pub fn index_bits(self) -> u32 {
        self.0 as u32
    }

    /// The bits stored in a hashtable slot; never zero, so that a used slot is
    /// never the empty word.
    #[inline]
    pub fn tag(self) -> u16 {
        debug_assert!(self.0 >> TAG_SHIFT != 0, "made by `of_bits`");
        (self.0 >> TAG_SHIFT) as u16
    }

    /// The bits stored in the ghost table; never zero (zero is an empty ghost).
    #[inline]
    pub fn fingerprint(self) -> u16 {
        let print = (self.0 >> 32) as u16;
        print | u16::from(print == 0)
    }
}

/// Maps 32 uniform bits onto `0..n` by multiplication, for any `n`.
#[inline]
pub fn scale(bits: u32, n: u32) -> u32 {
    ((u64::from(bits) * u64::from(n)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_fingerprints_are_never_zero() {
        assert_eq!(KeyHash::of_bits(0).tag(), 1);
        assert_eq!(KeyHash::of_bits(u64::MAX >> 16).tag(), 1);
        assert_eq!(KeyHash(0).fingerprint(), 1);
        assert_eq!(KeyHash(7 << 48).tag(), 7);
    }

    #[test]
    fn scale_covers_the_range_and_stays_below_it() {
        assert_eq!(scale(0, 5), 0);
        assert_eq!(scale(u32::MAX, 5), 4);
        assert_eq!(scale(u32::MAX, u32::MAX), u32::MAX - 1);
    }

    #[test]
    fn seeds_change_hashes() {
        let a = KeyHasher::new(1).hash(b"key");
        assert_eq!(a, KeyHasher::new(1).hash(b"key"));
        assert_ne!(a, KeyHasher::new(2).hash(b"key"));
    }
}
