//! What memory costs, in the allocator's own sizes.
//!
//! Containers count what they own in these terms, so that a backend can charge
//! a structure exactly. Called by every container; the backend names its
//! allocator's rounding once with [`set_good_size`].

use std::sync::OnceLock;

static GOOD_SIZE: OnceLock<fn(usize) -> usize> = OnceLock::new();

/// Tells how many bytes the allocator takes for a request. The first call
/// counts; later ones with another function are ignored.
pub fn set_good_size(good_size: fn(usize) -> usize) {
    let _first_call_counts = GOOD_SIZE.set(good_size);
}

/// What a request of so many bytes takes.
#[inline]
pub(crate) fn charge(request_bytes: usize) -> usize {
    match (request_bytes, GOOD_SIZE.get()) {
        (0, _) => 0,
        (n, Some(good_size)) => good_size(n),
        (n, None) => size_classes(n),
    }
}

/// Four classes to a doubling, 16 bytes apart at first: what common allocators do.
fn size_classes(n: usize) -> usize {
    let step = if n <= 128 { 16 } else { n.next_power_of_two() / 8 };
    // A power of two: no division.
    (n + step - 1) & !(step - 1)
}

/// What a vector's buffer takes.
#[inline]
pub(crate) fn of_vec<T>(capacity: usize) -> usize {
    charge(capacity * size_of::<T>())
}

/// A capacity for at least `needed_bytes` that leaves room to grow and fills a
/// size class.
pub(crate) fn grown(needed_bytes: usize) -> usize {
    charge(needed_bytes + needed_bytes / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_hold_the_request_and_waste_a_quarter_at_the_most() {
        for n in 1..100_000 {
            let class = size_classes(n);
            assert!(class >= n && class <= n.max(16) + (n / 4).max(15), "{n} -> {class}");
        }
    }
}
