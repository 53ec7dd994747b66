//! `grpc-timeout`: how long a client waits for a call.

use http::{HeaderMap, HeaderName};

static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Digits of a timeout, at most.
const DIGITS_MAX: usize = 8;

/// The unix millisecond at which the client of a call stops waiting; `None`: it says nothing that
/// can be read. Fractions of a millisecond are rounded up.
pub(crate) fn of(headers: &HeaderMap, now_ms: u64) -> Option<u64> {
    let text = headers.get(&GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    let wait_ms = match unit {
        "H" => n * 3_600_000,
        "M" => n * 60_000,
        "S" => n * 1000,
        "m" => n,
        "u" => n.div_ceil(1000),
        "n" => n.div_ceil(1_000_000),
        _ => return None,
    };
    Some(now_ms.saturating_add(wait_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_nonsense_is_no_deadline() {
        for (text, wait_ms) in [
            ("1H", Some(3_600_000)),
            ("2M", Some(120_000)),
            ("3S", Some(3000)),
            ("99999999m", Some(99_999_999)),
            ("1u", Some(1)),
            ("0n", Some(0)),
            ("1500000n", Some(2)),
            ("5", None),
            ("S", None),
            ("", None),
            ("999999999S", None),
            ("-1S", None),
            ("1x", None),
            ("1 S", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            assert_eq!(of(&headers, 1000), wait_ms.map(|ms| 1000 + ms), "{text:?}");
        }
        assert_eq!(of(&HeaderMap::new(), 1000), None);
    }
}
