//! What makes a plan and what does not; the effect of every key.
//!
//! What must always be true: a key that is added to the configuration is walked here.

use super::*;
use crate::config::{Sources, load};

fn plan(plugins: &[&str], options: &[(&str, &str)], bind: Option<&str>) -> Result<Plan, String> {
    let options = options.iter().map(|(k, v)| ((*k).into(), (*v).into(), "--set".into()));
    let sources = Sources {
        plugins: plugins.iter().map(|p| (*p).into()).collect(),
        options: options.collect(),
        bind: bind.map(Into::into),
        ..Sources::default()
    };
    Plan::new(load(&sources).map_err(|e| e.to_string())?).map_err(|e| e.to_string())
}

#[test]
fn without_arguments_two_protocols_share_one_store_on_loopback() {
    let plan = plan(&[], &[], None).unwrap();
    let addresses: Vec<_> = plan.listeners.iter().map(|l| l.address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:6379", "127.0.0.1:11211"]);
    assert_eq!((plan.stores.len(), plan.stores[0].plugin.as_str()), (1, "segcache"));
    assert_eq!(plan.kompio.workers, process::cpus());
}

#[test]
fn bind_gives_listeners_without_address_their_host() {
    let of = |plugins: &[&str], bind| {
        plan(plugins, &[], Some(bind))
            .map(|p| p.listeners.iter().map(|l| l.address.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(of(&[], "0.0.0.0").unwrap(), ["0.0.0.0:6379", "0.0.0.0:11211"]);
    assert_eq!(of(&["resp", "ping@127.0.0.1:1"], "::1").unwrap(), ["[::1]:6379", "127.0.0.1:1"]);
    assert_eq!(of(&["./libresp.so"], "0.0.0.0:7000").unwrap(), ["0.0.0.0:7000"]);
    assert!(of(&[], "0.0.0.0:7000").unwrap_err().contains("2 listeners have no address"));
    assert!(of(&[], "nowhere").unwrap_err().starts_with("--bind: address = "));
}

#[test]
fn a_listed_cpu_is_a_thread() {
    let made = plan(&[], &[("workers.cpu_affinity", "0,2,4-7:2")], None).unwrap();
    assert_eq!(made.kompio.workers, 4);
    let error =
        plan(&[], &[("workers.cpu_affinity", "0-2"), ("workers.threads", "2")], None).unwrap_err();
    assert!(error.contains("3 CPUs for 2 threads"), "{error}");
}

#[test]
fn contradictions_are_refused_in_a_sentence() {
    type Row<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
    let table: &[Row<'_>] = &[
        (&["foo"], &[], "--plugin foo: address = (not set): foo has no usual port"),
        (
            &["resp@1.2.3.4:5", "ping@1.2.3.4:5"],
            &[],
            "--plugin ping@1.2.3.4:5: address = \"1.2.3.4:5\": --plugin resp@1.2.3.4:5 has the same address",
        ),
        (
            &[],
            &[("workers.threads", "0")],
            "the configuration: workers.threads = 0: expected 1 to 256",
        ),
        (
            &[],
            &[("limits.output_pause", "2GiB")],
            "the configuration: limits.output_pause = \"2GiB\": must be below output_max",
        ),
        (
            &[],
            &[("admin.address", "0.0.0.0:1")],
            "the configuration: admin.address = \"0.0.0.0:1\": an admin server that others",
        ),
        (&[], &[("backend.big.plugin", "heap")], "--set: backend.big = {..}: no listener uses it"),
        (
            &[],
            &[("uring.sq_entries", "100")],
            "the configuration: `sq_entries` = 100 is out of range",
        ),
    ];
    for (plugins, options, sentence) in table {
        let error = plan(plugins, options, None).expect_err(sentence);
        assert!(error.starts_with(sentence), "gave     {error}\nexpected {sentence}");
    }
}

#[test]
fn the_name_of_a_plugin_is_in_its_file() {
    for text in ["resp", "libresp.so", "/a/libresp.so", "./libresp.so"] {
        assert_eq!(plugin_name(text), "resp");
    }
    assert_eq!(plugin_name("library"), "library");
}

/// What stands in the plan besides the settings as written.
fn derived(plan: &Plan) -> String {
    let Plan { kompio, stores, listeners, admin, admin_token, admin_tls, settings } = plan;
    let read_as_they_are = (
        (&settings.plugins, &settings.takeover, &settings.shutdown, &settings.logging),
        (
            settings.limits.by_reference_min,
            settings.limits.max_connections_per_address,
            settings.limits.by_reference_timeout,
            settings.limits.connection_memory,
            settings.workers.stuck_after,
            &admin_tls,
        ),
    );
    format!("{kompio:?} {stores:?} {listeners:?} {admin:?} {admin_token:?} {read_as_they_are:?}")
}

/// A value of each key that is not its default, with what it needs beside it.
fn other_value(path: &str, dir: &std::path::Path) -> (String, Vec<(String, String)>) {
    let file = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let cert = |prefix: &str| {
        vec![
            (format!("{prefix}tls.cert"), file("a.pem")),
            (format!("{prefix}tls.key"), file("a.key")),
        ]
    };
    let prefix = path.split("tls.").next().unwrap_or_default();
    match path {
        "workers.threads" => ("3".into(), vec![]),
        "workers.cpu_affinity" => ("0,1,2".into(), vec![]),
        "plugins.dirs" | "plugins.layout_report" | "takeover.socket" => ("/x".into(), vec![]),
        "uring.accept" => ("reuse-port".into(), vec![]),
        "uring.min_wait" => ("7ms".into(), vec![]),
        "uring.zero_copy" => ("off".into(), vec![]),
        "uring.sq_entries" => ("512".into(), vec![]),
        "uring.cq_entries" => ("16384".into(), vec![]),
        "uring.recv_buffers" => ("1MiB".into(), vec![]),
        "uring.incremental_buffers" | "uring.direct_descriptors" => ("false".into(), vec![]),
        "plugins.allow_abort" | "open" => ("true".into(), vec![]),
        "limits.output_pause" => ("2MiB".into(), vec![]),
        "limits.output_resume" => ("128KiB".into(), vec![]),
        "limits.output_max" | "limits.input_max" => ("3GiB".into(), vec![]),
        "limits.by_reference_min" | "limits.connection_memory" | "uring.zero_copy_min" => {
            ("128KiB".into(), vec![])
        }
        "limits.max_connections" | "limits.max_connections_per_address" => ("77".into(), vec![]),
        "uring.backlog" | "max_connections" => ("77".into(), vec![]),
        "logging.level" => ("trace".into(), vec![]),
        "logging.format" => ("json".into(), vec![]),
        "logging.output" => ("stdout".into(), vec![]),
        "admin.address" | "address" => ("127.0.0.1:7777".into(), vec![]),
        "admin.token_file" => (file("token"), vec![]),
        "protocol" => ("memcache".into(), vec![]),
        "unix_socket" => ("/x.sock".into(), vec![]),
        "backend" => ("big".into(), vec![]),
        _ if path.ends_with("tls.cert") => (file("a.pem"), cert(prefix)),
        _ if path.ends_with("tls.key") => (file("a.key"), cert(prefix)),
        _ if path.ends_with("tls.client_ca") => (file("a.pem"), cert(prefix)),
        _ if path.ends_with("tls.client_auth") => {
            let mut with = cert(prefix);
            with.push((format!("{prefix}tls.client_ca"), file("a.pem")));
            ("optional".into(), with)
        }
        _ if path.ends_with("tls.min_version") => ("1.3".into(), cert(prefix)),
        _ if path.ends_with("tls.ciphers") => ("TLS_AES_128_GCM_SHA256".into(), cert(prefix)),
        _ if path.ends_with("tls.alpn") => ("x".into(), cert(prefix)),
        _ if path.ends_with("tls.handshakes_max") => ("7".into(), cert(prefix)),
        _ if path.ends_with("handshake_timeout") => ("7s".into(), cert(prefix)),
        // Durations: anything else than the defaults.
        _ => ("77ms".into(), vec![]),
    }
}

#[test]
fn every_key_has_an_effect_and_refuses_what_it_cannot_be() {
    use crate::config::keys::{KEYS, LISTENER_KEYS};

    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.path().join("a.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.path().join("a.key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(dir.path().join("token"), "0123456789abcdef").unwrap();
    let planned = |table: String| {
        let path = dir.path().join("c.toml");
        std::fs::write(&path, table).unwrap();
        let sources = Sources { file: Some(path), ..Sources::default() };
        load(&sources)
            .map_err(|e| e.to_string())
            .and_then(|settings| Plan::new(settings).map_err(|e| e.to_string()))
    };
    // A file with these keys of sections, or of its one listener.
    let file = |keys: &[(String, String)], listener: bool| {
        let line = |(key, value): &(String, String)| match value.as_str() {
            "true" | "false" => format!("{key} = {value}\n"),
            text => format!("{key} = {text:?}\n"),
        };
        let own: String = keys.iter().map(line).collect();
        let (top, own) = if listener { (String::new(), own) } else { (own, String::new()) };
        let protocol = if own.contains("protocol =") { "" } else { "protocol = \"resp\"\n" };
        let big = if own.contains("\"big\"") { "[backend.big]\nplugin = \"heap\"\n" } else { "" };
        format!("{top}{big}[[listener]]\n{protocol}{own}")
    };
    let paths = KEYS.iter().map(|key| (key.path, false));
    for (path, listener) in paths.chain(LISTENER_KEYS.iter().map(|key| (key.path, true))) {
        let (value, mut with) = other_value(path, dir.path());
        with.retain(|(key, _)| key != path);
        let alone = planned(file(&with, listener));
        let without = match &alone {
            Ok(plan) => derived(plan),
            // The half of a pair is refused: that is what it does.
            Err(reason) => reason.clone(),
        };
        let mut keys = with.clone();
        keys.push((path.to_owned(), value.clone()));
        let plan = planned(file(&keys, listener)).unwrap_or_else(|e| panic!("{path}: {e}"));
        // Threads and CPUs go together; `open` shows in what is accepted.
        if path != "open" {
            assert_ne!(derived(&plan), without, "{path} = {value} changes nothing");
        }
        // What it cannot be: a table is no value of any key.
        let keys = with.clone();
        let mut text = file(&keys, listener);
        if path == "protocol" {
            text = text.replace("protocol = \"resp\"\n", "");
        }
        let spoilt = if listener {
            format!("{text}{path} = {{ no = 1 }}\n")
        } else {
            format!("{path} = {{ no = 1 }}\n{text}")
        };
        let reason = planned(spoilt).expect_err(path);
        assert!(reason.contains(path), "{path}: {reason}");
    }
}
