//! Loading a file whose record was found good.
//!
//! What must always be true: the library stays loaded for ever; the layouts are
//! compared with the older side as the interface, because a table that grew is
//! compatible in that direction only.
//!
//! # Safety
//! Opening a library runs its constructors, and the root symbol is believed to
//! be a `LibHeader` once its magic matches: a plugin is trusted code, as its
//! record, its place and its permissions say.
#![allow(unsafe_code)]

use std::io::Write as _;
use std::os::fd::{FromRawFd as _, IntoRawFd as _};
use std::path::{Path, PathBuf};

use crucible_plugin_api::abi::tables::{ABI_MINOR, Plugin_Ref, ROOT_SYMBOL};
use crucible_plugin_api::metadata::Kind;
use crucible_plugin_api::re::abi_stable;

use abi_stable::StableAbi;
use abi_stable::abi_stability::abi_checking::{
    CheckingGlobals, check_layout_compatibility_with_globals,
};
use abi_stable::library::{AbiHeaderRef, LibHeader, RootModule};
use abi_stable::sabi_types::VersionNumber;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::LoadError;
use super::elf::Record;

/// Keeps the mapping when the handle is closed (it is not, but plugins may be
/// opened again by others).
const RTLD_NODELETE: i32 = libc::RTLD_NODELETE;

/// Copies a file into memory, under a name that the dynamic linker takes. The
/// descriptor stays open: its number is in the name, and a name that came
/// again would give the first mapping again.
pub(super) fn copy(path: &Path) -> std::io::Result<PathBuf> {
    let bytes = std::fs::read(path)?;
    // SAFETY: the name is a literal; the descriptor is new and owned here only.
    let mut file = unsafe {
        let fd = libc::memfd_create(c"plugin".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        std::fs::File::from_raw_fd(fd)
    };
    file.write_all(&bytes)?;
    Ok(PathBuf::from(format!("/proc/self/fd/{}", file.into_raw_fd())))
}

/// Opens the file `mapped`, which is `path` by its real name or a copy of it,
/// and returns its root.
pub(super) fn open(
    path: &Path,
    mapped: &Path,
    record: &Record,
    layout_report: Option<&Path>,
) -> Result<Plugin_Ref, LoadError> {
    let linker = |error: libloading::Error| LoadError::Linker {
        path: path.to_owned(),
        reason: chain(&error),
        static_tls: record.static_tls,
    };
    // SAFETY: see the module; the record was found good.
    let library = unsafe { Library::open(Some(mapped), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) }
        .map_err(linker)?;
    // Never unloaded: thread-locals and values of the plugin may outlive any plan.
    let library = Box::leak(Box::new(library));
    // SAFETY: the symbol is the static that the export macro made; its first
    // bytes are checked before anything else is believed.
    let symbol = unsafe { library.get::<AbiHeaderRef>(ROOT_SYMBOL.as_bytes()) }.map_err(|_| {
        LoadError::NotAPlugin {
            path: path.to_owned(),
            reason: format!("it has a plugin record but no symbol {ROOT_SYMBOL}"),
        }
    })?;
    let address = symbol.into_raw().cast_const();
    if address.is_null() {
        return Err(LoadError::NotAPlugin {
            path: path.to_owned(),
            reason: format!("its symbol {ROOT_SYMBOL} is null"),
        });
    }
    // SAFETY: `AbiHeaderRef` is a transparent pointer to the header; the
    // symbol's address is that pointer, valid for ever.
    let header = unsafe { std::mem::transmute::<*const (), AbiHeaderRef>(address.cast()) };
    let header: &'static LibHeader = header.upgrade().map_err(|_| LoadError::NotAPlugin {
        path: path.to_owned(),
        reason: format!("its symbol {ROOT_SYMBOL} is not a plugin header of abi_stable 0.11"),
    })?;
    check_layout(path, header, layout_report)?;
    // SAFETY: the layouts were compared a line above.
    let root = unsafe { header.init_root_module_with_unchecked_layout::<Plugin_Ref>() }.map_err(
        |error| LoadError::Constructor {
            path: path.to_owned(),
            reason: error.to_string().lines().next().unwrap_or("it panicked").to_owned(),
        },
    )?;
    cross_check(path, record, root)?;
    Ok(root)
}

fn check_layout(path: &Path, header: &LibHeader, report: Option<&Path>) -> Result<(), LoadError> {
    let ours = <Plugin_Ref as StableAbi>::LAYOUT;
    let our_version = Plugin_Ref::VERSION_STRINGS;
    let Some(theirs) = header.layout() else {
        return Err(LoadError::NotAPlugin {
            path: path.to_owned(),
            reason: "it carries no description of its data layout".into(),
        });
    };
    let number = |strings| VersionNumber::new(strings).ok().map(|v| (v.major, v.minor, v.patch));
    let older = number(header.version_strings()) < number(our_version);
    let (interface, implementation) = if older { (theirs, ours) } else { (ours, theirs) };
    // The library's own globals remember every table seen so far and would hold
    // this plugin to the layout of an older one loaded before it.
    let globals = CheckingGlobals::new();
    let checked = check_layout_compatibility_with_globals(interface, implementation, &globals);
    let Err(errors) = checked else {
        return Ok(());
    };
    let text = errors.to_string();
    let written = report.filter(|file| match std::fs::write(file, &text) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, file = %file.display(), "cannot write the layout report");
            false
        }
    });
    Err(LoadError::Layout {
        path: path.to_owned(),
        host: our_version.version.as_str(),
        lines: text.lines().count(),
        report: written.map(Path::to_owned),
    })
}

/// The record was trusted before any code ran; the tables must agree with it.
fn cross_check(path: &Path, record: &Record, root: Plugin_Ref) -> Result<(), LoadError> {
    let metadata = &record.metadata;
    let kind = match (root.protocol().is_some(), root.backend().is_some()) {
        (true, false) => Some(Kind::Protocol),
        (false, true) => Some(Kind::Backend),
        _ => None,
    };
    let agrees = root.name().as_str() == metadata.name
        && root.version().as_str() == metadata.version
        && root.abi_minor() == metadata.abi.1
        && kind == Some(metadata.kind);
    if agrees {
        return Ok(());
    }
    let tables_kind = kind.map_or("neither or both kinds".to_owned(), |k| k.to_string());
    Err(LoadError::Lies {
        path: path.to_owned(),
        record: format!(
            "{} {} {}, ABI 1.{}",
            metadata.kind, metadata.name, metadata.version, metadata.abi.1
        ),
        tables: format!(
            "{tables_kind} {} {}, ABI 1.{}",
            root.name(),
            root.version(),
            root.abi_minor()
        ),
    })
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text.replace('\n', " ")
}

const _: () = assert!(ABI_MINOR == 0, "a newer minor: extend the evolution tests of the loader");
