//! `libmemcache.so`: exports the plugin of `crucible-memcache`; holds nothing else.

crucible_plugin_api::export_protocol!("memcache", crucible_memcache::Memcache);
