//! Bits of a value, the first one being the highest of the first byte: SETBIT, GETBIT, BITCOUNT,
//! BITPOS and BITOP. Called by the bitmap room.

use super::range;

/// Bit `offset`; those behind the end are clear.
pub fn get(value: &[u8], offset: u64) -> bool {
    usize::try_from(offset / 8)
        .ok()
        .and_then(|at| value.get(at))
        .is_some_and(|byte| byte >> (7 - offset % 8) & 1 == 1)
}

/// The value with bit `offset` set or cleared, and what it was.
pub fn set(value: &[u8], offset: u64, on: bool) -> (Vec<u8>, bool) {
    let at = (offset / 8) as usize;
    let mut new = Vec::with_capacity(value.len().max(at + 1));
    new.extend_from_slice(value);
    if new.len() <= at {
        new.resize(at + 1, 0);
    }
    let mask = 1 << (7 - offset % 8);
    let was = new[at] & mask != 0;
    if on {
        new[at] |= mask
    } else {
        new[at] &= !mask
    }
    (new, was)
}

/// The unit of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Unit {
    /// Positions are bytes.
    #[default]
    Byte,
    /// Positions are bits.
    Bit,
}

/// A range of a value in bits: the first, and one behind the last.
fn bit_range(value: &[u8], start: i64, end: i64, unit: Unit) -> Option<(u64, u64)> {
    let len = value.len() as i64;
    match unit {
        Unit::Byte => range::clamp(start, end, len).map(|(s, e)| (s as u64 * 8, e as u64 * 8 + 8)),
        Unit::Bit => range::clamp(start, end, len * 8).map(|(s, e)| (s as u64, e as u64 + 1)),
    }
}

/// Number of set bits in a range.
pub fn count(value: &[u8], start: i64, end: i64, unit: Unit) -> u64 {
    let Some((first, behind)) = bit_range(value, start, end, unit) else { return 0 };
    let (from, to) = ((first / 8) as usize, (behind.div_ceil(8)) as usize);
    let mut total: u64 = value[from..to].iter().map(|b| u64::from(b.count_ones())).sum();
    // The outermost bytes may be in the range only in part.
    let before = value[from] & !(0xffu8 >> (first % 8));
    total -= u64::from(before.count_ones());
    if behind % 8 != 0 {
        total -= u64::from((value[to - 1] & (0xffu8 >> (behind % 8))).count_ones());
    }
    total
}

/// Position of the first bit that is `on`, in a range. `open_end`: a clear bit may also be found
/// just behind the value, as when the client names no end.
pub fn position(value: &[u8], on: bool, start: i64, end: i64, unit: Unit, open_end: bool) -> i64 {
    if value.is_empty() {
        return if on { -1 } else { 0 };
    }
    let Some((first, behind)) = bit_range(value, start, end, unit) else { return -1 };
    let skip = if on { 0x00 } else { 0xff };
    let mut at = first;
    while at < behind {
        if at % 8 == 0 && at + 8 <= behind && value[(at / 8) as usize] == skip {
            at += 8;
        } else if get(value, at) == on {
            return at as i64;
        } else {
            at += 1;
        }
    }
    if !on && open_end { value.len() as i64 * 8 } else { -1 }
}

/// The operations of BITOP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operation {
    And,
    Or,
    Xor,
    Not,
}

/// Combines values bit by bit; shorter ones are padded with zeros.
pub fn combine(operation: Operation, values: &[Vec<u8>]) -> Vec<u8> {
    let len = values.iter().map(Vec::len).max().unwrap_or(0);
    let mut out = values.first().cloned().unwrap_or_default();
    out.resize(len, 0);
    if operation == Operation::Not {
        for byte in &mut out {
            *byte = !*byte;
        }
        return out;
    }
    for value in &values[1.min(values.len())..] {
        let (both, rest) = out.split_at_mut(value.len());
        for (a, b) in both.iter_mut().zip(value) {
            match operation {
                Operation::And => *a &= b,
                Operation::Or => *a |= b,
                Operation::Xor => *a ^= b,
                Operation::Not => {}
            }
        }
        if operation == Operation::And {
            rest.fill(0);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn setting_a_bit_grows_the_value() {
        let (value, was) = set(b"", 7, true);
        assert_eq!((value.as_slice(), was), (&b"\x01"[..], false));
        let (value, was) = set(&value, 7, false);
        assert_eq!((value.as_slice(), was), (&b"\0"[..], true));
        assert!(get(b"\x80", 0) && !get(b"\x80", 1) && !get(b"\x80", 1 << 40));
    }

    #[test]
    fn counting_honours_bytes_and_bits() {
        let value = b"foobar";
        assert_eq!(count(value, 0, -1, Unit::Byte), 26);
        assert_eq!(count(value, 0, 0, Unit::Byte), 4);
        assert_eq!(count(value, 1, 1, Unit::Byte), 6);
        assert_eq!(count(value, 5, 30, Unit::Bit), 17);
        assert_eq!(count(value, 9, 5, Unit::Bit), 0);
        assert_eq!(count(b"", 0, -1, Unit::Bit), 0);
    }

    #[test]
    fn positions_follow_the_rules_for_missing_ends() {
        assert_eq!(position(b"\xff\xf0\x00", false, 0, -1, Unit::Byte, true), 12);
        assert_eq!(position(b"\x00\xff\xf0", true, 0, -1, Unit::Byte, true), 8);
        assert_eq!(position(b"\x00\xff\xf0", true, 2, -1, Unit::Byte, true), 16);
        assert_eq!(position(b"\x00\x00", true, 0, -1, Unit::Byte, true), -1);
        assert_eq!(position(b"\xff\xff", false, 0, -1, Unit::Byte, true), 16);
        assert_eq!(position(b"\xff\xff", false, 0, 1, Unit::Byte, false), -1);
        assert_eq!(position(b"\x00\xff\xf0", true, 7, 15, Unit::Bit, false), 8);
        assert_eq!(position(b"", false, 0, -1, Unit::Byte, true), 0);
        assert_eq!(position(b"", true, 0, -1, Unit::Byte, true), -1);
    }

    #[test]
    fn combining_pads_with_zeros() {
        let values = [b"abc".to_vec(), b"a".to_vec()];
        assert_eq!(combine(Operation::And, &values), b"a\0\0");
        assert_eq!(combine(Operation::Or, &values), b"abc");
        assert_eq!(combine(Operation::Xor, &values), b"\0bc");
        assert_eq!(combine(Operation::Not, &[vec![0xf0]]), b"\x0f");
        assert_eq!(combine(Operation::And, &[b"a".to_vec(), b"abc".to_vec()]), b"a\0\0");
    }

    proptest! {
        #[test]
        fn count_and_position_agree_with_bit_by_bit(
            value in prop::collection::vec(prop_oneof![Just(0u8), Just(255u8), any::<u8>()], 0..20),
            start in -200i64..200, end in -200i64..200, on: bool, bits: bool,
        ) {
            let unit = if bits { Unit::Bit } else { Unit::Byte };
            let range: Vec<u64> = match bit_range(&value, start, end, unit) {
                Some((from, to)) => (from..to).collect(),
                None => Vec::new(),
            };
            let set = range.iter().filter(|at| get(&value, **at)).count() as u64;
            prop_assert_eq!(count(&value, start, end, unit), set);
            if !value.is_empty() {
                let first = range.iter().find(|at| get(&value, **at) == on);
                prop_assert_eq!(
                    position(&value, on, start, end, unit, false),
                    first.map_or(-1, |at| *at as i64)
                );
            }
        }
    }
}
