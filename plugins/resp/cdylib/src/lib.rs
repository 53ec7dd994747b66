//! `libresp.so`: exports the plugin of `crucible-resp`; holds nothing else.
