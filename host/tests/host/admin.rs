//! The admin server.

use crate::serving::args;
use crate::support::{Host, http};

pub(crate) fn address(host: &Host) -> String {
    let log = host.all_lines();
    let line = log.iter().find(|l| l.contains("the admin server listens")).unwrap();
    let address = line.split("address=").nth(1).unwrap();
    address.split(' ').next().unwrap().trim_matches('"').to_owned()
}

#[test]
fn health_metrics_plugins_config_and_stats_are_served() {
    let host = Host::start(&args(&["--plugin", "resp@127.0.0.1:0", "--admin", "127.0.0.1:0"]));
    let at = address(&host);
    let get = |path: &str| http(&at, "GET", path, "", "");
    host.connect(0).ask("SET k 1\r\n", "+OK\r\n").ask("GET k\r\n", "$1\r\n1\r\n");
    assert_eq!(get("/health"), (200, "ok\n".into()));
    assert_eq!(get("/ready"), (200, "ready\n".into()));
    let (status, metrics) = get("/metrics");
    assert_eq!(status, 200);
    assert!(metrics.ends_with("# EOF\n"));
    check_open_metrics(&metrics);
    for name in [
        "crucible_build_info{version=",
        "crucible_accepted_connections_total{",
        "crucible_store_items",
        "crucible_cpu_seconds_total{mode=\"user\"}",
    ] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
    let (_, plugins) = get("/plugins");
    let plugins: serde_json::Value = serde_json::from_str(&plugins).unwrap();
    assert!(
        plugins.as_array().unwrap().iter().any(|p| p["name"] == "resp" && p["store"] == "cache")
    );
    let (_, stats) = get("/stats");
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    assert_eq!(stats["ready"], true);
    assert_eq!(stats["stores"]["cache"]["items"], 1);
    assert!(get("/config").1.contains("heap_size = \"64MiB\""));
    assert!(get("/").1.contains("<title>Crucible</title>"));
    assert_eq!(get("/nothing").0, 404);
    assert_eq!(http(&at, "POST", "/metrics", "", "").0, 405);
    assert_eq!(http(&at, "PUT", "/log-level", "", "loud").0, 400);
    assert_eq!(http(&at, "PUT", "/log-level", "", "debug"), (200, "ok\n".into()));
    assert_eq!(get("/log-level").1, "debug\n");
    host.stop();
}

/// Each family is described once, before its samples, which stand together.
fn check_open_metrics(text: &str) {
    let mut seen = std::collections::HashSet::new();
    let mut family = String::new();
    for line in text.lines().filter(|l| *l != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap().to_owned();
            assert!(seen.insert(family.clone()), "{family} twice");
        } else if let Some(rest) = line.strip_prefix("# ") {
            assert_eq!(rest.split(' ').nth(1), Some(family.as_str()), "{line}");
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(name.starts_with(&family), "{line} is not of {family}");
            let value = line.rsplit(' ').next().unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
}

#[test]
fn with_a_token_only_probes_are_open() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "0123456789abcdef\n").unwrap();
    let set = format!("admin.token_file={}", token.display());
    let host = Host::start(&args(&[
        "--plugin",
        "ping@127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--set",
        &set,
    ]));
    let at = address(&host);
    assert_eq!(http(&at, "GET", "/health", "", "").0, 200);
    for headers in [
        "",
        "Authorization: Bearer no\r\n",
        "Authorization: 0123456789abcdef\r\n",
        "Authorization: Basic bWU6bm8=\r\n",
    ] {
        assert_eq!(http(&at, "GET", "/metrics", headers, "").0, 401, "{headers:?}");
        assert_eq!(http(&at, "POST", "/reload", headers, "").0, 401);
    }
    let right = "Authorization: Bearer 0123456789abcdef\r\n";
    assert_eq!(http(&at, "GET", "/metrics", right, "").0, 200);
    assert_eq!(http(&at, "POST", "/reload", right, "").0, 200);
    // A browser's way: any name, the secret as password.
    let browser = "Authorization: Basic bWU6MDEyMzQ1Njc4OWFiY2RlZg==\r\n";
    assert_eq!(http(&at, "GET", "/", browser, "").0, 200);
    host.stop();
}
