//! `libsegcache.so`: exports the plugin of `crucible-segcache`; holds nothing else.

crucible_plugin_api::export_backend!("segcache", crucible_segcache::Segcache);
