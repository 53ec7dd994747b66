//! `cargo xtask kernels`: serve on other kernels than the one this runs on.
//!
//! ```text
//!  Debian's archive ─► images: vmlinuz, modules ─┐
//!  release build ─► ramdisk: host, plugins, us ──┴─► machine: emulated ─► guest: requests, checks
//! ```
//! Each kernel is started under qemu without hardware virtualisation, from a RAM disk that holds the
//! release build; nothing of this machine is changed but for the packages of qemu and busybox. What must
//! always be true: a kernel counts as passed only when the guest has said so in its last line. Called by
//! people: it takes some minutes of emulation, so it is no part of `cargo xtask test`.

pub(crate) mod guest;
mod images;
mod ktls;
mod machine;
mod ramdisk;

use crate::{Failure, install, paths, run};
use std::path::PathBuf;

/// What `kernels` was asked.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Serve what is built already.
    #[arg(long)]
    no_build: bool,
    /// Only the kernels of these suites of Debian's archive (comma-separated).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Ask the archive for newer images of kernels that are here already.
    #[arg(long)]
    refresh: bool,
}

/// Builds, gets the kernels and tries each of them.
pub(crate) fn kernels(args: &Args) -> Result<(), Failure> {
    if !cfg!(target_arch = "x86_64") {
        return Err("kernels: the images that are tried are those of x86-64".to_owned());
    }
    install::programs(&[
        install::QEMU,
        install::BUSYBOX,
        install::DPKG_DEB,
        install::XZ,
        install::DEBIAN_KEYS,
    ])?;
    if !args.no_build {
        run::build_release()?;
    }
    let suites: Vec<&str> = images::SUITES
        .into_iter()
        .filter(|suite| args.only.is_empty() || args.only.iter().any(|only| only == suite))
        .collect();
    if suites.is_empty() {
        return Err(format!("--only names none of {}", images::SUITES.join(", ")));
    }
    let mut failures = Vec::new();
    for suite in suites {
        match attempt(suite, args.refresh) {
            Ok(line) => println!("kernels: {line}"),
            Err(sentence) => {
                println!("kernels: {suite} FAILED: {sentence}");
                failures.push(suite);
            }
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(format!("the kernels of {} failed", failures.join(", ")))
}

/// Boots the kernel of one suite; what passed, in a line.
fn attempt(suite: &str, refresh: bool) -> Result<String, Failure> {
    let image = images::get(suite, refresh)?;
    println!("kernels: {suite}: Linux {}", image.release);
    let ramdisk = image.home.join("ramdisk.cpio");
    ramdisk::write(&ramdisk, &image)?;
    let verdict = machine::boot(&image, &ramdisk);
    // A hundred megabytes that are made anew the next time.
    std::fs::remove_file(&ramdisk).map_err(|error| format!("{}: {error}", ramdisk.display()))?;
    let verdict = verdict?;
    Ok(format!("Linux {}: {verdict}", image.release))
}

/// Where everything of one suite is kept.
fn home(suite: &str) -> PathBuf {
    paths::tools_dir().join("kernels").join(suite)
}
