//! New builds of a protocol while it serves.

use std::path::Path;

use crate::admin::address as admin;
use crate::plugins::patched;
use crate::serving::args;
use crate::support::{Host, http, plugins};

/// Puts a file in the place of another at once, as an installer does.
fn install(file: &Path, place: &Path) {
    let beside = place.with_extension("new");
    std::fs::copy(file, &beside).unwrap();
    std::fs::rename(&beside, place).unwrap();
}

struct Served {
    dir: tempfile::TempDir,
    host: Host,
    admin: String,
}

impl Served {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("libping.so");
        install(&plugins().join("libping.so"), &place);
        let plugin = format!("{}@127.0.0.1:0", place.display());
        let host = Host::start(&args(&["--plugin", &plugin, "--admin", "127.0.0.1:0"]));
        let admin = admin(&host);
        Self { dir, host, admin }
    }

    /// Installs a build that answers `word` for PONG and reloads.
    fn swap(&self, word: &[u8; 4]) -> (u16, String) {
        let build = patched(&self.dir, "build.so", &[(b"PONG", word)]);
        self.install(&build);
        self.reload()
    }

    fn install(&self, build: &Path) {
        install(build, &self.dir.path().join("libping.so"));
    }

    fn reload(&self) -> (u16, String) {
        http(&self.admin, "POST", "/plugins/reload", "", "")
    }

    /// Connections of every worker get this answer.
    fn answers(&self, word: &str) {
        for _ in 0..4 {
            self.host.connect(0).ask("PING\r\n", format!("{word}\r\n"));
        }
    }
}

#[test]
fn new_connections_get_the_new_build_and_old_ones_keep_theirs() {
    let served = Served::start();
    let mut old = served.host.connect(0);
    old.ask("PING\r\n", "PONG\r\n");
    assert_eq!(served.reload(), (200, "{\"swapped\":[]}".into()));
    let (status, text) = served.swap(b"PANG");
    assert_eq!(status, 200, "{text}");
    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(said["swapped"][0]["plugin"], "ping");
    assert_eq!(said["swapped"][0]["listeners"][0], "127.0.0.1:0");
    served.answers("PANG");
    old.ask("PING\r\n", "PONG\r\n");
    // A signal does the same.
    let build = patched(&served.dir, "build.so", &[(b"PONG", b"PUNG")]);
    served.install(&build);
    served.host.signal("HUP");
    served.host.wait_for("loads=2");
    served.answers("PUNG");
    old.ask("PING\r\n", "PONG\r\n");
    let (_, text) = http(&served.admin, "GET", "/plugins", "", "");
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let pings: Vec<_> = all.as_array().unwrap().iter().filter(|p| p["name"] == "ping").collect();
    let listeners: Vec<_> =
        pings.iter().map(|p| p["listeners"].as_array().unwrap().len()).collect();
    assert_eq!(listeners, [0, 0, 1], "{text}");
    assert_eq!(pings[0]["sessions"], 1, "{text}");
    served.host.signal("HUP");
    served.host.wait_for("no plugin's file has changed");
    drop(old);
    served.host.stop();
}

#[test]
fn a_file_that_is_not_fit_changes_nothing() {
    let served = Served::start();
    let garbage = served.dir.path().join("garbage");
    std::fs::write(&garbage, "no plugin at all").unwrap();
    let other = plugins().join("libmemcache.so");
    let store = plugins().join("libsegcache.so");
    let newer = patched(&served.dir, "abi.so", &[(b"\nabi=1.0\n", b"\nabi=7.0\n")]);
    for (build, words) in [
        (&garbage, "is not a Crucible plugin"),
        (&other, "was the protocol ping and is the protocol memcache now"),
        (&store, "was the protocol ping and is the backend segcache now"),
        (&newer, "is built for plugin ABI 7."),
    ] {
        served.install(build);
        let (status, text) = served.reload();
        assert_eq!(status, 409, "{text}");
        assert!(text.contains(words) && text.lines().count() == 1, "{text}\n{words}");
        served.answers("PONG");
    }
    std::fs::remove_file(served.dir.path().join("libping.so")).unwrap();
    assert_eq!(served.reload().0, 409);
    // And a good one after all of them is taken.
    assert_eq!(served.swap(b"PANG").0, 200);
    served.answers("PANG");
    served.host.stop();
}

#[test]
fn builds_are_counted_and_the_last_one_is_said_to_be() {
    let served = Served::start();
    for n in 0..32 {
        let word = [b"PANG", b"PUNG"][n % 2];
        let (status, text) = served.swap(word);
        assert_eq!(status, 200, "{text}");
        served.host.connect(0).ask("PING\r\n", format!("{}\r\n", String::from_utf8_lossy(word)));
    }
    let (status, text) = served.swap(b"PANG");
    assert_eq!(status, 409);
    assert!(text.contains("32 builds were loaded") && text.contains("restart"), "{text}");
    served.answers("PUNG");
    served.host.stop();
}
