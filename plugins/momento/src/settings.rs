//! The settings of `protocol = "momento"`, and the tokens that may enter.

use std::collections::BTreeSet;

use crucible_plugin_api::PluginError;
use crucible_plugin_api::re::{schemars, serde};
use sha2::{Digest, Sha256};

/// The settings.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[schemars(crate = "schemars")]
pub struct Settings {
    /// Caches that exist from the start; others are created by clients.
    pub caches: Vec<String>,
    /// SHA-256 (64 hex digits) of each token that may enter; none = everybody
    /// may.
    pub token_sha256: Vec<String>,
    /// Longest value of a request, bytes.
    pub message_bytes_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            caches: vec!["default-cache".into()],
            token_sha256: Vec::new(),
            message_bytes_max: 5 * 1024 * 1024,
        }
    }
}

/// Hashes of the tokens that may enter.
#[derive(Debug, Default)]
pub(crate) struct Tokens(BTreeSet<[u8; 32]>);

impl Tokens {
    pub(crate) fn parse(hashes: &[String]) -> Result<Self, PluginError> {
        let parsed = hashes.iter().map(|text| {
            parse_hash(text).ok_or_else(|| {
                PluginError::setting("token_sha256", format!("{text:?} is not 64 hex digits"))
            })
        });
        parsed.collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a token may enter. Compares hashes, so its time tells nothing
    /// about the tokens.
    pub(crate) fn admit(&self, token: &[u8]) -> bool {
        self.0.is_empty() || self.0.contains(&<[u8; 32]>::from(Sha256::digest(token)))
    }
}

fn parse_hash(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_tokens_enter_unless_there_are_none() {
        assert!(Tokens::default().admit(b"anything"));
        // SHA-256 of "abc", a public test vector.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let tokens = Tokens::parse(&[abc.into()]).unwrap();
        assert!(tokens.admit(b"abc") && !tokens.admit(b"abd") && !tokens.admit(b""));
        assert!(Tokens::parse(&["xyz".into()]).unwrap_err().to_string().contains("token_sha256"));
    }
}
