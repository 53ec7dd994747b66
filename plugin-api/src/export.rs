//! Making a plugin's root, and the macros that export it.
//!
//! A cdylib calls one macro, once. It places the metadata record and exports
//! one symbol: an `abi_stable` library header whose constructor makes the root.
//!
//! # Safety
//! The exported header is a static whose constructor returns the erased form of
//! the very type that it is declared with.

use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::std_types::ROption::{RNone, RSome};
use abi_stable::std_types::{RStr, RString};

use crate::abi::tables::{ABI_MINOR, Plugin, Plugin_Ref};
use crate::backend::Backend;
use crate::protocol::Protocol;
use crate::settings::schema_of;
use crate::thunk::guard;

/// Who a plugin is.
#[derive(Clone, Copy, Debug)]
pub struct PluginInfo {
    /// Its name in configuration.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
}

#[allow(unsafe_code)]
mod schema {
    use super::{RString, guard, schema_of};

    pub(super) unsafe extern "C" fn of<S: schemars::JsonSchema>() -> RString {
        guard(schema_of::<S>).unwrap_or_default().into()
    }
}

/// The root of a protocol plugin, also for linking it statically.
#[must_use]
pub fn protocol_root<P: Protocol>(info: PluginInfo) -> Plugin_Ref {
    Plugin {
        name: RStr::from_str(info.name),
        version: RStr::from_str(info.version),
        abi_minor: ABI_MINOR,
        settings_schema: schema::of::<P::Settings>,
        protocol: RSome(crate::protocol::table::table::<P>()),
        backend: RNone,
    }
    .leak_into_prefix()
}

/// The root of a backend plugin, also for linking it statically.
#[must_use]
pub fn backend_root<B: Backend>(info: PluginInfo) -> Plugin_Ref {
    Plugin {
        name: RStr::from_str(info.name),
        version: RStr::from_str(info.version),
        abi_minor: ABI_MINOR,
        settings_schema: schema::of::<B::Settings>,
        protocol: RNone,
        backend: RSome(crate::backend::table::table::<B>()),
    }
    .leak_into_prefix()
}

/// Exports a protocol: `export_protocol!("ping", Ping);`
#[macro_export]
macro_rules! export_protocol {
    ($name:literal, $protocol:ty) => {
        $crate::__export!($name, "protocol", $crate::protocol_root::<$protocol>);
    };
}

/// Exports a backend: `export_backend!("segcache", Segcache);`
#[macro_export]
macro_rules! export_backend {
    ($name:literal, $backend:ty) => {
        $crate::__export!($name, "backend", $crate::backend_root::<$backend>);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($name:literal, $kind:literal, $root:expr) => {
        const _: () = {
            const RECORD: &[&str] = &[
                concat!(
                    "crucible-plugin\nname=",
                    $name,
                    "\nkind=",
                    $kind,
                    "\nversion=",
                    env!("CARGO_PKG_VERSION"),
                    "\nmin_host_minor=0\nabi="
                ),
                $crate::metadata::ABI,
                "\nsdk=",
                $crate::metadata::SDK,
                "\npanic=",
                $crate::metadata::PANIC,
                "\n",
            ];
            const LEN: usize = $crate::metadata::record_len(RECORD);

            #[used]
            #[unsafe(link_section = ".crucible.plugin")]
            static METADATA: [u8; LEN] = $crate::metadata::record::<LEN>(RECORD);

            fn root() -> $crate::abi::tables::Plugin_Ref {
                $root($crate::PluginInfo { name: $name, version: env!("CARGO_PKG_VERSION") })
            }

            extern "C" fn construct() -> $crate::re::abi_stable::library::RootModuleResult {
                $crate::re::abi_stable::library::__call_root_module_loader(root)
            }

            #[unsafe(no_mangle)]
            #[allow(non_upper_case_globals)]
            static crucible_plugin_root_v1: $crate::re::abi_stable::library::LibHeader =
                // SAFETY: `construct` returns the erased form of a Plugin_Ref.
                unsafe {
                    $crate::re::abi_stable::library::LibHeader::from_constructor::<
                        $crate::abi::tables::Plugin_Ref,
                    >(construct, $crate::re::abi_stable::library::CheckTypeLayout::Yes)
                };
        };
    };
}
