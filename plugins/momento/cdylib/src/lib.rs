//! `libmomento.so`: exports the plugin of `crucible-momento`; holds nothing else.

crucible_plugin_api::export_protocol!("momento", crucible_momento::Momento);
