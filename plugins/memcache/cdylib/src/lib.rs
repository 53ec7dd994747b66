//! `libmemcache.so`: exports the plugin of `crucible-memcache`; holds nothing else.
