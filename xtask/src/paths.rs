//! Where things are: the checkout, the target directory, the built programs.
//! `CARGO_TARGET_DIR` is honoured everywhere, because every path is asked for here.

use std::env;
use std::path::{Path, PathBuf};

/// The plugins that a release build leaves beside the host, as `lib<name>.so`.
pub(crate) const PLUGINS: [&str; 4] = ["resp", "memcache", "ping", "segcache"];

/// The checkout's top folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ stands in the checkout")
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
