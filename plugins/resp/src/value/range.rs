//! Ranges of GETRANGE, BITCOUNT and BITPOS: negative positions count from the end. Called by the
//! string and bitmap rooms.

/// A range of positions, both ends included, within `len`; `None` when it is empty.
pub fn clamp(start: i64, end: i64, len: i64) -> Option<(i64, i64)> {
    if start < 0 && end < 0 && start > end {
        return None;
    }
    let from_end = |p: i64| if p < 0 { (len + p).max(0) } else { p };
    let (start, end) = (from_end(start.max(-len)), from_end(end.max(-len - 1)));
    let end = end.min(len - 1);
    (start <= end && len > 0).then_some((start, end))
}

/// The part of a value that GETRANGE gives.
pub fn slice(value: &[u8], start: i64, end: i64) -> &[u8] {
    match clamp(start, end, value.len() as i64) {
        Some((start, end)) => &value[start as usize..=end as usize],
        None => b"",
    }
}

/// A value with `patch` written over it at `offset`, zeros filling a gap.
pub fn overwrite(old: &[u8], offset: usize, patch: &[u8]) -> Vec<u8> {
    let mut new = Vec::with_capacity(old.len().max(offset + patch.len()));
    new.extend_from_slice(old);
    if new.len() < offset + patch.len() {
        new.resize(offset + patch.len(), 0);
    }
    new[offset..offset + patch.len()].copy_from_slice(patch);
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_count_from_both_ends() {
        let value = b"This is a string";
        for (start, end, part) in [
            (0, 3, &b"This"[..]),
            (-3, -1, b"ing"),
            (0, -1, value),
            (10, 100, b"string"),
            (5, 3, b""),
            (-1, -3, b""),
            (100, 200, b""),
            (-100, 3, b"This"),
            (-100, -90, b"T"),
            (i64::MIN, i64::MAX, value),
        ] {
            assert_eq!(slice(value, start, end), part, "{start} {end}");
        }
        assert_eq!(slice(b"", 0, -1), b"");
    }

    #[test]
    fn overwriting_pads_with_zeros() {
        assert_eq!(overwrite(b"Hello World", 6, b"Redis"), b"Hello Redis");
        assert_eq!(overwrite(b"", 3, b"x"), b"\0\0\0x");
        assert_eq!(overwrite(b"abc", 1, b"Z"), b"aZc");
    }
}
