//! Numbers in arguments and values, by the rules that Redis clients rely on.
//!
//! Integers are canonical decimal: no sign but `-`, no leading zeros, no blanks, the whole text.
//! Floats are decimal or exponent notation and never NaN. Called by the frame parser, the option
//! parsers and the counters.

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

/// Reads a float: decimal, exponent or infinity, never NaN, no blanks.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (!value.is_nan()).then_some(value)
}

/// Fraction digits of an INCRBYFLOAT result.
const SCALE_DIGITS: i32 = 17;

/// A decimal number as `units * 10^-17`, rounded there, when it is not over 2^120 units.
fn parse_scaled(text: &[u8]) -> Option<i128> {
    let (mantissa, exponent) = match text.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => {
            let exponent = text[at + 1..].strip_prefix(b"+").unwrap_or(&text[at + 1..]);
            let exponent: i32 = std::str::from_utf8(exponent).ok()?.parse().ok()?;
            (&text[..at], exponent)
        }
        None => (text, 0),
    };
    let (negative, digits) = match mantissa {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, mantissa),
    };
    let (mut units, mut fraction, mut seen, mut point) = (0i128, 0i32, false, false);
    for byte in digits {
        match byte {
            b'0'..=b'9' => {
                seen = true;
                units = units.checked_mul(10)?.checked_add(i128::from(byte - b'0'))?;
                fraction += i32::from(point);
            }
            b'.' if !point => point = true,
            _ => return None,
        }
    }
    if !seen {
        return None;
    }
    let mut shift = SCALE_DIGITS.checked_add(exponent)?.checked_sub(fraction)?;
    if units == 0 {
        shift = 0;
    }
    while shift < 0 {
        // Only the last digit that is dropped decides the rounding.
        units = if shift == -1 { (units + 5) / 10 } else { units / 10 };
        shift += 1;
        if units == 0 {
            shift = 0;
        }
    }
    for _ in 0..shift.min(40) {
        units = units.checked_mul(10)?;
    }
    (units < 1 << 120).then_some(if negative { -units } else { units })
}

/// Why two floats have no sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatError {
    /// One of the texts is no float.
    NotAFloat,
    /// The sum is infinite or undefined.
    NotFinite,
}

/// The sum of two floats as text: at most 17 fraction digits, trailing zeros cut, no exponent.
///
/// Numbers that are decimals of moderate size are added exactly; others as doubles.
pub fn add_floats(a: &[u8], b: &[u8]) -> Result<String, FloatError> {
    let (x, y) = match (parse_f64(a), parse_f64(b)) {
        (Some(x), Some(y)) => (x, y),
        _ => return Err(FloatError::NotAFloat),
    };
    if !(x + y).is_finite() {
        return Err(FloatError::NotFinite);
    }
    let scaled = parse_scaled(a).zip(parse_scaled(b)).and_then(|(x, y)| x.checked_add(y));
    Ok(match scaled {
        Some(units) => scaled_text(units),
        None => trim_fraction(format!("{:.17}", x + y)),
    })
}

fn scaled_text(units: i128) -> String {
    let one = 10u128.pow(SCALE_DIGITS as u32);
    let (whole, part) = (units.unsigned_abs() / one, units.unsigned_abs() % one);
    let sign = if units < 0 { "-" } else { "" };
    trim_fraction(format!("{sign}{whole}.{part:017}"))
}

fn trim_fraction(text: String) -> String {
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    };
    if text == "-0" { "0".to_owned() } else { text }
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
