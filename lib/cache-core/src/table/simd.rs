//! Finds the slots of a bucket whose tag matches, eight at once.
//!
//! SSE2 belongs to every x86-64 and NEON to every aarch64, so the vector path
//! needs no run-time choice and inlines into the lookup. The scalar path is the
//! meaning; a test holds both equal. A set bit is a hint: the caller loads the
//! slot atomically and checks it again.
//!
//! # Safety
//! The vector paths read the bucket's 64 bytes with plain vector loads while
//! other threads may store to its words. Each 8-byte lane of an aligned vector
//! load is read whole on these processors, and nothing but the tag is taken
//! from it.
#![allow(unsafe_code)]

use super::entry::Entry;
use crate::sync::{AtomicU64, Ordering};

/// Slots of a bucket, one cache line.
pub const SLOTS: usize = 8;

/// Bit `i` is set if slot `i` may hold `tag`.
#[inline]
pub fn match_tags(bucket: &[AtomicU64; SLOTS], tag: u16) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri), not(feature = "scalar-tags")))]
    return match_sse2(bucket, tag);
    #[cfg(all(target_arch = "aarch64", not(loom), not(miri), not(feature = "scalar-tags")))]
    return match_neon(bucket, tag);
    #[allow(unreachable_code)]
    match_scalar(bucket, tag)
}

/// The meaning of [`match_tags`], slot by slot.
#[inline]
#[cfg_attr(not(any(test, loom, miri, feature = "scalar-tags")), allow(dead_code))]
pub(crate) fn match_scalar(bucket: &[AtomicU64; SLOTS], tag: u16) -> u32 {
    let mut mask = 0;
    for (i, slot) in bucket.iter().enumerate() {
        // Acquire only so that loom's relaxed reads stay causal; see callers.
        if Entry(slot.load(Ordering::Acquire)).tag() == tag {
            mask |= 1 << i;
        }
    }
    mask
}

#[cfg(all(target_arch = "x86_64", not(loom), not(miri), not(feature = "scalar-tags")))]
#[inline]
fn match_sse2(bucket: &[AtomicU64; SLOTS], tag: u16) -> u32 {
    use core::arch::x86_64::*;
    // SAFETY: the bucket is 64 bytes, 64-byte aligned memory that outlives the
    // call, and SSE2 is part of x86-64. Lanes are whole words (see the header).
    unsafe {
        let p = bucket.as_ptr().cast::<__m128i>();
        let w01 = _mm_castsi128_ps(_mm_loadu_si128(p));
        let w23 = _mm_castsi128_ps(_mm_loadu_si128(p.add(1)));
        let w45 = _mm_castsi128_ps(_mm_loadu_si128(p.add(2)));
        let w67 = _mm_castsi128_ps(_mm_loadu_si128(p.add(3)));
        // The upper halves of four words; tags are their upper 16 bits.
        let lo = _mm_castps_si128(_mm_shuffle_ps::<0b11_01_11_01>(w01, w23));
        let hi = _mm_castps_si128(_mm_shuffle_ps::<0b11_01_11_01>(w45, w67));
        // Arithmetic shift keeps 16-bit values in range, so packing is exact.
        let tags = _mm_packs_epi32(_mm_srai_epi32::<16>(lo), _mm_srai_epi32::<16>(hi));
        let equal = _mm_cmpeq_epi16(tags, _mm_set1_epi16(tag as i16));
        (_mm_movemask_epi8(_mm_packs_epi16(equal, equal)) as u32) & 0xff
    }
}

#[cfg(all(target_arch = "aarch64", not(loom), not(miri), not(feature = "scalar-tags")))]
#[inline]
fn match_neon(bucket: &[AtomicU64; SLOTS], tag: u16) -> u32 {
    use core::arch::aarch64::*;
    // SAFETY: the bucket is 64 bytes of memory that outlives the call, and NEON
    // is part of aarch64. Lanes are whole words (see the header).
    unsafe {
        let p = bucket.as_ptr().cast::<u64>();
        let narrow = |i: usize| {
            let pair = vuzp2q_u32(
                vreinterpretq_u32_u64(vld1q_u64(p.add(i))),
                vreinterpretq_u32_u64(vld1q_u64(p.add(i + 2))),
            );
            vshrn_n_u32::<16>(pair)
        };
        let tags = vcombine_u16(narrow(0), narrow(4));
        let equal = vceqq_u16(tags, vdupq_n_u16(tag));
        let bits: [u16; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
        u32::from(vaddvq_u16(vandq_u16(equal, vld1q_u16(bits.as_ptr()))))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[repr(align(64))]
    struct Line([AtomicU64; SLOTS]);

    #[test]
    fn the_vector_path_equals_the_scalar_path() {
        let mut x = 0x1234_5678_9abc_def0u64;
        for round in 0..if cfg!(miri) { 100 } else { 20_000 } {
            let line = Line(std::array::from_fn(|_| {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                // Few distinct tags at the edges of the 16-bit range.
                let tag =
                    [0u64, 1, 2, 0x7fff, 0x8000, 0x8001, 0xfffe, 0xffff][(x >> 9) as usize & 7];
                AtomicU64::new((x >> 16) | (tag << 48))
            }));
            for tag in [1u16, 2, 0x7fff, 0x8000, 0x8001, 0xfffe, 0xffff, (x >> 40) as u16 | 1] {
                assert_eq!(
                    match_tags(&line.0, tag),
                    match_scalar(&line.0, tag),
                    "round {round} tag {tag}"
                );
            }
        }
    }
}
