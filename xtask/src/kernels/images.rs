//! Kernels to try: Debian's images for virtual machines, downloaded and unpacked, never installed.
//!
//! What must always be true: apt works on folders of its own here, with the archive's own keys, so that
//! neither this machine's sources nor its packages change. Called by the command.

use super::home;
use crate::process::must;
use crate::{Failure, install};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where the kernels come from, the oldest first: 6.1, 6.12 and the newest that Debian backports.
pub(super) const SUITES: [&str; 3] = ["bookworm", "bookworm-backports", "trixie-backports"];
/// The package that depends on the newest image of a suite.
const NEWEST: &str = "linux-image-cloud-amd64";
/// The folders whose modules are taken, and what their names contain.
const MODULES: [(&str, &[&str]); 2] = [
    ("/net/tls/", &["tls"]),
    (
        "/crypto/",
        &[
            "aes", "gcm", "ghash", "gf128", "ctr", "chacha", "poly1305", "cryptd", "simd", "seqiv",
            "geniv", "rng",
        ],
    ),
];
/// What a kernel's files may be spread over.
const PARTS: [&str; 3] = ["linux-image-", "linux-binary-", "linux-modules-"];
/// Packages of one kernel at most.
const PACKAGES_MAX: usize = 10;
/// One call of apt: some ten megabytes of lists, or fifty of packages.
const APT_LIMIT: Duration = Duration::from_secs(10 * 60);
/// Unpacking a package or a module.
const UNPACK_LIMIT: Duration = Duration::from_secs(5 * 60);

/// A kernel that can be booted.
pub(super) struct Image {
    /// The folder of its suite.
    pub(super) home: PathBuf,
    /// As the kernel's package calls it: `6.1.0-50-cloud-amd64`.
    pub(super) release: String,
    /// The compressed kernel.
    pub(super) vmlinuz: PathBuf,
    /// Kernel TLS, and the ciphers that it asks for.
    pub(super) modules: Vec<PathBuf>,
}

/// The newest kernel of a suite, from the archive unless it is here.
pub(super) fn get(suite: &str, refresh: bool) -> Result<Image, Failure> {
    let home = home(suite);
    let stamp = home.join("release.txt");
    let image = |release: String, modules| Image {
        vmlinuz: home.join("vmlinuz"),
        modules,
        home: home.clone(),
        release,
    };
    let folder = home.join("modules");
    if let (Ok(release), Ok(modules)) = (fs::read_to_string(&stamp), files(&folder))
        && !refresh
    {
        return Ok(image(release, modules));
    }
    let archive = archive()?;
    let apt =
        Apt::new(&home, &archive, suite).map_err(|error| format!("{}: {error}", home.display()))?;
    must("apt-get update", &mut apt.command("apt-get", &["update"]), APT_LIMIT)?;
    let packages = apt.packages()?;
    let mut download = apt.command("apt-get", &["download"]);
    download.args(&packages).current_dir(&apt.downloads);
    must("apt-get download", &mut download, APT_LIMIT)?;
    let release = unpack(&apt.downloads, &home)?;
    fs::write(&stamp, &release).map_err(|error| format!("{}: {error}", stamp.display()))?;
    let modules = files(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(image(release, modules))
}

/// Where this machine's own packages of Debian come from.
fn archive() -> Result<String, Failure> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI)"]);
    command.args(["Created-By: Packages", "Label: Debian"]);
    let said = must("apt-get indextargets", &mut command, APT_LIMIT)?;
    let first = said.lines.into_iter().find(|line| !line.is_empty());
    first.ok_or("apt knows no archive of Debian; name one in its sources and update".to_owned())
}

/// apt with folders of its own.
struct Apt {
    sources: PathBuf,
    state: PathBuf,
    downloads: PathBuf,
}

impl Apt {
    fn new(home: &Path, archive: &str, suite: &str) -> std::io::Result<Self> {
        let state = home.join("apt");
        let downloads = home.join("packages");
        for folder in [&state, &downloads] {
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
        }
        for folder in ["lists/partial", "cache/archives/partial", "parts"] {
            fs::create_dir_all(state.join(folder))?;
        }
        fs::create_dir_all(&downloads)?;
        fs::write(state.join("status"), "")?;
        let sources = state.join("sources.list");
        let keys = install::DEBIAN_KEYS.program;
        fs::write(&sources, format!("deb [signed-by={keys}] {archive} {suite} main\n"))?;
        Ok(Self { sources, state, downloads })
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        let mut set = |name: &str, value: &Path| {
            command.arg("-o").arg(format!("{name}={}", value.display()));
        };
        set("Dir::Etc::sourcelist", &self.sources);
        set("Dir::Etc::sourceparts", &self.state.join("parts"));
        set("Dir::State", &self.state);
        set("Dir::State::status", &self.state.join("status"));
        set("Dir::State::lists", &self.state.join("lists"));
        set("Dir::Cache", &self.state.join("cache"));
        command
            .args(["-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none"])
            .args(["-o", "APT::Architecture=amd64", "-o", "APT::Architectures=amd64"])
            .args(["-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false"])
            .args(args);
        command
    }

    /// The packages that the newest kernel is made of.
    fn packages(&self) -> Result<Vec<String>, Failure> {
        let mut packages = vec![NEWEST.to_owned()];
        let mut looked_at = 0;
        while let Some(package) = packages.get(looked_at).cloned() {
            looked_at += 1;
            let mut show = self.command("apt-cache", &["show", &package]);
            let shown = must("apt-cache show", &mut show, APT_LIMIT)?;
            for name in parts(&shown.lines) {
                if !packages.contains(&name) && packages.len() < PACKAGES_MAX {
                    packages.push(name);
                }
            }
        }
        Ok(packages)
    }
}

/// Names of a kernel's packages among those that a package depends on.
fn parts(control: &[String]) -> Vec<String> {
    let depends = control.iter().filter_map(|line| line.strip_prefix("Depends:"));
    depends
        .flat_map(|line| line.split([',', '|']))
        .filter_map(|entry| entry.split_whitespace().next())
        .filter(|name| PARTS.iter().any(|part| name.starts_with(part)))
        .map(str::to_owned)
        .collect()
}

/// Takes the kernel and its modules for TLS out of the packages; the kernel's release.
fn unpack(packages: &Path, home: &Path) -> Result<String, Failure> {
    let io = |error: std::io::Error| format!("{}: {error}", home.display());
    let root = packages.join("root");
    for package in files(packages).map_err(io)? {
        let mut command = Command::new("dpkg-deb");
        command.arg("--extract").arg(&package).arg(&root);
        must("dpkg-deb --extract", &mut command, UNPACK_LIMIT)?;
    }
    let all = files(&root).map_err(io)?;
    let named = |start: &str| {
        all.iter().find_map(|path| {
            let rest = path.file_name()?.to_str()?.strip_prefix(start)?;
            Some((path.as_path(), rest.to_owned()))
        })
    };
    let (vmlinuz, mut release) =
        named("vmlinuz").ok_or("the packages hold no kernel".to_owned())?;
    if release.is_empty() {
        // Newer packages keep it as modules/RELEASE/vmlinuz.
        let folder = vmlinuz.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        release = folder.unwrap_or_default().to_owned();
    }
    let release = release.trim_start_matches('-').to_owned();
    fs::copy(vmlinuz, home.join("vmlinuz")).map_err(io)?;
    let modules = home.join("modules");
    if modules.exists() {
        fs::remove_dir_all(&modules).map_err(io)?;
    }
    fs::create_dir_all(&modules).map_err(io)?;
    for module in all.iter().filter(|path| is_wanted(path)) {
        let name = module.file_name().ok_or("a module without a name".to_owned())?;
        fs::copy(module, modules.join(name)).map_err(io)?;
        if module.extension().is_some_and(|kind| kind == "xz") {
            let mut xz = Command::new("xz");
            xz.args(["--decompress", "--force"]).arg(modules.join(name));
            must("xz", &mut xz, UNPACK_LIMIT)?;
        }
    }
    if !modules.join("tls.ko").is_file() {
        return Err("the packages hold no tls.ko, or none that can be unpacked here".to_owned());
    }
    fs::remove_dir_all(packages).map_err(io)?;
    Ok(release)
}

/// Whether a file is a module that kernel TLS may ask for.
fn is_wanted(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.contains(".ko")
        && MODULES.iter().any(|(folder, parts)| {
            text.contains(folder) && parts.iter().any(|part| name.contains(part))
        })
}

/// All files below a folder; links are not followed.
fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packages_of_a_kernel_are_found_among_those_it_depends_on() {
        let lines = [
            "Package: linux-image-7.3.4+deb13-cloud-amd64".to_owned(),
            "Depends: dracut | linux-initramfs-tool, linux-binary-7.3.4+deb13-cloud-amd64 (= 7.3), \
             linux-modules-7.3.4+deb13-cloud-amd64 (= 7.3), linux-base-7.3.4 (= 7.3)"
                .to_owned(),
            "Suggests: linux-image-never".to_owned(),
        ];
        let wanted =
            ["linux-binary-7.3.4+deb13-cloud-amd64", "linux-modules-7.3.4+deb13-cloud-amd64"];
        assert_eq!(parts(&lines), wanted);
    }
}
