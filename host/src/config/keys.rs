//! The tables of keys: name, type, where it is kept, and what it does, once.
//!
//! Reading, printing, the command line's and the environment's names, and
//! docs/configuration.md all come from these tables. What must always be true:
//! each key stands here once and its help says what it does to the server.

use std::sync::LazyLock;

use super::value::{Given, Setting};
use super::{Listener, Settings};

/// One key of a table `S`.
#[derive(Debug)]
pub struct Key<S: 'static> {
    /// `section.key`, or `key` in a listener.
    pub path: &'static str,
    /// What it does.
    pub help: &'static str,
    /// What may be written.
    pub shape: fn() -> &'static str,
    /// What stands for "not set".
    pub unset: &'static str,
    /// Takes effect with a reload.
    pub reloads: bool,
    /// Reads a value.
    pub set: fn(&mut S, &Given) -> Result<(), String>,
    /// Writes the value; `None` when it is not set.
    pub show: fn(&S) -> Option<String>,
}

impl<S> Key<S> {
    /// Section and key.
    #[must_use]
    pub fn parts(&self) -> (&'static str, &'static str) {
        self.path.split_once('.').unwrap_or(("", self.path))
    }

    /// Name in the environment.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("CRUCIBLE_{}", self.path.replace('.', "_").to_ascii_uppercase())
    }
}

fn shape_of<S, T: Setting>(_: impl Fn(&S) -> &T) -> &'static str {
    T::SHAPE
}

macro_rules! key {
    ($table:ty, $path:expr, $($field:ident).+, $help:literal $(, unset = $unset:literal)?; reloads) => {
        Key::<$table> { reloads: true, ..key!($table, $path, $($field).+, $help $(, unset = $unset)?) }
    };
    ($table:ty, $path:expr, $($field:ident).+, $help:literal $(, unset = $unset:literal)?) => {
        Key::<$table> {
            path: $path,
            help: $help,
            shape: || shape_of(|s: &$table| &s.$($field).+),
            unset: concat!("" $(, $unset)?),
            reloads: false,
            set: |s, given| Setting::given(given).map(|value| s.$($field).+ = value),
            show: |s| s.$($field).+.write(),
        }
    };
}

/// Sections in the order of printing, with what they are about.
pub const SECTIONS: &[(&str, &str)] = &[
    ("workers", "Event-loop threads. Each has its own ring, connections and clock."),
    ("plugins", "Where plugins are found, and which are refused."),
    ("limits", "Bounds for every connection. A listener may have its own time-outs."),
    ("uring", "The event loop. The defaults suit nearly everybody."),
    ("shutdown", "What happens on SIGTERM and SIGINT."),
    (
        "takeover",
        "Handing the listeners to a new process (`--takeover`) without a refused connection.",
    ),
    ("logging", "The log."),
    ("admin", "The admin server: health, metrics, plugins, configuration."),
];

/// The keys of a `tls` table in the table `$table`.
macro_rules! tls_keys {
    ($table:ty, $prefix:literal, $($field:ident).+) => {
        vec![
            key!($table, concat!($prefix, "tls.cert"), $($field).+.cert,
                "Certificate chain in PEM, the server's own first. With it every connection is encrypted.",
                unset = "not encrypted"; reloads),
            key!($table, concat!($prefix, "tls.key"), $($field).+.key,
                "The certificate's private key in PEM.", unset = "none"; reloads),
            key!($table, concat!($prefix, "tls.client_ca"), $($field).+.client_ca,
                "Authorities in PEM that vouch for clients.",
                unset = "clients show no certificate"; reloads),
            key!($table, concat!($prefix, "tls.client_auth"), $($field).+.client_auth,
                "With client_ca: whether a client may come without a certificate."; reloads),
            key!($table, concat!($prefix, "tls.min_version"), $($field).+.min_version,
                "Oldest version of TLS that is spoken."; reloads),
            key!($table, concat!($prefix, "tls.ciphers"), $($field).+.ciphers,
                "Cipher suites in the order of preference, by their registered names such as TLS_AES_128_GCM_SHA256.",
                unset = "all that are safe"; reloads),
            key!($table, concat!($prefix, "tls.alpn"), $($field).+.alpn,
                "Application protocols that are offered (ALPN).",
                unset = "h2 for momento, else none"; reloads),
            key!($table, concat!($prefix, "tls.handshake_timeout"), $($field).+.handshake_timeout,
                "A handshake must be done after so long."; reloads),
            key!($table, concat!($prefix, "tls.handshakes_max"), $($field).+.handshakes_max,
                "Handshakes under way at once; connections beyond are closed."; reloads),
        ]
    };
}

/// Every key outside listeners and stores.
pub static KEYS: LazyLock<Vec<Key<Settings>>> = LazyLock::new(|| {
    let mut keys = own_keys();
    keys.extend(tls_keys!(Settings, "admin.", admin.tls));
    keys
});

fn own_keys() -> Vec<Key<Settings>> {
    vec![
        key!(
            Settings,
            "workers.threads",
            workers.threads,
            "Number of worker threads, 1 to 256.",
            unset = "one for each CPU that this process may use"
        ),
        key!(
            Settings,
            "workers.cpu_affinity",
            workers.cpu_affinity,
            "CPU of each worker in order, exactly as listed; sets `threads` when that is not given.",
            unset = "workers run where the scheduler puts them"
        ),
        key!(
            Settings,
            "workers.stuck_after",
            workers.stuck_after,
            "A worker that a plugin does not let go for so long is logged with its stack; 0 never looks."
        ),
        key!(
            Settings,
            "plugins.dirs",
            plugins.dirs,
            "Folders that are searched for plugins before CRUCIBLE_PLUGIN_PATH, the program's own folder and /usr/lib/crucible."
        ),
        key!(
            Settings,
            "plugins.layout_report",
            plugins.layout_report,
            "File for the full report when a plugin's data layout differs from the host's.",
            unset = "no report is written"
        ),
        key!(
            Settings,
            "plugins.allow_abort",
            plugins.allow_abort,
            "Accept plugins built with panic = \"abort\": a panic in one then ends the whole process."
        ),
        key!(
            Settings,
            "limits.max_connections",
            limits.max_connections,
            "Connections of all listeners together. Further ones are told so and closed."
        ),
        key!(Settings, "limits.max_connections_per_address", limits.max_connections_per_address,
        "Connections from one IP address; 0 is no limit."; reloads),
        key!(Settings, "limits.idle_timeout", limits.idle_timeout,
        "A connection that has sent nothing for so long is closed; 0 is never."; reloads),
        key!(Settings, "limits.request_timeout", limits.request_timeout,
        "A request that was begun must be whole after so long, plus one second for each 64 KiB of a large value; 0 is no limit."; reloads),
        key!(Settings, "limits.write_timeout", limits.write_timeout,
        "A connection that takes none of its replies for so long, plus one second for each 64 KiB that wait, is closed; 0 is no limit."; reloads),
        key!(
            Settings,
            "limits.input_max",
            limits.input_max,
            "Unprocessed input at which a connection is closed. Large values do not count: they go straight to the store."
        ),
        key!(
            Settings,
            "limits.output_pause",
            limits.output_pause,
            "Replies that wait for the client at which its requests are no longer read."
        ),
        key!(
            Settings,
            "limits.output_resume",
            limits.output_resume,
            "Waiting replies at which they are read again; below output_pause."
        ),
        key!(
            Settings,
            "limits.output_max",
            limits.output_max,
            "Waiting replies at which the connection is closed; above output_pause."
        ),
        key!(Settings, "limits.connection_memory", limits.connection_memory,
        "Unparsed input and unsent replies of all connections together; beyond it those that hold more than their share (and 64 KiB) are closed. 0 is no limit."; reloads),
        key!(
            Settings,
            "limits.by_reference_min",
            limits.by_reference_min,
            "Values at least this long are sent from the store's memory, shorter ones are copied."
        ),
        key!(Settings, "limits.by_reference_timeout", limits.by_reference_timeout,
        "When a client has taken nothing of its replies for so long, the values in them that the store still holds for it are copied, and the store has its memory back; what a zero-copy send has given to the kernel follows when the kernel is done with it. 0 is not before the connection ends."; reloads),
        key!(
            Settings,
            "uring.accept",
            uring.accept,
            "How connections reach the workers. \"reuse-port\" spreads by hash, badly with few connections."
        ),
        key!(
            Settings,
            "uring.backlog",
            uring.backlog,
            "Length of the kernel's queue of connections that are not accepted yet."
        ),
        key!(
            Settings,
            "uring.keepalive",
            uring.keepalive,
            "TCP keep-alive probes after this much silence.",
            unset = "no probes"
        ),
        key!(
            Settings,
            "uring.sq_entries",
            uring.sq_entries,
            "Submission queue entries of a worker, a power of two from 8 to 32768."
        ),
        key!(
            Settings,
            "uring.cq_entries",
            uring.cq_entries,
            "Completion queue entries, a power of two, at least twice sq_entries, at most 65536."
        ),
        key!(
            Settings,
            "uring.recv_buffers",
            uring.recv_buffers,
            "Receive memory that the connections of a worker share."
        ),
        key!(
            Settings,
            "uring.incremental_buffers",
            uring.incremental_buffers,
            "Use incrementally consumed receive buffers where the kernel has them (6.12)."
        ),
        key!(
            Settings,
            "uring.direct_descriptors",
            uring.direct_descriptors,
            "Use the ring's own descriptor table where it pays."
        ),
        key!(
            Settings,
            "uring.zero_copy",
            uring.zero_copy,
            "Zero-copy sends: \"probe\" uses them on connections where the kernel did not copy the first."
        ),
        key!(
            Settings,
            "uring.zero_copy_min",
            uring.zero_copy_min,
            "Parts at least this long may go out zero-copy."
        ),
        key!(
            Settings,
            "uring.min_wait",
            uring.min_wait,
            "Longest wait for a fuller batch once one completion is there, where trials show that \
             waiting saves CPU (kernel 6.12); 0 never waits."
        ),
        key!(
            Settings,
            "uring.busy_poll",
            uring.busy_poll,
            "Spin this long before sleeping; costs a whole CPU for each worker. 0 sleeps at once."
        ),
        key!(
            Settings,
            "uring.sqpoll_idle",
            uring.sqpoll_idle,
            "Let a kernel thread submit, which sleeps after this much idleness. Dearer in most cases.",
            unset = "no kernel thread"
        ),
        key!(
            Settings,
            "shutdown.drain_timeout",
            shutdown.drain_timeout,
            "Longest wait for requests in flight and replies on their way; then connections are cut and the exit code is 1."
        ),
        key!(
            Settings,
            "takeover.socket",
            takeover.socket,
            "Unix socket on which the next process asks for the listeners; only this user and root may.",
            unset = "listeners are not handed over"
        ),
        key!(
            Settings,
            "takeover.grace",
            takeover.grace,
            "After a hand-over: connections are served for so long without accepting more, then drained."
        ),
        key!(Settings, "logging.level", logging.level,
        "Lines above this level are dropped, in the host and in plugins."; reloads),
        key!(Settings, "logging.format", logging.format, "How lines look."),
        key!(Settings, "logging.output", logging.output, "Where lines go."),
        key!(Settings, "logging.slow_after", logging.slow_after,
            "A sampled request (one crossing in 128) that takes so long is logged, with a shortened key and at most a line a second for each worker; 0 logs none."; reloads),
        key!(
            Settings,
            "admin.address",
            admin.address,
            "Where the admin server listens. An address that is not loopback needs token_file.",
            unset = "no admin server"
        ),
        key!(
            Settings,
            "admin.token_file",
            admin.token_file,
            "File with a secret that requests must carry as `Authorization: Bearer SECRET`.",
            unset = "requests carry nothing"
        ),
    ]
}

/// Every key of a listener, besides `users` and `settings`.
pub static LISTENER_KEYS: LazyLock<Vec<Key<Listener>>> = LazyLock::new(|| {
    let mut keys = own_listener_keys();
    keys.extend(tls_keys!(Listener, "", tls));
    keys
});

fn own_listener_keys() -> Vec<Key<Listener>> {
    vec![
        key!(Listener, "protocol", protocol, "Name or file of the protocol's plugin."),
        key!(
            Listener,
            "address",
            address,
            "TCP address. Also `unix:PATH`.",
            unset = "the protocol's usual port on 127.0.0.1, or --bind"
        ),
        key!(
            Listener,
            "unix_socket",
            unix_socket,
            "Path of a unix socket, instead of an address.",
            unset = "TCP"
        ),
        key!(
            Listener,
            "backend",
            backend,
            "Which store: `cache`, or NAME of a [backend.NAME] table.",
            unset = "cache"
        ),
        key!(
            Listener,
            "open",
            open,
            "Everybody may enter who reaches the address; needed where that is not loopback and there are neither users nor client certificates."
        ),
        key!(
            Listener,
            "max_connections",
            max_connections,
            "Connections of this listener.",
            unset = "limits.max_connections"
        ),
        key!(
            Listener,
            "idle_timeout",
            idle_timeout,
            "As limits.idle_timeout, for this listener.",
            unset = "limits.idle_timeout"; reloads
        ),
        key!(
            Listener,
            "request_timeout",
            request_timeout,
            "As limits.request_timeout, for this listener.",
            unset = "limits.request_timeout"; reloads
        ),
        key!(
            Listener,
            "write_timeout",
            write_timeout,
            "As limits.write_timeout, for this listener.",
            unset = "limits.write_timeout"; reloads
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_stands_once_and_in_a_known_section() {
        let mut seen = std::collections::BTreeSet::new();
        for key in KEYS.iter() {
            assert!(seen.insert(key.path), "{} twice", key.path);
            assert!(SECTIONS.iter().any(|(name, _)| *name == key.parts().0), "{}", key.path);
            assert!(key.help.ends_with('.'), "{}: help is a sentence", key.path);
        }
    }

    #[test]
    fn every_default_that_is_shown_is_read_back() {
        let settings = Settings::default();
        for key in KEYS.iter() {
            let Some(text) = (key.show)(&settings) else { continue };
            let table: toml::Table = format!("x = {text}").parse().unwrap();
            let mut other = Settings::default();
            (key.set)(&mut other, &Given::Toml(table["x"].clone())).unwrap();
            assert_eq!((key.show)(&other), Some(text), "{}", key.path);
        }
    }
}
