//! `libsegcache.so`: exports the plugin of `crucible-segcache`; holds nothing else.
