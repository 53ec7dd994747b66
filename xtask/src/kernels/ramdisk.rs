//! The RAM disk that an emulated machine starts from: busybox, the release build, the libraries of
//! both, and xtask itself as the guest's program; an archive in cpio's `newc` form.
//!
//! What must always be true: nothing in it is older than the build it was made from, for it is made anew
//! for every boot. Called by the command.

use super::images::Image;
use crate::{Failure, install, paths};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Asking the loader about one program.
const LDD_LIMIT: Duration = Duration::from_secs(60);
/// What the guest serves with.
const PLUGINS: [&str; 3] = ["libresp.so", "libmemcache.so", "libsegcache.so"];
/// Mounts what programs expect, then leaves the rest to [`guest`](super::guest). The machine ends
/// with the script, whatever becomes of it.
const INIT: &str = "#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
$b mount -t tmpfs tmp /tmp
$b ip link set lo up
ulimit -n 65536
/app/xtask guest
$b poweroff -f
";

/// Writes the archive.
pub(super) fn write(to: &Path, image: &Image) -> Result<(), Failure> {
    let busybox = install::find("busybox").ok_or("busybox is missing")?;
    let us = std::env::current_exe().map_err(|error| format!("xtask's own file: {error}"))?;
    let release = paths::release_dir();
    let mut programs = vec![
        (busybox, "bin/busybox".to_owned()),
        (us, "app/xtask".to_owned()),
        (release.join("crucible-host"), "app/crucible-host".to_owned()),
    ];
    programs.extend(PLUGINS.map(|name| (release.join(name), format!("app/{name}"))));
    let mut libraries = BTreeSet::new();
    for (program, _) in &programs {
        libraries.extend(needed(program)?);
    }
    let fail = |error: io::Error| format!("{}: {error}", to.display());
    let file = File::create(to).map_err(fail)?;
    let mut archive = Archive::new(BufWriter::new(file));
    let mut fill = || -> io::Result<()> {
        archive.text("init", INIT)?;
        for folder in ["proc", "sys", "dev", "tmp"] {
            archive.folder(folder)?;
        }
        for module in &image.modules {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            archive.file(&format!("modules/{name}"), module)?;
        }
        for (from, to) in &programs {
            archive.file(to, from)?;
        }
        for library in &libraries {
            archive.file(&library.to_string_lossy()[1..], library)?;
        }
        archive.end()
    };
    fill().map_err(fail)
}

/// The libraries and the loader that a program needs, by the paths it asks for.
fn needed(program: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut ldd = Command::new("ldd");
    ldd.arg(program);
    let ended = crate::process::run("ldd", &mut ldd, LDD_LIMIT, false)?;
    if !ended.success {
        let said = ended.lines.join(" ");
        if said.contains("not a dynamic executable") {
            return Ok(Vec::new());
        }
        return Err(format!("{}: {said}", program.display()));
    }
    ended.lines.iter().filter(|line| !line.contains("statically linked")).try_fold(
        Vec::new(),
        |mut found, line| {
            if line.contains("not found") {
                return Err(format!("{}: {}", program.display(), line.trim()));
            }
            found.extend(path_in(line));
            Ok(found)
        },
    )
}

/// The file in a line of ldd: `name => /path (address)` or `/path (address)`.
fn path_in(line: &str) -> Option<PathBuf> {
    line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from)
}

/// Writes entries one after another: a header of hexadecimal numbers, the name, the bytes, each
/// filled up to four bytes.
struct Archive<W> {
    out: W,
    entries: u32,
    folders: BTreeSet<String>,
}

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

impl<W: Write> Archive<W> {
    fn new(out: W) -> Self {
        Self { out, entries: 0, folders: BTreeSet::new() }
    }

    fn header(&mut self, name: &str, mode: u32, len: u32) -> io::Result<()> {
        self.entries += 1;
        let name_len = name.len() as u32 + 1;
        // inode, mode, user, group, links, time, length, four device numbers, name's length, checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, len, 0, 0, 0, 0, name_len, 0];
        write!(self.out, "070701")?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(6 + 8 * fields.len() + name.len() + 1)
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.out.write_all(&[0; 3][..written.next_multiple_of(4) - written])
    }

    /// A folder, after those above it.
    fn folder(&mut self, name: &str) -> io::Result<()> {
        if let Some((above, _)) = name.rsplit_once('/') {
            self.folder(above)?;
        }
        if self.folders.insert(name.to_owned()) {
            self.header(name, FOLDER, 0)?;
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if let Some((folder, _)) = name.rsplit_once('/') {
            self.folder(folder)?;
        }
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.header(name, PROGRAM, len)?;
        self.out.write_all(bytes)?;
        self.pad(bytes.len())
    }

    fn text(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.entry(name, text.as_bytes())
    }

    fn file(&mut self, name: &str, from: &Path) -> io::Result<()> {
        let mut bytes = Vec::new();
        let open = File::open(from).and_then(|mut file| file.read_to_end(&mut bytes));
        open.map_err(|error| io::Error::other(format!("{}: {error}", from.display())))?;
        self.entry(name, &bytes)
    }

    fn end(&mut self) -> io::Result<()> {
        self.header("TRAILER!!!", 0, 0)?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_each_folder_once_before_what_is_in_it_and_everything_on_fours() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.text("a/b/one", "12345").expect("memory");
        archive.text("a/b/two", "").expect("memory");
        archive.end().expect("memory");
        let mut names = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            assert_eq!(&rest[..6], b"070701");
            let field = |number: usize| {
                let digits = &rest[6 + 8 * number..][..8];
                usize::from_str_radix(std::str::from_utf8(digits).expect("text"), 16)
                    .expect("a number")
            };
            let (len, name_len) = (field(6), field(11));
            names.push(String::from_utf8_lossy(&rest[110..110 + name_len - 1]).into_owned());
            let data = (110 + name_len).next_multiple_of(4);
            assert!(&rest[data..data + len] == b"12345" || len == 0);
            rest = &rest[(data + len).next_multiple_of(4)..];
        }
        assert_eq!(names, ["a", "a/b", "a/b/one", "a/b/two", "TRAILER!!!"]);
    }

    #[test]
    fn libraries_are_taken_from_where_the_loader_finds_them() {
        let lines = [
            "\tlinux-vdso.so.1 (0x00007fd661567000)",
            "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007fd660c1e000)",
            "\t/lib64/ld-linux-x86-64.so.2 (0x00007fd661569000)",
        ];
        let found: Vec<PathBuf> = lines.iter().filter_map(|line| path_in(line)).collect();
        let wanted = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(found, wanted.map(PathBuf::from));
    }
}
