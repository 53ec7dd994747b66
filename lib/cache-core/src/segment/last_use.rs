//! When an item was last read or written, in twelve bits of its header.
//!
//! ```text
//! code     0 ............ 1023 | 1024 ............................. 4095
//! means    before the segment  | after the segment was opened
//!          1 s to 24 days      | 0 s to 34 years
//! ```
//! Codes are distances from the second in which the item's segment was opened
//! (copies keep their history, which lies before it), linear at first and then
//! with 64 or 128 steps for each doubling. So no code ever wraps or needs
//! upkeep, an item's first two minutes are exact, and later a code is short of
//! the truth by at most a 128th of the segment's age.
//!
//! Readers renew a code by plain stores of two bytes, and only when it changes.
//! A reader that meets the renewal halfway may see a code that never was; it is
//! told to people, and decides nothing.

/// The code of the second in which the segment was opened.
const OPENED: u16 = 1024;
/// Steps for each doubling, as powers of two.
const BEFORE_STEPS: u32 = 6;
const AFTER_STEPS: u32 = 7;
/// Codes have twelve bits.
const CODE_MAX: u16 = 4095;

/// A twelve-bit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastUse(u16);

impl LastUse {
    /// The code of a time, for a segment opened at `opened_s` (both in seconds
    /// since the cache's base time).
    #[inline]
    pub(crate) fn of(time_s: u32, opened_s: u32) -> Self {
        if time_s >= opened_s {
            let steps = steps_of(time_s - opened_s, AFTER_STEPS);
            LastUse(OPENED + (steps as u16).min(CODE_MAX - OPENED))
        } else {
            let steps = steps_of(opened_s - time_s - 1, BEFORE_STEPS);
            LastUse(OPENED - 1 - (steps as u16).min(OPENED - 1))
        }
    }

    /// The latest time that this code may stand for.
    #[inline]
    pub(crate) fn latest_s(self, opened_s: u32) -> u32 {
        if self.0 >= OPENED {
            let end = first_of(u32::from(self.0 - OPENED) + 1, AFTER_STEPS) - 1;
            opened_s.saturating_add(end)
        } else {
            let begin = first_of(u32::from(OPENED - 1 - self.0), BEFORE_STEPS);
            opened_s.saturating_sub(begin.saturating_add(1))
        }
    }

    /// Its bits.
    #[inline]
    pub(crate) fn bits(self) -> u16 {
        self.0
    }

    /// From twelve bits.
    #[inline]
    pub(crate) fn from_bits(bits: u16) -> Self {
        debug_assert!(bits <= CODE_MAX);
        LastUse(bits)
    }
}

/// How many steps below `x`: linear up to `2 << k`, then `1 << k` for each doubling.
#[inline]
fn steps_of(x: u32, k: u32) -> u32 {
    if x < 2 << k {
        return x;
    }
    let e = (x | 1).ilog2().saturating_sub(k);
    (e << k) + (x >> e)
}

/// The smallest number with this many steps below it.
#[inline]
fn first_of(steps: u32, k: u32) -> u32 {
    let e = (steps >> k).saturating_sub(1);
    // The last code's end lies above what 32 bits hold.
    u32::try_from(u64::from(steps - (e << k)) << e).unwrap_or(u32::MAX)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_exact_at_first_and_never_too_old() {
        let opened = 40_000_000u32;
        for x in (0..100_000u32).chain((0..26).map(|e| 1_000_003u32 << (e % 9))) {
            let code = LastUse::of(opened + x, opened);
            let latest = code.latest_s(opened);
            assert!(latest >= opened + x, "{x}");
            assert!(latest - (opened + x) <= x / 128, "{x}: {latest}");
            assert!(x >= 128 || latest == opened + x, "{x}");
        }
    }

    #[test]
    fn times_before_the_segment_are_kept_to_a_64th() {
        let opened = 40_000_000u32;
        for x in (1..100_000u32).chain([1_000_000, 2_000_000]) {
            let latest = LastUse::of(opened - x, opened).latest_s(opened);
            assert!(latest >= opened - x && latest < opened, "{x}");
            assert!(latest - (opened - x) <= x / 64, "{x}: {latest}");
        }
    }

    #[test]
    fn codes_rise_with_time_and_stay_in_range() {
        let opened = 1 << 22;
        let mut last = 0;
        for time in (0..1u32 << 23).step_by(7).chain([u32::MAX / 2, u32::MAX]) {
            let code = LastUse::of(time, opened);
            assert!(code.bits() >= last && code.bits() <= CODE_MAX);
            assert_eq!(LastUse::from_bits(code.bits()), code);
            // Renewing in the same instant changes nothing.
            assert_eq!(LastUse::of(code.latest_s(opened), opened), code, "{time}");
            last = code.bits();
        }
        assert_eq!(LastUse::of(0, u32::MAX).bits(), 0);
    }
}
