//! What an ELF file says of itself, read without loading it.
//!
//! What must always be true: nothing of the file is executed, and a file of any
//! content gets a verdict. Called by the loader and by `plugin list|inspect`.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crucible_plugin_api::metadata::{Metadata, SECTION};
use object::elf::{DF_STATIC_TLS, DT_FLAGS};
use object::read::elf::{Dyn, FileHeader, SectionHeader};
use object::{Architecture, Object, ObjectKind, ObjectSection};

use super::LoadError;

/// The processor of this program.
pub const OUR_MACHINE: &str = std::env::consts::ARCH;

/// Files larger than this are not read: a plugin with debug information is
/// some 10 MB.
pub const FILE_LEN_MAX: u64 = 1 << 30;

/// What a plugin's file says.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its account of itself.
    pub metadata: Metadata,
    /// Processor, as `std::env::consts::ARCH` names it.
    pub machine: String,
    /// Asks for static thread-local storage.
    pub static_tls: bool,
    /// Anybody may write to the file.
    pub world_writable: bool,
    /// Bytes.
    pub file_len: u64,
}

/// Reads a file's record.
///
/// # Errors
/// When it cannot be read, or is no plugin.
pub fn read(path: &Path) -> Result<Record, LoadError> {
    let unreadable = |source| LoadError::Unreadable { path: path.to_owned(), source };
    let not = |reason: String| LoadError::NotAPlugin { path: path.to_owned(), reason };
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err(not("it is not a regular file".into()));
    }
    if about.len() > FILE_LEN_MAX {
        return Err(not(format!("it is {} bytes long", about.len())));
    }
    let mut bytes = Vec::with_capacity(about.size() as usize);
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    let mut record = parse(&bytes).map_err(not)?;
    record.world_writable = about.permissions().mode() & 0o002 != 0;
    Ok(record)
}

fn parse(bytes: &[u8]) -> Result<Record, String> {
    if !bytes.starts_with(b"\x7fELF") {
        return Err("it is not an ELF file".into());
    }
    let file =
        object::File::parse(bytes).map_err(|e| format!("its ELF structure is broken ({e})"))?;
    if file.kind() != ObjectKind::Dynamic {
        return Err("it is not a shared library".into());
    }
    let section = file.section_by_name(SECTION).ok_or_else(|| {
        format!("it has no {SECTION} section; build it with export_protocol! or export_backend!")
    })?;
    let data = section.data().map_err(|e| format!("its {SECTION} section is broken ({e})"))?;
    let metadata = Metadata::parse(data).map_err(|e| e.to_string())?;
    Ok(Record {
        metadata,
        machine: machine(file.architecture()),
        static_tls: static_tls(bytes),
        world_writable: false,
        file_len: bytes.len() as u64,
    })
}

fn machine(architecture: Architecture) -> String {
    match architecture {
        Architecture::X86_64 => "x86_64".into(),
        Architecture::Aarch64 => "aarch64".into(),
        Architecture::I386 => "x86".into(),
        Architecture::Arm => "arm".into(),
        Architecture::Riscv64 => "riscv64".into(),
        Architecture::PowerPc64 => "powerpc64".into(),
        Architecture::S390x => "s390x".into(),
        other => format!("{other:?}").to_ascii_lowercase(),
    }
}

/// Whether DT_FLAGS has DF_STATIC_TLS. A file that cannot be walked has not.
fn static_tls(bytes: &[u8]) -> bool {
    let walk = || -> object::read::Result<bool> {
        let header = object::elf::FileHeader64::<object::Endianness>::parse(bytes)?;
        let endian = header.endian()?;
        for section in header.section_headers(endian, bytes)? {
            let Some((entries, _)) = section.dynamic(endian, bytes)? else { continue };
            for entry in entries {
                if entry.d_tag(endian) == DT_FLAGS as _
                    && entry.d_val(endian) & DF_STATIC_TLS.0 != 0
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    };
    walk().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_any_content_get_a_verdict() {
        assert_eq!(parse(b"").unwrap_err(), "it is not an ELF file");
        assert_eq!(parse(b"#!/bin/sh\n").unwrap_err(), "it is not an ELF file");
        assert!(parse(b"\x7fELF").unwrap_err().starts_with("its ELF structure is broken"));
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let error = parse(&program).unwrap_err();
        assert!(error.contains("no .crucible.plugin section"), "{error}");
        // Every prefix of a real file, in steps: an answer, never a panic.
        for len in (0..program.len().min(1 << 20)).step_by(1 + program.len() / 97) {
            let _verdict = parse(&program[..len]);
        }
    }
}
