//! `libresp.so`: exports the plugin of `crucible-resp`; holds nothing else.

crucible_plugin_api::export_protocol!("resp", crucible_resp::Resp);
