//! Plugins that are not fit to run, and plugins that fail while they do.

use std::path::PathBuf;

use crate::serving::args;
use crate::support::{Host, command, fixtures, plugins, run};

/// A copy of libping.so with some bytes replaced by as many others.
pub(crate) fn patched(dir: &tempfile::TempDir, name: &str, changes: &[(&[u8], &[u8])]) -> PathBuf {
    let mut bytes = std::fs::read(plugins().join("libping.so")).unwrap();
    for (from, to) in changes {
        assert_eq!(from.len(), to.len());
        let mut found = 0;
        for at in 0..bytes.len() - from.len() {
            if bytes[at..].starts_with(from) {
                bytes[at..at + to.len()].copy_from_slice(to);
                found += 1;
            }
        }
        assert!(found > 0, "{} is not in libping.so", String::from_utf8_lossy(from));
    }
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_file_that_is_not_fit_is_refused_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.so");
    std::fs::write(&text, "#!/bin/sh\n").unwrap();
    let cut = dir.path().join("cut.so");
    let whole = std::fs::read(plugins().join("libping.so")).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let machine = dir.path().join("machine.so");
    let mut other = whole.clone();
    let (theirs, code) =
        if cfg!(target_arch = "x86_64") { ("aarch64", 183) } else { ("x86_64", 62) };
    other[18] = code;
    std::fs::write(&machine, &other).unwrap();
    let open = dir.path().join("open.so");
    std::fs::write(&open, &whole).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o646);
    std::fs::set_permissions(&open, mode).unwrap();

    let patch =
        |name, from: &str, to: &str| patched(&dir, name, &[(from.as_bytes(), to.as_bytes())]);
    let major = patch("major.so", "\nabi=1.0\n", "\nabi=2.0\n");
    let newer = patch("newer.so", "min_host_minor=0", "min_host_minor=9");
    let aborts = patch("aborts.so", "panic=unwind\n", "panic=abort\n\n");
    let record = patch("record.so", "crucible-plugin\nname", "crucible-plugout\nnam");
    let lies = patch("lies.so", "\nname=ping\n", "\nname=pong\n");
    let kind = patch("kind.so", "kind=protocol\n", "kind=backend\n\n");
    let symbol = patch("symbol.so", "crucible_plugin_root_v1", "crucible_plugin_root_v9");
    let magic =
        patch("magic.so", "abi stable library for Rust     ", "abi stable library for Rusty    ");
    let layout = patch("layout.so", "n_counters", "m_counters");
    let shared = fixtures().join("libhostile.so");
    let program = std::env::current_exe().unwrap();
    let table: &[(&PathBuf, &str)] = &[
        (&dir.path().join("missing.so"), "cannot read plugin "),
        (&dir.path().to_owned(), "is not a Crucible plugin: it is not a regular file"),
        (&text, "is not a Crucible plugin: it is not an ELF file"),
        (&cut, "is not a Crucible plugin: "),
        (&machine, &format!("is built for {theirs}, this host runs on ")),
        (&open, "can be written by everybody"),
        (&program, "is not a Crucible plugin: it has no .crucible.plugin section"),
        (&major, "is built for plugin ABI 2.0, this host provides 1.0; upgrade crucible-host"),
        (&newer, "needs a host with plugin ABI 1.9, this host provides 1.0; upgrade crucible-host"),
        (&aborts, "is built with panic = \"abort\""),
        (&record, "does not begin with a plugin record"),
        (&lies, "contradicts itself: its record says protocol pong "),
        (&kind, "contradicts itself: its record says backend ping "),
        (&symbol, "has a plugin record but no symbol crucible_plugin_root_v1"),
        (&magic, "is not a plugin header of abi_stable 0.11"),
        (&layout, "does not fit this host: its data layout differs"),
    ];
    for (path, words) in table {
        let plugin = format!("{}@127.0.0.1:0", path.display());
        let (code, _, stderr) = run(&args(&["--check-config", "--plugin", &plugin]));
        assert_eq!(code, Some(2), "{}: {stderr}", path.display());
        assert_eq!(stderr.lines().count(), 1, "one sentence: {stderr}");
        assert!(
            stderr.starts_with("error: ") && stderr.contains(words),
            "gave {stderr}expected {words}"
        );
    }
    let report = dir.path().join("report.txt");
    let plugin = format!("{}@127.0.0.1:0", layout.display());
    let set = format!("plugins.layout_report={}", report.display());
    let (_, _, stderr) = run(&args(&["--check-config", "--plugin", &plugin, "--set", &set]));
    assert!(stderr.contains(report.to_str().unwrap()), "{stderr}");
    assert!(std::fs::read_to_string(&report).unwrap().contains("m_counters"));
    let plugin = format!("{}@127.0.0.1:0", aborts.display());
    let allowed =
        run(&args(&["--check-config", "--plugin", &plugin, "--set", "plugins.allow_abort=true"]));
    assert_eq!(allowed.0, Some(0), "{}", allowed.2);
    let (code, _, stderr) =
        run(&args(&["--check-config", "--plugin", &format!("{}@127.0.0.1:0", shared.display())]));
    assert_eq!(code, Some(0), "{stderr}");
}

fn with_settings(dir: &tempfile::TempDir, protocol: &str, store: &str) -> PathBuf {
    let (hostile, shaky) = (fixtures().join("libhostile.so"), fixtures().join("libshaky.so"));
    let path = dir.path().join("c.toml");
    let text = format!(
        "[workers]\nthreads = 1\n[cache]\nbackend = \"{}\"\n{store}\n\
         [[listener]]\nprotocol = \"{}\"\naddress = \"127.0.0.1:0\"\n[listener.settings]\n{protocol}\n",
        shaky.display(),
        hostile.display()
    );
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_plugin_that_fails_at_start_is_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let table = [
        ("panic_in = \"check\"", "", "hostile: panicked: asked to panic in check"),
        ("panic_in = \"create\"", "", "hostile: panicked: asked to panic in create"),
        ("panic_in = \"worker\"", "", "hostile: making a worker failed: panicked"),
        ("refuse = \"not today\"", "", "listener 1: hostile: setting refuse: not today"),
        (
            "needs_lists = true",
            "",
            "hostile: needs a backend with lists, which shaky does not offer",
        ),
        ("panic_in = 3", "", "hostile: setting panic_in: invalid type"),
        ("", "panic_in = \"check\"", "[cache]: shaky: panicked: asked to panic in check"),
        ("", "panic_in = \"create\"", "shaky: panicked: asked to panic in create"),
        ("", "panic_in = \"capabilities\"", "[cache]: shaky: serves no operation"),
        ("", "panic_in = \"worker\"", "shaky: making worker 0 failed: panicked"),
        ("", "size = 101", "[cache]: shaky: setting size: at most 100"),
        ("", "colour = 1", "[cache]: shaky: setting colour: unknown field"),
    ];
    for (protocol, store, words) in table {
        let path = with_settings(&dir, protocol, store);
        let (code, _, stderr) = run(&["--config", path.to_str().unwrap()]);
        assert_eq!(code, Some(2), "{words}: {stderr}");
        let last = stderr.lines().last().unwrap();
        assert!(
            last.starts_with("error: ") && last.contains(words),
            "gave {stderr}expected {words}"
        );
    }
}

#[test]
fn a_session_that_panics_closes_its_connection_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = with_settings(&dir, "", "");
    let host = Host::start(&["--config", path.to_str().unwrap()]);
    let mut other = host.connect(0);
    other.expect("hello\n");
    for request in ["PANIC\n", "PANIC-REPLY\n", "PING\nPANIC\nPING\n", "LIE\n"] {
        let mut wire = host.connect(0);
        wire.expect("hello\n").send(request);
        let rest = wire.rest();
        assert!(!String::from_utf8_lossy(&rest).contains("never seen"), "{request}");
        other.ask("PING\n", "PONG\n");
        assert!(host.wait_for("a session panicked").contains("plugin=\"hostile\""));
    }
    drop(other);
    host.stop();

    for place in ["open", "close"] {
        let path = with_settings(&dir, &format!("panic_in = \"{place}\""), "");
        let mut host = Host::start(&["--config", path.to_str().unwrap()]);
        for _ in 0..3 {
            let mut wire = host.connect(0);
            wire.send("CLOSE\n");
            wire.rest();
        }
        assert!(host.is_alive());
        host.stop();
    }
}

#[test]
fn an_event_that_panics_closes_its_connection_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = with_settings(&dir, "panic_in = \"event\"", "");
    let host = Host::start(&["--config", path.to_str().unwrap(), "--admin", "127.0.0.1:0"]);
    let admin = crate::admin::address(&host);
    let mut other = host.connect(0);
    other.expect("hello\n");
    for (at, request) in ["TIMER 1\n", "OFFLOAD\n"].into_iter().enumerate() {
        let mut wire = host.connect(0);
        wire.expect("hello\n").send(request);
        assert_eq!(String::from_utf8_lossy(&wire.rest()), "");
        assert!(host.wait_for("asked to panic in event").contains("plugin=\"hostile\""));
        host.wait_for("a session panicked");
        other.ask("PING\n", "PONG\n");
        let (_, metrics) = crate::support::http(&admin, "GET", "/metrics", "", "");
        let counted = format!("crucible_session_panics_total{{worker=\"0\"}} {}\n", at + 1);
        assert!(metrics.contains(&counted), "{metrics}");
    }
    drop(other);
    host.stop();
}

#[test]
fn a_refusal_that_panics_closes_the_connection_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = with_settings(&dir, "panic_in = \"refusal\"", "");
    let config = path.to_str().unwrap();
    let host = Host::start(&["--config", config, "--set", "limits.max_connections=1"]);
    let mut only = host.connect(0);
    only.expect("hello\n");
    for _ in 0..3 {
        assert_eq!(String::from_utf8_lossy(&host.connect(0).rest()), "");
        only.ask("PING\n", "PONG\n");
    }
    drop(only);
    host.stop();
}

#[test]
fn a_plugin_that_is_slow_to_start_is_waited_for_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    let path = with_settings(&dir, &format!("starts_with = {gate:?}"), "");
    let host = Host::launch(command(&["--config", path.to_str().unwrap()]));
    for _ in 0..2 {
        assert!(host.wait_for("a plugin has not started yet").contains("plugin=\"hostile\""));
    }
    // Its listener opens when it is made and not before.
    let opened = |log: &[String]| log.iter().any(|line| line.contains("listening"));
    assert!(!opened(&host.all_lines()));
    std::fs::write(&gate, "").unwrap();
    let host = host.ready();
    let log = host.all_lines();
    let slow = log.iter().position(|line| line.contains("a plugin was slow to start"));
    let slow = slow.unwrap_or_else(|| panic!("{log:#?}"));
    assert!(log[slow].contains("plugin=\"hostile\""), "{}", log[slow]);
    assert!(!opened(&log[..slow]) && opened(&log[slow..]), "{log:#?}");
    host.connect(0).expect("hello\n").ask("PING\n", "PONG\n");
    host.stop();
}

#[test]
fn a_new_build_that_does_not_start_is_given_up_and_the_old_one_goes_on() {
    plugins();
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    let served = dir.path().join("libhostile.so");
    let install = || {
        let fresh = dir.path().join("fresh");
        std::fs::copy(fixtures().join("libhostile.so"), &fresh).unwrap();
        std::fs::rename(&fresh, &served).unwrap();
    };
    install();
    std::fs::write(&gate, "").unwrap();
    let path = with_settings(&dir, &format!("starts_with = {gate:?}"), "");
    let text = std::fs::read_to_string(&path).unwrap();
    let ours = fixtures().join("libhostile.so").display().to_string();
    std::fs::write(&path, text.replace(&ours, &served.display().to_string())).unwrap();
    let host = Host::start(&["--config", path.to_str().unwrap(), "--admin", "127.0.0.1:0"]);
    let admin = crate::admin::address(&host);
    let reload = || crate::support::http(&admin, "POST", "/plugins/reload", "", "");
    let mut old = host.connect(0);
    old.expect("hello\n").ask("PING\n", "PONG\n");

    install();
    std::fs::remove_file(&gate).unwrap();
    let (status, text) = reload();
    assert_eq!(status, 409, "{text}");
    assert!(text.contains("hostile did not start within"), "{text}");
    old.ask("PING\n", "PONG\n");
    host.connect(0).expect("hello\n").ask("PING\n", "PONG\n");

    // The next reload does not wait for the one that was given up.
    std::fs::write(&gate, "").unwrap();
    let (status, text) = reload();
    assert_eq!(status, 200, "{text}");
    host.connect(0).expect("hello\n").ask("PING\n", "PONG\n");
    drop(old);
    host.stop();
}

#[test]
fn a_session_that_panics_with_the_store_to_itself_leaves_it_to_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = with_settings(&dir, "", "");
    let host = Host::start(&["--config", path.to_str().unwrap(), "--threads", "2"]);
    // On both workers.
    let mut others: Vec<_> = (0..4).map(|_| host.connect(0)).collect();
    for wire in &mut others {
        wire.expect("hello\n").ask("ALONE\nPING\n", "alone\nPONG\n");
    }
    for request in ["ALONE-PANIC\n", "ALONE-PANIC-REPLY\n", "PING\nALONE-PANIC\nPING\n"] {
        for _ in 0..4 {
            let mut wire = host.connect(0);
            wire.expect("hello\n").send(request);
            let rest = wire.rest();
            assert!(!String::from_utf8_lossy(&rest).contains("never seen"), "{request}");
            host.wait_for("a session panicked");
            for other in &mut others {
                other.ask("ALONE\nPING\n", "alone\nPONG\n");
            }
        }
    }
    drop(others);
    host.stop();
}

#[test]
fn a_store_that_panics_fails_its_operations_and_the_server_drains() {
    let dir = tempfile::tempdir().unwrap();
    let path = with_settings(&dir, "", "");
    let host = Host::start(&["--config", path.to_str().unwrap()]);
    let mut wire = host.connect(0);
    wire.expect("hello\n").ask("GET x\n", "-1\n");
    wire.send("GET panic\n").expect("-1\n");
    let line = host.wait_for("a backend panicked");
    assert!(
        line.contains("plugin=\"shaky\"") && line.contains("asked to panic in execute"),
        "{line}"
    );
    wire.rest();
    let (status, log) = host.wait();
    assert_eq!(status.code(), Some(1), "{log:#?}");
}

#[test]
fn plugins_are_listed_and_inspected() {
    let (code, stdout, stderr) = run(&["plugin", "list"]);
    assert_eq!(code, Some(0), "{stderr}");
    for name in ["resp", "memcache", "ping", "segcache"] {
        assert!(stdout.lines().any(|l| l.starts_with(name)), "{name} in {stdout}");
    }
    let (_, stdout, _) = run(&["plugin", "list", "--json"]);
    let all: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert!(
        all.as_array().unwrap().iter().any(|p| p["name"] == "segcache" && p["kind"] == "backend")
    );
    let (code, stdout, _) = run(&["plugin", "inspect", "ping"]);
    assert_eq!(code, Some(0));
    assert!(
        stdout.starts_with("ping ") && stdout.contains("line_len_max") && stdout.contains("64"),
        "{stdout}"
    );
    let (_, stdout, _) = run(&["plugin", "inspect", "resp", "--json"]);
    let resp: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert!(
        resp["commands"]
            .as_array()
            .unwrap()
            .iter()
            .any(|c| c["name"].as_str().unwrap().eq_ignore_ascii_case("get"))
    );
    let (code, _, stderr) = run(&["plugin", "inspect", "nothing"]);
    assert_eq!((code, stderr.lines().count()), (Some(2), 1));
}
