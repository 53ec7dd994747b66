//! `libslab.so`: exports the plugin of `crucible-slab`; holds nothing else.

crucible_plugin_api::export_backend!("slab", crucible_slab::Slab);
