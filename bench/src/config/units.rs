//! Numbers with units as people write them: `10s`, `250us`, `64KiB`, `100k`.
//!
//! Always true: a unit that is not understood is refused, never read as another one. Called by every
//! section of the config, for TOML and for flags alike.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

/// A length of time; a bare number is seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text);
        let scale_s = match unit {
            "" | "s" => 1.0,
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            _ => {
                return Err(format!("`{text}`: `{unit}` is no unit of time (ns, us, ms, s, m, h)"));
            }
        };
        let number: f64 = number
            .parse()
            .map_err(|_| format!("`{text}` is no length of time, as in 10s or 250us"))?;
        Duration::try_from_secs_f64(number * scale_s)
            .map(Self)
            .map_err(|_| format!("`{text}` is not a possible length of time"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A count: `1000`, `100k`, `2M`, or with binary units `64KiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub struct Amount(pub u64);

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        bytes(text).map(Self)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Reads a count or a number of bytes: decimal `k M G`, binary `KiB MiB GiB`; `KB` counts 1000.
///
/// # Errors
/// A sentence that names the text.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let scale: u64 = match unit {
        "" | "B" => 1,
        "k" | "K" | "KB" | "kB" => 1000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(format!("`{text}`: `{unit}` is no unit (k, M, G, KiB, MiB, GiB)")),
    };
    if let Ok(whole) = number.replace('_', "").parse::<u64>() {
        return whole.checked_mul(scale).ok_or_else(|| format!("`{text}` is too large"));
    }
    let value: f64 =
        number.parse().map_err(|_| format!("`{text}` is no number, as in 64, 1.5k or 4KiB"))?;
    let value = value * scale as f64;
    if !(0.0..1e18).contains(&value) {
        return Err(format!("`{text}` is out of range"));
    }
    Ok(value.round() as u64)
}

/// Reads whole seconds, rounded up, so that a TTL never becomes 0 by rounding.
///
/// # Errors
/// A sentence that names the text.
pub fn seconds(text: &str) -> Result<u64, String> {
    let span: Span = text.parse()?;
    Ok(span.0.as_secs() + u64::from(span.0.subsec_nanos() > 0))
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_' || c == '-'))
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

/// Accepts any TOML scalar, a list (joined by commas) or a table (joined as `key=value`) as the text
/// that a flag would hold, so that both ways of writing meet one parser.
pub(super) fn text_of<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    struct AsText;
    impl<'de> Visitor<'de> for AsText {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number, a text, a list or a table")
        }
        fn visit_str<E>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }
        fn visit_i64<E>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }
        fn visit_u64<E>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }
        fn visit_f64<E>(self, number: f64) -> Result<String, E> {
            Ok(number.to_string())
        }
        fn visit_bool<E>(self, truth: bool) -> Result<String, E> {
            Ok(truth.to_string())
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<String, A::Error> {
            let mut parts = Vec::new();
            while let Some(Text(part)) = seq.next_element()? {
                parts.push(part);
            }
            Ok(parts.join(","))
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
            let mut parts = Vec::new();
            while let Some((key, Text(value))) = map.next_entry::<String, Text>()? {
                parts.push(format!("{key}={value}"));
            }
            Ok(parts.join(","))
        }
    }
    from.deserialize_any(AsText)
}

struct Text(String);

impl<'de> serde::Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        text_of(from).map(Text)
    }
}

/// `serde(deserialize_with)` for every key: whatever TOML holds becomes text, and the type's `FromStr`
/// reads it.
pub(super) fn read<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    text_of(from)?.parse().map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_with_their_units() {
        for (text, ns) in [
            ("10s", 10_000_000_000u128),
            ("2", 2_000_000_000),
            ("250us", 250_000),
            ("1.5ms", 1_500_000),
            ("1m", 60_000_000_000),
        ] {
            assert_eq!(text.parse::<Span>().unwrap().0.as_nanos(), ns, "{text}");
        }
        for (text, n) in
            [("64", 64), ("1KiB", 1024), ("1.5k", 1500), ("1_000", 1000), ("2M", 2_000_000)]
        {
            assert_eq!(bytes(text), Ok(n), "{text}");
        }
        assert_eq!(seconds("500ms"), Ok(1));
    }

    #[test]
    fn unknown_units_and_impossible_numbers_are_refused() {
        for text in ["", "s", "10 parsecs", "-5s", "1e400"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        for text in ["", "KiB", "10kibi", "-5", "99999999999G"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
