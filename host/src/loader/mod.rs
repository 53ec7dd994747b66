//! Finding and loading plugins.
//!
//! ```text
//!  name or file -> path -> ELF record read, judged   (no plugin code has run)
//!                       -> dlopen NOW|LOCAL|NODELETE -> root symbol -> header
//!                       -> layout compared, the older side against the newer
//!                       -> root -> cross-checked with the record
//! ```
//! What must always be true: nothing of a plugin runs before its record was
//! found good; a loaded library is never unloaded; every refusal is one
//! sentence. Called by `start` and by the `plugin` commands.

pub mod builtin;
pub mod elf;
mod open;

use std::path::{Path, PathBuf};

use crucible_plugin_api::abi::tables::{ABI_MAJOR, ABI_MINOR, Plugin_Ref};
use crucible_plugin_api::metadata::{Kind, Metadata};

use crate::config::Plugins;
use elf::Record;

/// Where a plugin came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// Linked into this program.
    Builtin,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Builtin => f.write_str("built in"),
        }
    }
}

/// A plugin that is loaded for good.
#[derive(Clone)]
pub struct Loaded {
    /// Its own account of itself.
    pub metadata: Metadata,
    /// Where it came from.
    pub origin: Origin,
    /// Its tables.
    pub root: Plugin_Ref,
    /// The file's state when it was read; `None` when it is built in.
    pub stamp: Option<Stamp>,
}

/// Tells whether a file is another one than it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified_ns: i128,
}

impl Stamp {
    /// Of a file as it is now.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let file = std::fs::metadata(path)?;
        Ok(Self {
            device: file.dev(),
            inode: file.ino(),
            len: file.len(),
            modified_ns: i128::from(file.mtime()) * 1_000_000_000 + i128::from(file.mtime_nsec()),
        })
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded")
            .field("metadata", &self.metadata)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// Why a plugin was not loaded: one sentence each.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No such file in any folder.
    #[error(
        "no plugin {name}: looked for {file} in {}; use --plugin-dir or give the file's path",
        list(searched)
    )]
    NotFound {
        /// As written.
        name: String,
        /// The file's name.
        file: String,
        /// Folders searched.
        searched: Vec<PathBuf>,
    },
    /// The file cannot be read.
    #[error("cannot read plugin {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// Anybody may change the file.
    #[error("plugin {} can be written by everybody, so anybody could run code in this process; run chmod o-w on it", path.display())]
    WorldWritable {
        /// The file.
        path: PathBuf,
    },
    /// The file is no plugin.
    #[error("{} is not a Crucible plugin: {reason}", path.display())]
    NotAPlugin {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Built for another processor.
    #[error("plugin {} is built for {theirs}, this host runs on {ours}; rebuild it for {ours}", path.display())]
    Architecture {
        /// The file.
        path: PathBuf,
        /// The file's.
        theirs: String,
        /// Ours.
        ours: &'static str,
    },
    /// Built for another major version of the boundary.
    #[error("plugin {} is built for plugin ABI {}.{}, this host provides {ABI_MAJOR}.{ABI_MINOR}; {}", path.display(), abi.0, abi.1, if abi.0 > ABI_MAJOR { "upgrade crucible-host" } else { "rebuild the plugin with a current crucible-plugin-api" })]
    AbiMajor {
        /// The file.
        path: PathBuf,
        /// Its ABI.
        abi: (u32, u32),
    },
    /// Needs a newer host.
    #[error("plugin {} needs a host with plugin ABI {ABI_MAJOR}.{needs}, this host provides {ABI_MAJOR}.{ABI_MINOR}; upgrade crucible-host", path.display())]
    HostTooOld {
        /// The file.
        path: PathBuf,
        /// The least minor it runs with.
        needs: u32,
    },
    /// Aborts on panic.
    #[error("plugin {} is built with panic = \"abort\", so a bug in it would end the whole process; rebuild it with panic = \"unwind\", or set plugins.allow_abort = true", path.display())]
    Aborts {
        /// The file.
        path: PathBuf,
    },
    /// The dynamic linker refused.
    #[error("cannot load plugin {}: {reason}{}", path.display(), if *static_tls { "; it uses static thread-local storage (DF_STATIC_TLS), of which a process has little: build it without a global allocator of its own" } else { "" })]
    Linker {
        /// The file.
        path: PathBuf,
        /// The linker's words.
        reason: String,
        /// The file asks for static thread-local storage.
        static_tls: bool,
    },
    /// The data layout differs.
    #[error("plugin {} does not fit this host: its data layout differs from that of crucible-plugin-api {host}; rebuild it with that version ({lines} lines of detail {})", path.display(), report.as_ref().map_or("with plugins.layout_report = FILE".to_owned(), |p| format!("in {}", p.display())))]
    Layout {
        /// The file.
        path: PathBuf,
        /// Version of our boundary.
        host: &'static str,
        /// Length of the report.
        lines: usize,
        /// Where the report is.
        report: Option<PathBuf>,
    },
    /// The plugin's constructor failed.
    #[error("plugin {} could not make its tables: {reason}", path.display())]
    Constructor {
        /// The file.
        path: PathBuf,
        /// What it says.
        reason: String,
    },
    /// The record and the tables contradict each other.
    #[error("plugin {} contradicts itself: its record says {record}, its tables say {tables}", path.display())]
    Lies {
        /// The file.
        path: PathBuf,
        /// From the ELF section.
        record: String,
        /// From the root.
        tables: String,
    },
    /// A protocol where a store is wanted, or the reverse.
    #[error("plugin {name} ({origin}) is a {found}, but {place} needs a {wanted}")]
    WrongKind {
        /// Its name.
        name: String,
        /// Where it came from.
        origin: Origin,
        /// What it is.
        found: Kind,
        /// What it should be.
        wanted: Kind,
        /// Who wants it.
        place: String,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let each: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
    each.join(", ")
}

/// Finds and loads plugins; each file once.
#[derive(Debug)]
pub struct Loader {
    dirs: Vec<PathBuf>,
    layout_report: Option<PathBuf>,
    allow_abort: bool,
    loaded: Vec<Loaded>,
}

impl Loader {
    /// A loader that searches the configured folders, then
    /// `CRUCIBLE_PLUGIN_PATH`, the program's folder, and the system's.
    #[must_use]
    pub fn new(settings: &Plugins) -> Self {
        let mut dirs = settings.dirs.clone();
        if let Some(paths) = std::env::var_os("CRUCIBLE_PLUGIN_PATH") {
            dirs.extend(std::env::split_paths(&paths).filter(|p| !p.as_os_str().is_empty()));
        }
        if let Ok(program) = std::env::current_exe()
            && let Some(folder) = program.parent()
        {
            dirs.push(folder.to_owned());
            if let Some(prefix) = folder.parent() {
                dirs.push(prefix.join("lib/crucible"));
            }
        }
        dirs.push("/usr/lib/crucible".into());
        let mut unique = Vec::new();
        for dir in dirs {
            if !unique.contains(&dir) {
                unique.push(dir);
            }
        }
        Self {
            dirs: unique,
            layout_report: settings.layout_report.clone(),
            allow_abort: settings.allow_abort,
            loaded: Vec::new(),
        }
    }

    /// Folders in the order of searching.
    #[must_use]
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// Everything loaded so far.
    #[must_use]
    pub fn loaded(&self) -> &[Loaded] {
        &self.loaded
    }

    /// Finds the file of a plugin: a path is taken as it is, a name is searched.
    ///
    /// # Errors
    /// [`LoadError::NotFound`] with the folders that were searched.
    pub fn find(&self, name: &str) -> Result<PathBuf, LoadError> {
        if name.contains('/') {
            return Ok(name.into());
        }
        let is_file = name.ends_with(".so");
        let file = if is_file { name.to_owned() } else { format!("lib{name}.so") };
        if is_file && Path::new(name).is_file() {
            return Ok(Path::new(".").join(name));
        }
        let found = self.dirs.iter().map(|dir| dir.join(&file)).find(|path| path.is_file());
        found.ok_or_else(|| LoadError::NotFound {
            name: name.to_owned(),
            file,
            searched: self.dirs.clone(),
        })
    }

    /// Loads a plugin by name or file, or gives it again.
    ///
    /// # Errors
    /// Why it is not fit to run here.
    pub fn load(&mut self, name: &str) -> Result<Loaded, LoadError> {
        if let Some(builtin) = builtin::find(name) {
            return Ok(builtin);
        }
        let path = self.find(name)?;
        if let Some(again) = self.loaded.iter().find(|l| l.origin == Origin::File(path.clone())) {
            return Ok(again.clone());
        }
        let loaded = self.load_file(&path)?;
        self.loaded.push(loaded.clone());
        Ok(loaded)
    }

    /// Loads a plugin and insists on its kind.
    ///
    /// # Errors
    /// As [`Loader::load`], and [`LoadError::WrongKind`].
    pub fn load_kind(
        &mut self,
        name: &str,
        wanted: Kind,
        place: &str,
    ) -> Result<Loaded, LoadError> {
        let loaded = self.load(name)?;
        if loaded.metadata.kind == wanted {
            return Ok(loaded);
        }
        Err(LoadError::WrongKind {
            name: loaded.metadata.name,
            origin: loaded.origin,
            found: loaded.metadata.kind,
            wanted,
            place: place.to_owned(),
        })
    }

    /// Loads a file once more, from a copy: the dynamic linker would give an
    /// earlier mapping of the same name again.
    ///
    /// # Errors
    /// As [`Loader::load`].
    pub fn load_copy(&self, path: &Path) -> Result<Loaded, LoadError> {
        self.load_from(path, true)
    }

    fn load_file(&self, path: &Path) -> Result<Loaded, LoadError> {
        self.load_from(path, false)
    }

    fn load_from(&self, path: &Path, copied: bool) -> Result<Loaded, LoadError> {
        let unreadable = |source| LoadError::Unreadable { path: path.to_owned(), source };
        let stamp = Stamp::of(path).map_err(unreadable)?;
        let record = elf::read(path)?;
        judge(path, &record, self.allow_abort)?;
        let mapped = if copied { open::copy(path) } else { path.canonicalize() };
        let mapped = mapped.map_err(unreadable)?;
        let root = open::open(path, &mapped, &record, self.layout_report.as_deref())?;
        Ok(Loaded {
            metadata: record.metadata,
            origin: Origin::File(path.to_owned()),
            root,
            stamp: Some(stamp),
        })
    }
}

/// Whether a file's record allows to load it here.
///
/// # Errors
/// The first reason against it.
pub fn judge(path: &Path, record: &Record, allow_abort: bool) -> Result<(), LoadError> {
    let path = || path.to_owned();
    if record.machine != elf::OUR_MACHINE {
        let theirs = record.machine.clone();
        return Err(LoadError::Architecture { path: path(), theirs, ours: elf::OUR_MACHINE });
    }
    if record.world_writable {
        return Err(LoadError::WorldWritable { path: path() });
    }
    let metadata = &record.metadata;
    if metadata.abi.0 != ABI_MAJOR {
        return Err(LoadError::AbiMajor { path: path(), abi: metadata.abi });
    }
    if metadata.min_host_minor > ABI_MINOR {
        return Err(LoadError::HostTooOld { path: path(), needs: metadata.min_host_minor });
    }
    if !metadata.unwinds && !allow_abort {
        return Err(LoadError::Aborts { path: path() });
    }
    Ok(())
}
