//! The record in a plugin's ELF section: any bytes parse or are refused.
#![no_main]

use crucible_plugin_api::metadata::Metadata;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(metadata) = Metadata::parse(bytes) {
        assert!(!metadata.name.contains('\n'));
    }
});
