//! What the table tests share: a host with the model backend, and scripts that must give the same
//! answers step by step, joined into one receive, and split at every byte.
#![allow(dead_code, missing_docs, unreachable_pub)]

use crucible_memcache::Memcache;
use crucible_plugin_testkit::{Conn, HostOptions, ModelBackend, ProtocolId, StoreId, TestHost};

/// A host serving memcache over the model backend.
pub struct Bench {
    pub host: TestHost,
    pub store: StoreId,
    pub memcache: ProtocolId,
}

impl Bench {
    pub fn new() -> Self {
        Self::with_settings("{}")
    }

    pub fn with_settings(settings: &str) -> Self {
        Self::with(HostOptions::default(), settings)
    }

    pub fn with(options: HostOptions, settings: &str) -> Self {
        let host = TestHost::with(options);
        let store = host.backend::<ModelBackend>("{}");
        let memcache = host.protocol::<Memcache>(settings, store);
        Self { host, store, memcache }
    }

    pub fn connect(&self) -> Conn {
        self.host.connect(self.memcache)
    }
}

/// One exchange: what is sent, what comes back.
pub type Row<'r> = (&'r [u8], &'r [u8]);

/// Checks a script in every way bytes can arrive.
#[track_caller]
pub fn script(rows: &[Row<'_>]) {
    script_with("{}", rows);
}

/// The same with settings.
#[track_caller]
pub fn script_with(settings: &str, rows: &[Row<'_>]) {
    let bench = Bench::with_settings(settings);
    let conn = bench.connect();
    for (sent, answer) in rows {
        conn.expect(sent, answer);
    }
    let (sent, answer): (Vec<u8>, Vec<u8>) = (
        rows.iter().flat_map(|r| r.0).copied().collect(),
        rows.iter().flat_map(|r| r.1).copied().collect(),
    );
    // Joined: every command finds the next one behind it.
    Bench::with_settings(settings).connect().expect(&sent, &answer);
    // Byte by byte: every command is incomplete at every place.
    let bench = Bench::with_settings(settings);
    let conn = bench.connect();
    let mut got = Vec::new();
    for byte in &sent {
        conn.send(&[*byte]);
        got.extend(conn.take_output());
    }
    assert_eq!(got.escape_ascii().to_string(), answer.escape_ascii().to_string(), "byte by byte");
    // Cut in two at every byte.
    if sent.len() <= 400 {
        for at in 1..sent.len() {
            let bench = Bench::with_settings(settings);
            let conn = bench.connect();
            conn.send(&sent[..at]);
            let mut got = conn.take_output();
            conn.send(&sent[at..]);
            got.extend(conn.take_output());
            assert_eq!(
                got.escape_ascii().to_string(),
                answer.escape_ascii().to_string(),
                "cut at {at}"
            );
        }
    }
}
