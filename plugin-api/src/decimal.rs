//! Sums of decimal numbers, as INCRBYFLOAT and HINCRBYFLOAT tell them.
//!
//! Called by protocols that add to strings and by structures that add to
//! fields, so that both come to the same text.

/// Reads a float: decimal, exponent or infinity, never NaN, no blanks.
#[must_use]
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

    #[test]
    fn sums_read_like_decimals_and_are_finite() {
        for (a, b, sum) in [
            ("0.1", "0.2", Ok("0.3")),
            ("10.50", "0.1", Ok("10.6")),
            ("5.0e3", "2.0e2", Ok("5200")),
            ("-5", "5", Ok("0")),
            ("x", "1", Err(FloatError::NotAFloat)),
            ("nan", "1", Err(FloatError::NotAFloat)),
            ("inf", "1", Err(FloatError::NotFinite)),
        ] {
            let got = add_floats(a.as_bytes(), b.as_bytes());
            assert_eq!(got, sum.map(str::to_owned), "{a} + {b}");
        }
        let long = add_floats(b"1e300", b"0").expect("a sum");
        assert_eq!(long.len(), 301, "every digit, no exponent");
    }
}
