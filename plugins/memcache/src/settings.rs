//! The plugin's settings, as the configuration writes them.
//!
//! Must hold: every key has exactly one reader, named beside it; unknown keys are refused. Made by
//! the SDK from JSON, kept by [`crate::plugin::Memcache`].

use crucible_plugin_api::PluginError;
use crucible_plugin_api::re::{schemars, serde};

use crate::limits::{LINE_LEN_BYTES_MAX, VALUE_LEN_BYTES_WIRE_MAX};

/// Which encodings a listener takes.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Deserialize,
    serde::Serialize,
    schemars::JsonSchema,
)]
#[serde(crate = "serde", rename_all = "lowercase")]
#[schemars(crate = "schemars")]
pub enum Encodings {
    /// Told apart by a connection's first byte.
    #[default]
    Auto,
    /// Text and meta commands only.
    Text,
    /// The binary encoding only.
    Binary,
}

/// Settings of a memcache listener.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[schemars(crate = "schemars")]
pub struct Settings {
    /// Which encodings to take: auto (by the first byte), text, or binary.
    pub encodings: Encodings,
    /// Longest value in bytes; a longer one is answered "object too large for cache".
    pub value_len_bytes_max: u64,
    /// Longest data block in bytes of a command that needs the old item (`append`, `prepend`, `ms`
    /// with `I`, `MA`, `MP`): it is gathered before it runs. Stays below the host's `limits.input_max`.
    pub gathered_len_bytes_max: u64,
    /// Longest line of a multi-get in bytes.
    pub multiget_len_bytes_max: u64,
    /// Whether the `shutdown` command stops the server.
    pub shutdown_command: bool,
    /// Whether `flush_all` is allowed.
    pub flush_enabled: bool,
    /// Whether `lru_crawler metadump` and `stats cachedump` are allowed.
    pub dump_enabled: bool,
    /// How many connections may watch at a time; 0 forbids it.
    pub watchers_max: u32,
    /// Bytes of log lines that wait for a slow watcher before further ones are skipped.
    pub watch_queue_bytes_max: u64,
    /// The version that clients are told. They read it as a memcached's.
    pub version: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            encodings: Encodings::Auto,
            value_len_bytes_max: 1 << 20,
            gathered_len_bytes_max: 32 << 20,
            multiget_len_bytes_max: 1 << 20,
            shutdown_command: false,
            flush_enabled: true,
            dump_enabled: true,
            watchers_max: 20,
            watch_queue_bytes_max: 256 << 10,
            version: concat!("1.6.40-crucible-", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl Settings {
    /// Whether values that parse also make sense.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn check(&self) -> Result<(), PluginError> {
        let refuse = |key: &str, why: String| Err(PluginError::setting(key, why));
        if !(1..=VALUE_LEN_BYTES_WIRE_MAX).contains(&self.value_len_bytes_max) {
            return refuse(
                "value_len_bytes_max",
                format!("must be 1 to {VALUE_LEN_BYTES_WIRE_MAX}"),
            );
        }
        if !(1..=VALUE_LEN_BYTES_WIRE_MAX).contains(&self.gathered_len_bytes_max) {
            return refuse(
                "gathered_len_bytes_max",
                format!("must be 1 to {VALUE_LEN_BYTES_WIRE_MAX}"),
            );
        }
        if !(LINE_LEN_BYTES_MAX as u64..=64 << 20).contains(&self.multiget_len_bytes_max) {
            return refuse(
                "multiget_len_bytes_max",
                format!("must be {LINE_LEN_BYTES_MAX} to 64 MiB"),
            );
        }
        if !(1 << 10..=64 << 20).contains(&self.watch_queue_bytes_max) {
            return refuse("watch_queue_bytes_max", "must be 1 KiB to 64 MiB".to_owned());
        }
        if self.version.is_empty() || !self.version.bytes().all(|b| b.is_ascii_graphic()) {
            return refuse("version", "must be printable characters without spaces".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crucible_plugin_api::parse_settings;

    #[test]
    fn defaults_are_sound_and_unknown_keys_are_refused() {
        let s = parse_settings::<Settings>("{}").unwrap();
        assert!(s.check().is_ok());
        assert_eq!(s.encodings, Encodings::Auto);
        let e = parse_settings::<Settings>(r#"{"udp": true}"#).unwrap_err();
        assert!(e.to_string().contains("udp"), "{e}");
    }

    #[test]
    fn the_schema_shows_every_default() {
        let schema = crucible_plugin_api::schema_of::<Settings>();
        assert_eq!(schema.matches("\"default\":").count(), 10, "{schema}");
        assert!(schema.contains("\"default\":\"auto\""), "{schema}");
    }

    #[test]
    fn a_setting_that_makes_no_sense_is_named() {
        for (json, key) in [
            (r#"{"value_len_bytes_max": 0}"#, "value_len_bytes_max"),
            (r#"{"gathered_len_bytes_max": 0}"#, "gathered_len_bytes_max"),
            (r#"{"multiget_len_bytes_max": 10}"#, "multiget_len_bytes_max"),
            (r#"{"version": "a b"}"#, "version"),
        ] {
            let e = parse_settings::<Settings>(json).unwrap().check().unwrap_err();
            assert!(e.to_string().contains(key), "{e}");
        }
    }
}
