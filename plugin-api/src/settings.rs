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

#[cfg(test)]
mod tests {
    use super::*;

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
