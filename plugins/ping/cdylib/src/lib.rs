//! `libping.so`: exports the plugin of `crucible-ping`; holds nothing else.

crucible_plugin_api::export_protocol!("ping", crucible_ping::Ping);
