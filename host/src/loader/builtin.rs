//! Plugins that are linked into this program, for measuring what the boundary
//! costs. Empty unless built with the feature `static-plugins`.
//!
//! What must always be true: a built-in plugin goes through the same tables as
//! a loaded one. Called by the loader before it looks for a file.

use super::Loaded;

/// The built-in plugin of that name.
#[must_use]
pub fn find(name: &str) -> Option<Loaded> {
    all().into_iter().find(|plugin| plugin.metadata.name == name)
}

#[cfg(not(feature = "static-plugins"))]
fn all() -> Vec<Loaded> {
    Vec::new()
}

#[cfg(feature = "static-plugins")]
fn all() -> Vec<Loaded> {
    use crucible_plugin_api::abi::tables::{ABI_MAJOR, ABI_MINOR, Plugin_Ref};
    use crucible_plugin_api::metadata::{Kind, Metadata, SDK};
    use crucible_plugin_api::{PluginInfo, backend_root, protocol_root};

    let plugin = |name: &'static str, kind, root: fn(PluginInfo) -> Plugin_Ref| Loaded {
        metadata: Metadata {
            name: name.to_owned(),
            kind,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi: (ABI_MAJOR, ABI_MINOR),
            sdk: SDK.to_owned(),
            min_host_minor: 0,
            unwinds: cfg!(panic = "unwind"),
        },
        origin: super::Origin::Builtin,
        root: root(PluginInfo { name, version: env!("CARGO_PKG_VERSION") }),
        stamp: None,
    };
    static ALL: std::sync::OnceLock<Vec<Loaded>> = std::sync::OnceLock::new();
    ALL.get_or_init(|| {
        vec![
            plugin("ping", Kind::Protocol, protocol_root::<crucible_ping::Ping>),
            plugin("resp", Kind::Protocol, protocol_root::<crucible_resp::Resp>),
            plugin("memcache", Kind::Protocol, protocol_root::<crucible_memcache::Memcache>),
            plugin("segcache", Kind::Backend, backend_root::<crucible_segcache::Segcache>),
        ]
    })
    .clone()
}
