//! A plugin's settings: JSON from the host, typed by the plugin.
//!
//! The host turns the configuration's sub-table into JSON text; the plugin
//! parses it into its own type, so unknown keys and bad values are refused by
//! the one who knows them, with the key's name in the sentence.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::error::PluginError;

/// Parses settings; an empty text is an empty table.
///
/// # Errors
/// When a key is unknown or a value does not fit; the sentence names it.
pub fn parse_settings<S: DeserializeOwned>(json: &str) -> Result<S, PluginError> {
    let text = if json.trim().is_empty() { "{}" } else { json };
    let value: serde_json::Value = serde_json::from_str(text)
        .map_err(|e| PluginError::setting("(all)", format!("not JSON: {e}")))?;
    let error = match S::deserialize(&value) {
        Ok(settings) => return Ok(settings),
        Err(error) => error,
    };
    // serde names no path; find the one key without which it would parse.
    let mut path = String::from("(all)");
    if let serde_json::Value::Object(map) = &value {
        for key in map.keys() {
            let mut without = map.clone();
            without.remove(key);
            if S::deserialize(&serde_json::Value::Object(without)).is_ok() {
                path = key.clone();
                break;
            }
        }
    }
    Err(PluginError::Setting { path, reason: error.to_string() })
}

/// The JSON schema of a settings type, with defaults and descriptions.
#[must_use]
pub fn schema_of<S: JsonSchema>() -> String {
    schemars::schema_for!(S).as_value().to_string()
}

/// A number of bytes: an integer, or a text such as `"64MB"` or `"1 GiB"`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ByteSize {
    /// Bytes.
    Bytes(u64),
    /// A number with a unit (B, KB, MB, GB, TB, with or without an i: powers of 1024).
    Text(String),
}

impl ByteSize {
    /// The number, for the setting `key`.
    ///
    /// # Errors
    /// When the text is no size.
    pub fn bytes(&self, key: &str) -> Result<usize, PluginError> {
        let bytes = match self {
            ByteSize::Bytes(bytes) => Some(*bytes),
            ByteSize::Text(text) => parse_bytes(text),
        };
        bytes.and_then(|b| usize::try_from(b).ok()).ok_or_else(|| {
            PluginError::setting(
                key,
                "not a size; write bytes or a number with a unit, as in 64MB".to_owned(),
            )
        })
    }
}

fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1u64,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * factor as f64;
    (bytes >= 0.0 && bytes <= u64::MAX as f64).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_integers_or_with_units() {
        for (text, bytes) in [
            ("1048576", 1 << 20),
            ("64MB", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1g", 1 << 30),
            ("0.5k", 512),
        ] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "MB", "12xb", "-1", "1e"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    #[derive(serde::Deserialize, JsonSchema, Debug)]
    #[serde(deny_unknown_fields, default)]
    struct Sample {
        /// How many.
        count: u32,
        name: String,
    }

    impl Default for Sample {
        fn default() -> Self {
            Self { count: 3, name: "x".into() }
        }
    }

    #[test]
    fn empty_settings_are_the_defaults() {
        assert_eq!(parse_settings::<Sample>("").unwrap().count, 3);
    }

    #[test]
    fn a_bad_value_and_an_unknown_key_are_named() {
        let e = parse_settings::<Sample>(r#"{"count":"many","name":"y"}"#).unwrap_err();
        assert!(e.to_string().starts_with("setting count: "), "{e}");
        let e = parse_settings::<Sample>(r#"{"colour":1}"#).unwrap_err();
        assert!(e.to_string().starts_with("setting colour: unknown field"), "{e}");
    }

    #[test]
    fn the_schema_carries_descriptions_and_defaults() {
        let schema = schema_of::<Sample>();
        assert!(schema.contains("How many."), "{schema}");
        assert!(schema.contains("\"default\":3"), "{schema}");
    }
}
