//! Numbers in arguments and values, by the rules that Redis clients rely on.
//!
//! Integers are canonical decimal: no sign but `-`, no leading zeros, no blanks, the whole text.
//! Floats are decimal or exponent notation and never NaN. Called by the frame parser, the option
//! parsers and the counters.

pub use crucible_plugin_api::decimal::{FloatError, add_floats, parse_f64};

/// Longest canonical 64-bit integer, in bytes (`-9223372036854775808`).
pub const I64_LEN_BYTES_MAX: usize = 20;

/// Reads a canonical signed integer.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let (first, rest) = digits.split_first()?;
    if *first == b'0' {
        return (rest.is_empty() && !negative).then_some(0);
    }
    if digits.len() > I64_LEN_BYTES_MAX - 1 || !first.is_ascii_digit() {
        return None;
    }
    let mut magnitude: u64 = u64::from(first - b'0');
    for digit in rest {
        if !digit.is_ascii_digit() {
            return None;
        }
        // At most 19 digits: 9_999_999_999_999_999_999 fits 64 bits.
        magnitude = magnitude * 10 + u64::from(digit - b'0');
    }
    if negative {
        (magnitude <= 1 << 63).then(|| (magnitude as i64).wrapping_neg())
    } else {
        i64::try_from(magnitude).ok()
    }
}

/// Reads a canonical unsigned integer.
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    match text {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] if text.len() <= 20 && text.iter().all(u8::is_ascii_digit) => {
            text.iter().try_fold(0u64, |n, d| n.checked_mul(10)?.checked_add(u64::from(d - b'0')))
        }
        _ => None,
    }
}

/// Reads a number as scan cursors are written: digits, leading zeros allowed.
pub fn parse_cursor(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    text.iter().try_fold(0u64, |n, d| n.checked_mul(10)?.checked_add(u64::from(d - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_are_canonical_or_refused() {
        for (text, value) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("18446744073709551617", None),
            ("99999999999999999999", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("+1", None),
            ("01", None),
            (" 1", None),
            ("1 ", None),
            ("1a", None),
            ("0x1", None),
        ] {
            assert_eq!(parse_i64(text.as_bytes()), value, "{text:?}");
        }
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        assert_eq!(parse_u64(b"-1"), None);
        assert_eq!(parse_cursor(b"007"), Some(7));
        assert_eq!(parse_cursor(b"x"), None);
    }

    #[test]
    fn float_sums_read_like_decimals() {
        for (a, b, sum) in [
            ("3.0", "1.1", Ok("4.1")),
            ("0.1", "0.2", Ok("0.3")),
            ("10.50", "0.1", Ok("10.6")),
            ("5.0e3", "2.0e2", Ok("5200")),
            ("0", "-0", Ok("0")),
            ("-5", "5", Ok("0")),
            ("-1.5", "0.25", Ok("-1.25")),
            ("1", "1e-17", Ok("1.00000000000000001")),
            ("3.0", "1.000000000000000005", Ok("4.00000000000000001")),
            ("1", "1e-99999", Ok("1")),
            (".5", "1.", Ok("1.5")),
            ("abc", "1", Err(FloatError::NotAFloat)),
            ("1", " 1", Err(FloatError::NotAFloat)),
            ("", "1", Err(FloatError::NotAFloat)),
            ("nan", "1", Err(FloatError::NotAFloat)),
            ("1", "inf", Err(FloatError::NotFinite)),
            ("1e308", "1e308", Err(FloatError::NotFinite)),
        ] {
            let got = add_floats(a.as_bytes(), b.as_bytes());
            assert_eq!(got, sum.map(str::to_owned), "{a} + {b}");
        }
        assert_eq!(add_floats(b"1e30", b"1").unwrap(), "1000000000000000019884624838656");
    }

    proptest! {
        #[test]
        fn every_integer_comes_back(n: i64) {
            prop_assert_eq!(parse_i64(n.to_string().as_bytes()), Some(n));
        }

        #[test]
        fn float_sums_never_panic(a in "[-+.e0-9]{0,40}", b in "[-+.e0-9]{0,40}") {
            let _ = add_floats(a.as_bytes(), b.as_bytes());
        }
    }
}
