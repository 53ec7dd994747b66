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

/// Reads a score: as [`parse_f64`], and neither rounded to infinity nor to nothing.
pub fn parse_score(text: &[u8]) -> Option<f64> {
    // Whole numbers of so few digits are what they are as floats, too.
    if text.len() <= 15
        && let Some(whole) = parse_i64(text)
    {
        return Some(whole as f64);
    }
    let value = parse_f64(text)?;
    let digits = || text.iter().take_while(|b| !matches!(b, b'e' | b'E'));
    if value.is_infinite() && digits().any(u8::is_ascii_digit) {
        return None;
    }
    if value == 0.0 && digits().any(|b| matches!(b, b'1'..=b'9')) {
        return None;
    }
    Some(value)
}

/// A score as clients read it: whole numbers without point or exponent, others with the fewest
/// digits that read back the same, with an exponent where that is shorter.
pub fn score_text(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let limit = (i64::MAX / 2) as f64;
    if value.abs() <= limit && value.trunc() == value {
        return if value == 0.0 && value.is_sign_negative() {
            "-0".to_owned()
        } else {
            (value as i64).to_string()
        };
    }
    // `{:e}` gives the fewest digits: d.ddde±x.
    let text = format!("{:e}", value.abs());
    let (mantissa, exponent) = text.split_once('e').expect("an exponent is always written");
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let exponent: i32 = exponent.parse().expect("written by the line above");
    let len = digits.len() as i32;
    // The value is 0.digits * 10^(exponent + 1), or digits * 10^scale.
    let scale = exponent - (len - 1);
    let sign = if value < 0.0 { "-" } else { "" };
    let body = if scale >= 0 && exponent < len + 7 {
        format!("{digits}{}", "0".repeat(scale as usize))
    } else if scale < 0 && (scale > -7 || exponent.abs() < 4) {
        let whole = len + scale;
        if whole <= 0 {
            format!("0.{}{digits}", "0".repeat(whole.unsigned_abs() as usize))
        } else {
            format!("{}.{}", &digits[..whole as usize], &digits[whole as usize..])
        }
    } else {
        let point = if len > 1 { "." } else { "" };
        let mark = if exponent < 0 { '-' } else { '+' };
        format!("{}{point}{}e{mark}{}", &digits[..1], &digits[1..], exponent.unsigned_abs())
    };
    format!("{sign}{body}")
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

    #[test]
    fn scores_read_and_print_as_clients_know_them() {
        for (text, value) in [
            ("1.5", Some(1.5)),
            ("inf", Some(f64::INFINITY)),
            ("-inf", Some(f64::NEG_INFINITY)),
            ("+inf", Some(f64::INFINITY)),
            ("1e400", None),
            ("1e-400", None),
            ("0e5", Some(0.0)),
            ("nan", None),
            ("", None),
            (" 1", None),
            ("1 ", None),
            ("x", None),
        ] {
            assert_eq!(parse_score(text.as_bytes()), value, "{text:?}");
        }
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (-17.0, "-17"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (1234567.125, "1234567.125"),
            (1e15, "1000000000000000"),
            (1e17, "100000000000000000"),
            (1e20, "1e+20"),
            (1.5e300, "1.5e+300"),
            (0.001, "0.001"),
            (0.000001, "0.000001"),
            (1e-7, "1e-7"),
            (1.25e-9, "1.25e-9"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(score_text(value), text);
        }
    }

    proptest! {
        #[test]
        fn every_score_comes_back(bits: u64) {
            let value = f64::from_bits(bits);
            if !value.is_nan() {
                let back: f64 = score_text(value).parse().unwrap();
                prop_assert_eq!(back.to_bits(), value.to_bits());
            }
        }

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
