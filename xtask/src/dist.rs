//! `cargo xtask dist`: a Debian package and a tarball of a release build, with man pages, shell
//! completions, the systemd unit and the default configuration.
//! `--check` unpacks the package, serves from it and verifies the unit, as the test suite does.
//!
//! The package is laid out and packed with dpkg-deb itself: its layout is a dozen files, and a
//! packaging tool from crates.io would take longer to build than Crucible's host.

use crate::{Failure, install, paths, process, run};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// One run of a packaging tool.
const TOOL_LIMIT: Duration = Duration::from_secs(120);
/// How long the unpacked host may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// What `dist` was asked.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Unpack the package, serve from it, verify the systemd unit.
    #[arg(long)]
    check: bool,
}

/// Builds, packs, prints what was made.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    run::build_release()?;
    let made = make()?;
    for file in &made {
        println!("{}", file.display());
    }
    if args.check { check(&made[0]).map(|_| ()) } else { Ok(()) }
}

/// Packs the release build that is there: the package, the tarball.
pub(crate) fn make() -> Result<Vec<PathBuf>, Failure> {
    install::programs(&[install::DPKG_DEB])?;
    let dist = paths::target_dir().join("dist");
    let tree = dist.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).map_err(at(&tree))?;
    }
    let version = env!("CARGO_PKG_VERSION");
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let release = paths::release_dir();
    for program in ["crucible-host", "crucible-benchmark"] {
        copy(&release.join(program), &tree.join("usr/bin").join(program), 0o755)?;
    }
    for plugin in paths::plugins().map_err(at(&release))? {
        let file = format!("lib{plugin}.so");
        copy(&release.join(&file), &tree.join("usr/lib/crucible").join(&file), 0o644)?;
    }
    let root = paths::root();
    copy(
        &root.join("contrib/systemd/crucible.service"),
        &tree.join("lib/systemd/system/crucible.service"),
        0o644,
    )?;
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        copy(&root.join(licence), &tree.join("usr/share/doc/crucible").join(licence), 0o644)?;
    }
    manuals(&release, &dist, &tree)?;
    let host = release.join("crucible-host");
    let mut print = Command::new(&host);
    print.arg("--print-config");
    let config = process::must("crucible-host --print-config", &mut print, TOOL_LIMIT)?;
    put(&tree.join("etc/crucible/crucible.toml"), (config.lines.join("\n") + "\n").as_bytes())?;
    control(&tree, version, arch)?;
    let package = dist.join(format!("crucible_{version}_{arch}.deb"));
    let mut pack = Command::new("dpkg-deb");
    pack.args(["--root-owner-group", "-Zgzip", "--build"]).arg(&tree).arg(&package);
    process::must("dpkg-deb --build", &mut pack, TOOL_LIMIT)?;
    let tarball = dist.join(format!("crucible-{version}-{arch}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.arg("-czf").arg(&tarball).args(["--owner=0", "--group=0", "--exclude=./DEBIAN", "-C"]);
    tar.arg(&tree).arg(".");
    process::must("tar", &mut tar, TOOL_LIMIT)?;
    Ok(vec![package, tarball])
}

/// Man pages and completions, from the programs' own definitions of their command lines.
fn manuals(release: &Path, dist: &Path, tree: &Path) -> Result<(), Failure> {
    for program in ["crucible-host", "crucible-benchmark"] {
        let out = dist.join("manual").join(program);
        let mut write = Command::new(release.join(program));
        write.arg("manual").arg(&out);
        process::must(&format!("{program} manual"), &mut write, TOOL_LIMIT)?;
        for page in files(&out.join("man1"))? {
            let target = tree.join("usr/share/man/man1").join(name_of(&page));
            copy(&page, &target, 0o644)?;
            let mut gzip = Command::new("gzip");
            gzip.args(["-9", "-n", "-f"]).arg(&target);
            process::must("gzip", &mut gzip, TOOL_LIMIT)?;
        }
        for (file, target) in [
            (format!("{program}.bash"), format!("bash-completion/completions/{program}")),
            (format!("_{program}"), format!("zsh/vendor-completions/_{program}")),
            (format!("{program}.fish"), format!("fish/vendor_completions.d/{program}.fish")),
        ] {
            let from = out.join("completions").join(file);
            copy(&from, &tree.join("usr/share").join(target), 0o644)?;
        }
    }
    Ok(())
}

/// The package's own description.
fn control(tree: &Path, version: &str, arch: &str) -> Result<(), Failure> {
    let control = format!(
        "Package: crucible\nVersion: {version}\nArchitecture: {arch}\n\
         Maintainer: The Crucible developers\nSection: database\nPriority: optional\n\
         Depends: libc6 (>= 2.34), libgcc-s1\nSuggests: redis-tools\n\
         Description: cache server made of plugins\n \
         Serves RESP and memcache over several stores, each a plugin; comes with a load\n \
         generator and an admin endpoint. Needs Linux 6.0 or newer with io_uring.\n"
    );
    put(&tree.join("DEBIAN/control"), control.as_bytes())?;
    put(&tree.join("DEBIAN/conffiles"), b"/etc/crucible/crucible.toml\n")
}

/// What `cargo xtask test` claims of the package; the number of claims.
pub(crate) fn check(package: &Path) -> Result<usize, Failure> {
    let root = paths::target_dir().join("dist/unpacked");
    if root.exists() {
        fs::remove_dir_all(&root).map_err(at(&root))?;
    }
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("--extract").arg(package).arg(&root);
    process::must("dpkg-deb --extract", &mut unpack, TOOL_LIMIT)?;
    for file in [
        "usr/bin/crucible-benchmark",
        "usr/lib/crucible/libsegcache.so",
        "usr/share/man/man1/crucible-host.1.gz",
        "usr/share/man/man1/crucible-benchmark.1.gz",
        "usr/share/bash-completion/completions/crucible-host",
        "etc/crucible/crucible.toml",
    ] {
        if !root.join(file).is_file() {
            return Err(format!("{} holds no {file}", package.display()));
        }
    }
    println!("ok: the package holds programs, plugins, manual, completions and configuration");
    serve(&root)?;
    println!("ok: the unpacked host finds its plugins and serves");
    install::programs(&[install::SYSTEMD_ANALYZE])?;
    // The unit names programs where a package puts them: a copy names them where they are now.
    let unit = fs::read_to_string(root.join("lib/systemd/system/crucible.service"))
        .map_err(at(&root))?
        .replace(
            "/usr/bin/crucible-host",
            &root.join("usr/bin/crucible-host").display().to_string(),
        )
        .replace("Documentation=man:crucible-host(1)\n", "");
    let copy = root.join("crucible.service");
    put(&copy, unit.as_bytes())?;
    let mut verify = Command::new(install::find("systemd-analyze").ok_or("no systemd-analyze")?);
    verify.args(["verify", "--man=no", "--recursive-errors=no"]).arg(&copy);
    process::must("systemd-analyze verify", &mut verify, TOOL_LIMIT)?;
    println!("ok: systemd-analyze takes the unit");
    Ok(3)
}

/// Starts the unpacked host on a free port with the packaged configuration's settings and asks it.
fn serve(root: &Path) -> Result<(), Failure> {
    let host = root.join("usr/bin/crucible-host");
    let mut child = Command::new(&host)
        .args(["--plugin", "resp@127.0.0.1:0", "--heap-size", "64MiB", "--threads", "1"])
        .stderr(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .map_err(at(&host))?;
    let answered = ask(&mut child);
    let _already_gone = child.kill();
    let _status = child.wait();
    answered
}

fn ask(child: &mut Child) -> Result<(), Failure> {
    let said = child.stderr.take().ok_or("the host has no standard error")?;
    let mut address = None;
    let mut log = String::new();
    for line in BufReader::new(said).lines().map_while(Result::ok) {
        log.push_str(&line);
        log.push('\n');
        let found = line.split(|c: char| c.is_whitespace() || c == '"' || c == '=');
        address = found
            .filter_map(|word| word.parse().ok())
            .find(|a: &std::net::SocketAddr| a.port() != 0 && line.contains("listening"));
        if address.is_some() {
            break;
        }
    }
    let address = address.ok_or_else(|| format!("the unpacked host did not start:\n{log}"))?;
    let mut socket = TcpStream::connect_timeout(&address, ANSWER_LIMIT)
        .map_err(|error| format!("cannot connect to the unpacked host: {error}"))?;
    let mut answer = [0; 7];
    socket
        .set_read_timeout(Some(ANSWER_LIMIT))
        .and_then(|()| socket.write_all(b"PING\r\n"))
        .and_then(|()| socket.read_exact(&mut answer))
        .map_err(|error| format!("the unpacked host does not answer: {error}"))?;
    if &answer == b"+PONG\r\n" { Ok(()) } else { Err(format!("PING was answered {answer:?}")) }
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<(), Failure> {
    let content = fs::read(from).map_err(at(from))?;
    put(to, &content)?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).map_err(at(to))
}

fn put(path: &Path, content: &[u8]) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(at(folder))?;
    }
    fs::write(path, content).map_err(at(path))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        all.push(entry.map_err(at(folder))?.path());
    }
    all.sort();
    Ok(all)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    move |error| format!("{}: {error}", path.display())
}
