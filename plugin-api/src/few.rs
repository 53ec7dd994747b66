//! Copies of a few bytes without a call: elements of structures are mostly as
//! short as a name, and a call to copy one costs more than the copy.
//!
//! # Safety
//! Each read and write lies within the `len` bytes that the caller vouches for.
#![allow(unsafe_code)]

use std::ptr::copy_nonoverlapping;

/// Copies `len` bytes.
///
/// # Safety
/// As for [`copy_nonoverlapping`]: `from` is readable and `to` writable for `len`
/// bytes, and they do not overlap.
#[inline(always)]
pub(crate) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    /// Two pieces of `N` bytes, which overlap when there are fewer than twice as
    /// many.
    #[inline(always)]
    unsafe fn pair<const N: usize>(from: *const u8, to: *mut u8, len: usize) {
        // SAFETY: `N <= len <= 2 * N`, so both pieces lie within the `len` bytes
        // that the caller vouches for; arrays of bytes lie at any address.
        unsafe {
            let (first, last) =
                (from.cast::<[u8; N]>().read(), from.add(len - N).cast::<[u8; N]>().read());
            to.cast::<[u8; N]>().write(first);
            to.add(len - N).cast::<[u8; N]>().write(last);
        }
    }
    // SAFETY: the caller's promise, for lengths that suit.
    unsafe {
        match len {
            16..=32 => pair::<16>(from, to, len),
            8..=15 => pair::<8>(from, to, len),
            4..=7 => pair::<4>(from, to, len),
            2..=3 => pair::<2>(from, to, len),
            0 => {}
            1 => to.write(from.read()),
            _ => copy_nonoverlapping(from, to, len),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_length_is_copied_whole_and_nothing_beside_it() {
        let from: Vec<u8> = (1..=100).collect();
        for len in 0..100 {
            let mut to = [0u8; 102];
            // SAFETY: both are longer, and apart.
            unsafe { super::copy(from.as_ptr(), to.as_mut_ptr().add(1), len) };
            assert_eq!(to[1..=len], from[..len]);
            assert!(to[0] == 0 && to[len + 1..].iter().all(|b| *b == 0), "{len}");
        }
    }
}
