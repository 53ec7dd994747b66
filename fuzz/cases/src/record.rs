//! The record in a plugin's ELF section: any bytes parse or are refused.

use crucible_plugin_api::metadata::Metadata;

pub(crate) fn run(bytes: &[u8]) {
    if let Ok(metadata) = Metadata::parse(bytes) {
        assert!(!metadata.name.contains('\n'));
    }
}
