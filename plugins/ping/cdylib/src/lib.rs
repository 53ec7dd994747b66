//! `libping.so`: exports the plugin of `crucible-ping`; holds nothing else.
