//! Installing what tests and measurements need: Debian packages system-wide, Python packages into
//! a virtual environment under the target directory. A tool that cannot be had is a failure with
//! the cure in it, never a skipped test.

use crate::{Failure, paths, process, sys};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// One `apt-get` call, a slow mirror and another apt holding the lock included.
const APT_LIMIT: Duration = Duration::from_secs(15 * 60);
/// One `pip install` of the client libraries.
const PIP_LIMIT: Duration = Duration::from_secs(10 * 60);

/// A program and the Debian package that brings it.
#[derive(Clone, Copy)]
pub(crate) struct Tool {
    /// The program's name in `PATH`, or the whole path of a library's file.
    pub(crate) program: &'static str,
    /// The Debian package.
    pub(crate) package: &'static str,
}

/// redis-cli and redis-benchmark.
pub(crate) const REDIS_TOOLS: Tool = Tool { program: "redis-benchmark", package: "redis-tools" };
/// The server we compare RESP with.
pub(crate) const REDIS_SERVER: Tool = Tool { program: "redis-server", package: "redis-server" };
/// The server we compare memcache with.
pub(crate) const MEMCACHED: Tool = Tool { program: "memcached", package: "memcached" };
/// libmemcached's protocol conformance test, under the name Debian gives it.
pub(crate) const MEMCAPABLE: Tool = Tool { program: "memccapable", package: "libmemcached-tools" };
/// The kernel's profiler.
pub(crate) const PERF: Tool = Tool { program: "perf", package: "linux-perf" };
/// Puts TLS before a server that has none, for comparison.
pub(crate) const STUNNEL: Tool = Tool { program: "stunnel4", package: "stunnel4" };
/// Makes the certificate of that comparison.
pub(crate) const OPENSSL: Tool = Tool { program: "openssl", package: "openssl" };
/// Draws the dashboard that a flow looks at.
pub(crate) const CHROMIUM: Tool = Tool { program: "chromium", package: "chromium" };
/// Prometheus's own reader of alert rules and expressions.
pub(crate) const PROMTOOL: Tool = Tool { program: "promtool", package: "prometheus" };
/// twemproxy, which a flow puts before several hosts.
pub(crate) const NUTCRACKER: Tool = Tool { program: "nutcracker", package: "nutcracker" };
/// Runs dalli's flow.
pub(crate) const RUBY: Tool = Tool { program: "ruby", package: "ruby" };
/// The memcache client of Ruby programs.
pub(crate) const DALLI: Tool =
    Tool { program: "/var/lib/dpkg/info/ruby-dalli.list", package: "ruby-dalli" };
/// Runs gomemcache's flow.
pub(crate) const GO: Tool = Tool { program: "go", package: "golang-go" };
/// The memcache client of Go programs.
pub(crate) const GOMEMCACHE: Tool = Tool {
    program: "/usr/share/gocode/src/github.com/bradfitz/gomemcache/memcache/memcache.go",
    package: "golang-github-bradfitz-gomemcache-dev",
};
/// The Redis client of Go programs.
pub(crate) const GOREDIS: Tool = Tool {
    program: "/usr/share/gocode/src/gopkg.in/redis.v5/redis.go",
    package: "golang-gopkg-redis.v5-dev",
};
/// Runs spymemcached's flow; `java` compiles a single file by itself.
pub(crate) const JAVAC: Tool = Tool { program: "javac", package: "default-jdk-headless" };
/// The memcache client of Java programs.
pub(crate) const SPYMEMCACHED: Tool =
    Tool { program: "/usr/share/java/spymemcached.jar", package: "libspymemcached-java" };
/// Runs the flows of Node's clients.
pub(crate) const NODE: Tool = Tool { program: "node", package: "nodejs" };
/// Installs Node's clients.
const NPM: Tool = Tool { program: "npm", package: "npm" };
/// The clients of Node programs, one version of each.
const NODE_CLIENTS: [&str; 2] = ["ioredis@5.11.1", "redis@5.9.0"];
/// Packs Debian packages.
pub(crate) const DPKG_DEB: Tool = Tool { program: "dpkg-deb", package: "dpkg" };
/// Emulates the machines that other kernels run on.
pub(crate) const QEMU: Tool = Tool { program: "qemu-system-x86_64", package: "qemu-system-x86" };
/// What those machines have besides the host.
pub(crate) const BUSYBOX: Tool = Tool { program: "busybox", package: "busybox-static" };
/// Unpacks a kernel's modules.
pub(crate) const XZ: Tool = Tool { program: "xz", package: "xz-utils" };
/// The keys that vouch for Debian's packages.
pub(crate) const DEBIAN_KEYS: Tool = Tool {
    program: "/usr/share/keyrings/debian-archive-keyring.gpg",
    package: "debian-archive-keyring",
};
/// Says whether systemd takes a unit.
pub(crate) const SYSTEMD_ANALYZE: Tool = Tool { program: "systemd-analyze", package: "systemd" };
/// Gives a host a wall clock of its own.
pub(crate) const FAKETIME: Tool = Tool { program: "faketime", package: "faketime" };
/// Runs the client flows.
pub(crate) const PYTHON: Tool = Tool { program: "python3", package: "python3" };

/// Makes every named program available, or says which could not be had and what to do.
pub(crate) fn programs(tools: &[Tool]) -> Result<(), Failure> {
    let missing: Vec<Tool> =
        tools.iter().copied().filter(|tool| find(tool.program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    packages_install(&packages)?;
    match missing.iter().find(|tool| find(tool.program).is_none()) {
        Some(tool) => {
            Err(format!("{} is still missing after installing {}", tool.program, tool.package))
        }
        None => Ok(()),
    }
}

/// Where a program is: `PATH`, then the folders of system daemons. A whole path stands for itself.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

fn packages_install(packages: &[&str]) -> Result<(), Failure> {
    let list = packages.join(" ");
    let cure = format!("install by hand: apt-get install {list}");
    if find("apt-get").is_none() {
        return Err(format!("{list} missing and there is no apt-get here; {cure}"));
    }
    if !sys::is_root() && find("sudo").is_none() {
        return Err(format!("{list} missing, not root and no sudo; {cure}"));
    }
    println!("xtask: installing {list}");
    let outcome = apt(&["update"])
        .and_then(|()| apt(&[&["install", "-y", "--no-install-recommends"], packages].concat()))
        .and_then(|()| stop_daemons(packages));
    outcome.map_err(|sentence| format!("{sentence}\n{cure}"))
}

fn apt(args: &[&str]) -> Result<(), Failure> {
    // RUNLEVEL=1 keeps init scripts from starting the daemons whose ports are ours to serve on.
    let mut command = as_root(&["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get"]);
    command.args(["-q", "-o", "DPkg::Lock::Timeout=300"]).args(args);
    process::must(&format!("apt-get {}", args[0]), &mut command, APT_LIMIT).map(drop)
}

/// systemd does not ask for the run level: what a fresh package started there is stopped again.
fn stop_daemons(packages: &[&str]) -> Result<(), Failure> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Ok(());
    }
    let daemons = ["redis-server", "memcached", "nutcracker", "prometheus"];
    for unit in packages.iter().filter(|name| daemons.contains(name)) {
        let mut command = as_root(&["systemctl", "disable", "--now", unit]);
        process::must("systemctl disable", &mut command, Duration::from_secs(60))?;
    }
    Ok(())
}

fn as_root(words: &[&str]) -> Command {
    let sudo: &[&str] = if sys::is_root() { &[] } else { &["sudo", "-n"] };
    let words = [sudo, words].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// The Python of a virtual environment that holds what `tests/clients/requirements.txt` names.
/// Made once; made again when the requirements change.
pub(crate) fn client_python() -> Result<PathBuf, Failure> {
    let wanted_file = paths::root().join("tests/clients/requirements.txt");
    let wanted = fs::read_to_string(&wanted_file)
        .map_err(|error| format!("cannot read {}: {error}", wanted_file.display()))?;
    let venv = paths::tools_dir().join("clients");
    let python = venv.join("bin/python");
    let stamp = venv.join("installed.txt");
    if python.is_file() && fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(python);
    }
    programs(&[PYTHON])?;
    if !has_venv_module()? {
        packages_install(&["python3-venv"])?;
    }
    let mut make = Command::new(find("python3").ok_or("python3 is missing")?);
    make.args(["-m", "venv", "--clear"]).arg(&venv);
    process::must("python3 -m venv", &mut make, PIP_LIMIT)?;
    println!("xtask: installing the Python clients");
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(&wanted_file);
    process::must("pip install", &mut pip, PIP_LIMIT)?;
    fs::write(&stamp, wanted)
        .map_err(|error| format!("cannot write {}: {error}", stamp.display()))?;
    Ok(python)
}

/// Where Node finds the packages that flows use. Made once for each version.
pub(crate) fn node_modules() -> Result<PathBuf, Failure> {
    let home = paths::tools_dir().join(NODE_CLIENTS.join("-").replace('@', "-"));
    let modules = home.join("node_modules");
    if ["ioredis", "redis"].iter().all(|name| modules.join(name).join("package.json").is_file()) {
        return Ok(modules);
    }
    programs(&[NODE, NPM])?;
    println!("xtask: installing {}", NODE_CLIENTS.join(" and "));
    let mut npm = Command::new(find("npm").ok_or("npm is missing")?);
    npm.args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"])
        .arg(&home)
        .args(NODE_CLIENTS);
    process::must("npm install", &mut npm, PIP_LIMIT)?;
    Ok(modules)
}

/// The program that uses Momento's Rust SDK, built apart from the workspace: some 200 crates, a
/// minute of CPU when cold.
pub(crate) fn momento_rust() -> Result<PathBuf, Failure> {
    let home = paths::tools_dir().join("momento-rust");
    println!("xtask: building the client of Momento's Rust SDK");
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--locked", "--quiet", "--manifest-path"])
        .arg(paths::root().join("tests/clients/momento-rust/Cargo.toml"))
        .env("CARGO_TARGET_DIR", &home);
    process::must("cargo build", &mut cargo, Duration::from_secs(20 * 60))?;
    Ok(home.join("debug/momento-rust-flow"))
}

fn has_venv_module() -> Result<bool, Failure> {
    let mut probe = Command::new(find("python3").ok_or("python3 is missing")?);
    probe.args(["-c", "import venv, ensurepip"]);
    process::run("python3", &mut probe, Duration::from_secs(60), false).map(|ended| ended.success)
}

/// A program from crates.io, installed under the target directory if it is nowhere else.
pub(crate) fn cargo_tool(program: &str, package: &str) -> Result<PathBuf, Failure> {
    let home = paths::tools_dir().join("cargo");
    let ours = home.join("bin").join(program);
    if ours.is_file() {
        return Ok(ours);
    }
    if let Some(found) = find(program) {
        return Ok(found);
    }
    println!("xtask: installing {package}");
    let mut cargo = Command::new("cargo");
    cargo.args(["install", "--locked", "--root"]).arg(&home).arg(package);
    process::must("cargo install", &mut cargo, Duration::from_secs(20 * 60))?;
    Ok(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_path_and_a_missing_one_is_not() {
        assert!(find("sh").is_some());
        assert!(find("a-program-that-nobody-has").is_none());
        assert!(find("/bin/sh").is_some() && find("/no/such/library.jar").is_none());
    }

    #[test]
    fn the_readme_names_every_package_that_is_installed() {
        let readme = std::fs::read_to_string(paths::root().join("README.md")).expect("the README");
        let named: Vec<&str> =
            readme.split(|c: char| c.is_whitespace() || "(),;`".contains(c)).collect();
        let source = include_str!("install.rs");
        // Put together, so that this line is not one of them.
        let field = ["package:", " \""].concat();
        let packages: Vec<&str> =
            source.split(&field).skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(packages.len() > 10, "tools were found: {packages:?}");
        for package in packages {
            assert!(named.contains(&package), "README.md does not name {package}");
        }
    }
}
