//! Numbers as memcached reads and writes them.
//!
//! Reading follows C's `strtol` family, because clients meet it through memcached: leading white
//! space and a sign are taken, white space may follow, anything else refuses. Where memcached cuts
//! a number to 32 bits silently, this refuses. Writing is plain decimal. Used by the text and meta
//! parsers, by arithmetic and by every reply.

const fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// Sign and magnitude of the number at the start of `s`.
fn sign_and_magnitude(s: &[u8]) -> Option<(bool, u64)> {
    let mut rest = s;
    while let [first, tail @ ..] = rest {
        if !is_space(*first) {
            break;
        }
        rest = tail;
    }
    let negative = rest.first() == Some(&b'-');
    if let [b'-' | b'+', tail @ ..] = rest {
        rest = tail;
    }
    let mut magnitude = 0u64;
    let mut digits = 0;
    while let Some(d) = rest.get(digits).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10) {
        magnitude = magnitude.checked_mul(10)?.checked_add(u64::from(d))?;
        digits += 1;
    }
    if digits == 0 || rest.get(digits).is_some_and(|b| !is_space(*b)) {
        return None;
    }
    Some((negative, magnitude))
}

/// An unsigned 64-bit number. A negative one wraps, and is refused if it is then still "negative".
pub fn parse_u64(s: &[u8]) -> Option<u64> {
    // The common case first: a few plain digits.
    if !s.is_empty() && s.len() <= 19 && s.iter().all(u8::is_ascii_digit) {
        return Some(s.iter().fold(0, |n, b| n * 10 + u64::from(b - b'0')));
    }
    let (negative, magnitude) = sign_and_magnitude(s)?;
    let value = if negative { magnitude.wrapping_neg() } else { magnitude };
    (!negative || value <= i64::MAX as u64).then_some(value)
}

/// An unsigned 32-bit number.
pub fn parse_u32(s: &[u8]) -> Option<u32> {
    parse_u64(s).and_then(|n| u32::try_from(n).ok())
}

/// A signed 64-bit number.
pub fn parse_i64(s: &[u8]) -> Option<i64> {
    let (negative, magnitude) = sign_and_magnitude(s)?;
    let magnitude = i64::try_from(magnitude).ok()?;
    Some(if negative { -magnitude } else { magnitude })
}

/// A signed 32-bit number.
pub fn parse_i32(s: &[u8]) -> Option<i32> {
    parse_i64(s).and_then(|n| i32::try_from(n).ok())
}

/// What `incr` and `decr` make of a stored value and a delta: increments wrap, decrements stop at 0.
pub const fn add_delta(value: u64, delta: u64, decrement: bool) -> u64 {
    if decrement { value.saturating_sub(delta) } else { value.wrapping_add(delta) }
}

/// Room for any `u64` in decimal.
pub const DECIMAL_LEN_MAX: usize = 20;

/// A decimal number on the stack.
#[derive(Clone, Copy)]
pub struct Decimal {
    bytes: [u8; DECIMAL_LEN_MAX],
    start: u8,
}

impl Decimal {
    /// The digits of `n`.
    pub fn new(mut n: u64) -> Self {
        let mut bytes = [b'0'; DECIMAL_LEN_MAX];
        let mut start = DECIMAL_LEN_MAX;
        loop {
            start -= 1;
            bytes[start] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                break;
            }
        }
        Self { bytes, start: start as u8 }
    }

    /// The digits.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..]
    }
}

/// The stored form of a counter that had `old_len` bytes: never shorter than before, padded with
/// spaces at the end, as memcached leaves it.
pub fn counter_bytes(n: u64, old_len: usize) -> Vec<u8> {
    let mut v = Decimal::new(n).as_bytes().to_vec();
    if v.len() < old_len {
        v.resize(old_len, b' ');
    }
    v
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_read_as_strtol_reads_them() {
        for (s, want) in [
            (&b"0"[..], Some(0)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"+3", Some(3)),
            (b" \t12", Some(12)),
            (b"12 x", Some(12)),
            (b"12\rx", Some(12)),
            (b"12x", None),
            (b"-1", None),
            (b"-18446744073709551615", Some(1)),
            (b"-", None),
            (b"", None),
            (b" ", None),
            (b"abc", None),
        ] {
            assert_eq!(parse_u64(s), want, "{s:?}");
        }
        assert_eq!(parse_u32(b"4294967295"), Some(u32::MAX));
        assert_eq!(parse_u32(b"4294967296"), None);
        assert_eq!(parse_i32(b"-2147483648"), Some(i32::MIN));
        assert_eq!(parse_i32(b"2147483648"), None);
        assert_eq!(parse_i32(b"-0"), Some(0));
        assert_eq!(parse_i32(b"99999999999999999999999"), None);
    }

    #[test]
    fn increments_wrap_and_decrements_stop_at_zero() {
        assert_eq!(add_delta(u64::MAX, 2, false), 1);
        assert_eq!(add_delta(5, 6, true), 0);
        assert_eq!(counter_bytes(9, 3), b"9  ");
        assert_eq!(counter_bytes(1000, 3), b"1000");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(n: u64) {
            prop_assert_eq!(parse_u64(Decimal::new(n).as_bytes()), Some(n));
            let (ours, std) = (Decimal::new(n), n.to_string());
            prop_assert_eq!(ours.as_bytes(), std.as_bytes());
        }

        #[test]
        fn random_bytes_never_panic(s: Vec<u8>) {
            let _ = (parse_u64(&s), parse_u32(&s), parse_i32(&s));
        }
    }
}
