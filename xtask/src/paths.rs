//! Where things are: the checkout, the target directory, the built programs.
//! `CARGO_TARGET_DIR` is honoured everywhere, because every path is asked for here.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The checkout's top folder: that of the `cargo xtask` under way, else of the build.
pub(crate) fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let package = package.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        package.parent().expect("xtask/ stands in the checkout").to_path_buf()
    })
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => env::current_dir().unwrap_or_else(|_| root().to_path_buf()).join(dir),
        None => root().join("target"),
    }
}

/// Where `cargo build --release` puts programs and plugins.
pub(crate) fn release_dir() -> PathBuf {
    target_dir().join("release")
}

/// Where tools of the tests live (virtual environment, cargo-installed tools): never global.
pub(crate) fn tools_dir() -> PathBuf {
    target_dir().join("xtask")
}

/// Names of the plugins of this checkout: a release build leaves each as `lib<name>.so`.
pub(crate) fn plugins() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("plugins"))? {
        let entry = entry?;
        if entry.path().join("cdylib/Cargo.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
