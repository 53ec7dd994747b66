//! The text that a plugin carries in an ELF section, readable without loading.
//!
//! Section `.crucible.plugin` holds one record: `key=value` lines between
//! `crucible-plugin\n` and a NUL. The loader reads it before any code of the
//! plugin runs. Always true: `parse(render(m)) == m` for what the export
//! macros write; unknown keys are ignored, so newer plugins may add some.

use std::collections::BTreeMap;

/// The ELF section's name. Not `.note.*`: the linker would retype it.
pub const SECTION: &str = ".crucible.plugin";
const MAGIC: &str = "crucible-plugin\n";

/// What kind of plugin a file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Turns bytes into operations.
    Protocol,
    /// Stores.
    Backend,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Protocol => "protocol",
            Self::Backend => "backend",
        })
    }
}

/// A plugin's own account of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Metadata {
    /// Its name in configuration: `resp`.
    pub name: String,
    /// Protocol or backend.
    pub kind: Kind,
    /// The plugin's version.
    pub version: String,
    /// ABI major and minor it was built for.
    pub abi: (u32, u32),
    /// Version of this crate it was built with.
    pub sdk: String,
    /// Least ABI minor of a host that can run it.
    pub min_host_minor: u32,
    /// False when it was built with `panic = "abort"`.
    pub unwinds: bool,
}

/// Why a section's text is no plugin record.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MetadataError {
    /// Does not begin as a record does.
    #[error("the {SECTION} section does not begin with a plugin record")]
    Magic,
    /// Not text.
    #[error("the {SECTION} section is not UTF-8")]
    NotText,
    /// A line is missing.
    #[error("the plugin record has no line {0}=")]
    Missing(&'static str),
    /// A line does not read as it must.
    #[error("the plugin record's line {key}={value} cannot be read")]
    Bad {
        /// The line's key.
        key: &'static str,
        /// What stands there.
        value: String,
    },
}

impl Metadata {
    /// Reads a section's bytes.
    ///
    /// # Errors
    /// When the record is not one, or lacks a line that every version has.
    pub fn parse(section: &[u8]) -> Result<Self, MetadataError> {
        let end = section.iter().position(|&b| b == 0).unwrap_or(section.len());
        let text = std::str::from_utf8(&section[..end]).map_err(|_| MetadataError::NotText)?;
        let body = text.strip_prefix(MAGIC).ok_or(MetadataError::Magic)?;
        let lines: BTreeMap<&str, &str> =
            body.lines().filter_map(|line| line.split_once('=')).collect();
        let get = |key: &'static str| lines.get(key).copied().ok_or(MetadataError::Missing(key));
        let bad =
            |key: &'static str, value: &str| MetadataError::Bad { key, value: value.to_owned() };

        let kind = match get("kind")? {
            "protocol" => Kind::Protocol,
            "backend" => Kind::Backend,
            other => return Err(bad("kind", other)),
        };
        let abi_text = get("abi")?;
        let abi = abi_text
            .split_once('.')
            .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
            .ok_or_else(|| bad("abi", abi_text))?;
        let min_text = get("min_host_minor")?;
        let unwinds = match get("panic")? {
            "unwind" => true,
            "abort" => false,
            other => return Err(bad("panic", other)),
        };
        Ok(Self {
            name: get("name")?.to_owned(),
            kind,
            version: get("version")?.to_owned(),
            abi,
            sdk: get("sdk")?.to_owned(),
            min_host_minor: min_text.parse().map_err(|_| bad("min_host_minor", min_text))?,
            unwinds,
        })
    }
}

/// The ABI of this crate, for the record: `ABI_MAJOR.ABI_MINOR`.
#[doc(hidden)]
pub const ABI: &str = "1.0";
/// How this compilation handles panics, for the record.
#[doc(hidden)]
pub const PANIC: &str = if cfg!(panic = "unwind") { "unwind" } else { "abort" };
/// This crate's version, for the record.
#[doc(hidden)]
pub const SDK: &str = env!("CARGO_PKG_VERSION");

/// The record as a NUL-padded array; `N` from [`record_len`].
#[doc(hidden)]
#[must_use]
pub const fn record<const N: usize>(parts: &[&str]) -> [u8; N] {
    let mut out = [0u8; N];
    let mut at = 0;
    let mut i = 0;
    while i < parts.len() {
        let bytes = parts[i].as_bytes();
        let mut j = 0;
        while j < bytes.len() {
            out[at] = bytes[j];
            at += 1;
            j += 1;
        }
        i += 1;
    }
    out
}

/// Length of the record with its NUL.
#[doc(hidden)]
#[must_use]
pub const fn record_len(parts: &[&str]) -> usize {
    let mut len = 1;
    let mut i = 0;
    while i < parts.len() {
        len += parts[i].len();
        i += 1;
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: &[&str] = &[
        "crucible-plugin\nname=x\nkind=backend\nversion=0.3.1\nabi=1.0\nsdk=1.0.0\n",
        "min_host_minor=0\npanic=unwind\nlater=yes\n",
    ];

    #[test]
    fn a_record_reads_as_it_was_written_and_unknown_lines_do_not_disturb() {
        const LEN: usize = record_len(PARTS);
        let bytes: [u8; LEN] = record(PARTS);
        let m = Metadata::parse(&bytes).unwrap();
        assert_eq!((m.name.as_str(), m.kind, m.abi), ("x", Kind::Backend, (1, 0)));
        assert!(m.unwinds);
    }

    #[test]
    fn the_record_tells_the_abi_of_the_tables() {
        use crate::abi::tables::{ABI_MAJOR, ABI_MINOR};
        assert_eq!(ABI, format!("{ABI_MAJOR}.{ABI_MINOR}"));
        assert!(SDK.starts_with(&format!("{ABI}.")), "and the crate's version goes with it");
    }

    #[test]
    fn a_broken_record_names_the_line() {
        assert_eq!(Metadata::parse(b"ELF"), Err(MetadataError::Magic));
        assert_eq!(Metadata::parse(b"\xff\xfe"), Err(MetadataError::NotText));
        let text = "crucible-plugin\nkind=pudding\n";
        assert!(matches!(
            Metadata::parse(text.as_bytes()),
            Err(MetadataError::Bad { key: "kind", .. })
        ));
        let text = "crucible-plugin\nkind=backend\nabi=1\n";
        assert!(matches!(
            Metadata::parse(text.as_bytes()),
            Err(MetadataError::Bad { key: "abi", .. })
        ));
    }
}
