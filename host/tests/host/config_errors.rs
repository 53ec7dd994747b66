//! What is refused, and in which words.

use crate::support::{command, program, run};

fn refused(args: &[&str], words: &str) {
    let (code, _, stderr) = run(args);
    // The log may have said something before; the refusal is one line, the last.
    let is_log = |line: &&str| line.contains(" INFO ") || line.contains(" WARN ");
    let lines: Vec<&str> = stderr.lines().filter(|line| !is_log(line)).collect();
    assert_eq!(code, Some(2), "{args:?}: {stderr}");
    assert_eq!(lines.len(), 1, "one sentence: {stderr}");
    assert!(lines[0].starts_with("error: "), "{stderr}");
    assert!(lines[0].contains(words), "{args:?}\n  gave     {}\n  expected {words}", lines[0]);
}

#[test]
fn what_cannot_be_obeyed_is_refused_in_one_sentence_with_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let unknown_key = file("a.toml", "[cache]\nheap_sise = \"1GiB\"\n");
    let bad_toml = file("b.toml", "[workers]\nthreads 3\n");
    let own_key = file(
        "c.toml",
        "[[listener]]\nprotocol = \"ping\"\naddress = \"127.0.0.1:0\"\n[listener.settings]\nline_len = 3\n",
    );
    let no_backend = file(
        "d.toml",
        "[[listener]]\nprotocol = \"ping\"\naddress = \"127.0.0.1:0\"\nbackend = \"big\"\n",
    );
    let bad_user = file(
        "e.toml",
        "[[listener]]\nprotocol = \"ping\"\naddress = \"127.0.0.1:0\"\n[listener.users]\nann = \"secret\"\n",
    );
    let ping = "ping@127.0.0.1:0";
    let table: &[(&[&str], &str)] = &[
        (&["--threads", "many"], "--threads: workers.threads = \"many\": expected a whole number"),
        (&["--threads", "0"], "workers.threads = 0: expected 1 to 256"),
        (&["--cpu-affinity", "0-"], "--cpu-affinity: workers.cpu_affinity = \"0-\""),
        (&["--heap-size", "lots", "--plugin", ping], "setting heap_size"),
        (
            &["--set", "uring.sqentries=8"],
            "unknown key uring.sqentries = \"8\"; did you mean uring.sq_entries?",
        ),
        (&["--set", "workers"], "--set workers: expected KEY=VALUE"),
        (&["--config", "/nowhere.toml"], "cannot read the configuration file /nowhere.toml: "),
        (&["--config", &bad_toml], "b.toml:2: not valid TOML: "),
        (
            &["--config", &unknown_key, "--plugin", ping],
            "[cache]: segcache: setting heap_sise: unknown field",
        ),
        (&["--config", &own_key], "listener 1: ping: setting line_len: unknown field"),
        (
            &["--config", &no_backend],
            "listener 1: backend = \"big\": no [backend.big] table; known: cache",
        ),
        (&["--config", &bad_user], "users.ann = (not shown): expected sha256$SALT$HASH"),
        (&["--plugin", "nothing@127.0.0.1:0"], "no plugin nothing: looked for libnothing.so in "),
        (&["--backend", "nothing", "--plugin", ping], "no plugin nothing: "),
        (&["--plugin", "segcache@127.0.0.1:0"], "plugin segcache ("),
        (&["--backend", "ping", "--plugin", ping], "is a protocol, but"),
        (&["--plugin", "ping@nowhere"], "--plugin: address = \"nowhere\": expected an address"),
        (&["--admin", "0.0.0.0:0"], "needs admin.token_file"),
        (&["--cpu-affinity", "1000", "--plugin", ping], "cannot pin worker 0 to CPU 1000"),
        (&["--plugin", "ping@192.0.2.1:7000"], "no interface of this host has that address"),
    ];
    for (args, words) in table {
        refused(args, words);
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    refused(&["--plugin", &format!("ping@{address}")], &format!("{address} is in use"));
    refused(
        &["--plugin", "ping@127.0.0.1:0", "--admin", &address.to_string()],
        &format!("the admin server: {address} is in use"),
    );
}

#[test]
fn a_bad_variable_is_refused() {
    let mut command = command(&["--check-config"]);
    let output = command.env("CRUCIBLE_WORKERS_THREADS", "x").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("CRUCIBLE_WORKERS_THREADS: workers.threads = \"x\""), "{stderr}");
}

#[test]
fn the_printed_configuration_is_a_file_that_prints_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("printed.toml");
    let args = ["--plugin", "resp@127.0.0.1:1", "--plugin", "memcache@127.0.0.1:2"];
    let set = ["--threads", "1", "--heap-size", "64MiB", "--set", "limits.idle_timeout=90s"];
    let (code, first, stderr) = run(&[&args[..], &set[..], &["--print-config"]].concat());
    assert_eq!(code, Some(0), "{stderr}");
    assert!(first.contains("idle_timeout = \"90s\""), "{first}");
    assert!(first.contains("heap_size = \"64MiB\""), "{first}");
    std::fs::write(&path, &first).unwrap();
    let path = path.to_str().unwrap();
    let (code, second, stderr) = run(&["--config", path, "--print-config"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(second, first);
    let (code, stdout, stderr) = run(&["--config", path, "--check-config"]);
    assert_eq!((code, stdout.as_str()), (Some(0), "the configuration is good\n"), "{stderr}");
}

#[test]
fn the_reference_in_docs_is_what_the_code_says() {
    let (code, text, stderr) = run(&["reference"]);
    assert_eq!(code, Some(0), "{stderr}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    if std::env::var_os("CRUCIBLE_WRITE_REFERENCE").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == text,
        "docs/configuration.md is out of date: run {} reference > docs/configuration.md",
        program().display()
    );
}

#[test]
fn an_address_that_others_reach_needs_a_guard_or_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let check = |more: &str| {
        let text = format!(
            "[cache]\nheap_size = \"64MiB\"\n\
             [[listener]]\nprotocol = \"resp\"\naddress = \"0.0.0.0:7790\"\n{more}"
        );
        std::fs::write(&path, text).unwrap();
        run(&["--config", path.to_str().unwrap(), "--check-config"])
    };
    let (code, _, stderr) = check("");
    assert_eq!(code, Some(2));
    assert!(stderr.contains("anybody may enter: add users or tls.client_ca"), "{stderr}");
    let hash = format!("sha256$00112233445566778899aabbccddeeff${}", "0".repeat(64));
    for more in ["open = true", &format!("[listener.users]\na = \"{hash}\"")] {
        let (code, _, stderr) = check(more);
        assert_eq!(code, Some(0), "{stderr}");
    }
    for words in [&["--bind", "0.0.0.0"][..], &["--plugin", "resp@0.0.0.0:7791"]] {
        let args = [&["--heap-size", "64MiB", "--check-config"], words].concat();
        assert_eq!(run(&args).0, Some(0), "{words:?}");
    }
}

/// Rows of the tables of docs/configuration.md: heading and cells.
fn rows() -> Vec<(String, Vec<String>)> {
    let text = include_str!("../../../docs/configuration.md");
    let mut heading = String::new();
    let mut rows = Vec::new();
    for line in text.lines() {
        if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim().to_owned();
        } else if let Some(cells) = line.strip_prefix("| `") {
            rows.push((heading.clone(), cells.split(" | ").map(str::to_owned).collect()));
        }
    }
    rows
}

#[test]
fn every_key_of_a_plugin_refuses_what_it_cannot_be_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let mut seen = 0;
    for (heading, cells) in rows() {
        let Some((table, plugin)) = heading.split_once(" of ") else { continue };
        let key = cells[0].trim_end_matches('`');
        // No key takes a list of lists.
        let text = match table {
            "`[cache]`" => format!("[cache]\nbackend = \"{plugin}\"\n{key} = [[1]]\n"),
            "`[listener.settings]`" => format!(
                "[[listener]]\nprotocol = \"{plugin}\"\naddress = \"127.0.0.1:0\"\n[listener.settings]\n{key} = [[1]]\n"
            ),
            _ => continue,
        };
        std::fs::write(&path, text).unwrap();
        let (code, _, error) = run(&["--config", path.to_str().unwrap(), "--check-config"]);
        assert_eq!(code, Some(2), "{heading}: {key}: {error}");
        assert!(error.contains(key), "{heading}: {key}: {error}");
        seen += 1;
    }
    assert!(seen > 30, "{seen} keys");
}

#[test]
fn every_variable_of_the_reference_is_read() {
    let mut seen = 0;
    for (heading, cells) in rows() {
        let last = cells.last().unwrap();
        let Some(at) = last.find("`CRUCIBLE_") else { continue };
        let name = last[at + 1..].split('`').next().unwrap();
        let key = cells[0].split('`').next().unwrap();
        // Nothing but a path or a list of words can be this.
        let output = command(&["--print-config"]).env(name, "/no such/=").output().unwrap();
        let (shown, error) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let obeyed = output.status.success() && shown.contains("/no such/=");
        let refused = error.contains(name) || error.contains(key.split('.').next_back().unwrap());
        assert!(obeyed || refused, "{heading}: {name}: {error}{shown}");
        seen += 1;
    }
    assert!(seen > 40, "{seen} variables");
}
