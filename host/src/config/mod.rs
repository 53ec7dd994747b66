//! What the user wrote: defaults, then the file, then the environment, then
//! the command line, each through the same tables of keys.
//!
//! What must always be true: a key that is accepted here has exactly one reader
//! in `plan`; everything else is refused with the key, the value, where it
//! stands, and the cure. Called by `main` through [`load`], and by a reload.

pub mod describe;
pub mod keys;
pub mod read;
pub mod value;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use kompio::CpuList;

use value::{
    Accept, Address, ClientAuth, Format, Given, Level, Output, Size, TlsVersion, ZeroCopy,
};

pub use read::{ConfigError, Sources, load};

/// Name of the store that `[cache]` describes.
pub const CACHE: &str = "cache";

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `[workers]`
    pub workers: Workers,
    /// `[cache]` and `[backend.NAME]`, by name.
    pub stores: BTreeMap<String, Store>,
    /// `[[listener]]`; `None` when nobody wrote any.
    pub listeners: Option<Vec<Listener>>,
    /// `[plugins]`
    pub plugins: Plugins,
    /// `[limits]`
    pub limits: Limits,
    /// `[uring]`
    pub uring: Uring,
    /// `[shutdown]`
    pub shutdown: Shutdown,
    /// `[takeover]`
    pub takeover: Takeover,
    /// `[logging]`
    pub logging: Logging,
    /// `[admin]`
    pub admin: Admin,
    /// `--bind`: the host, and perhaps the port, of listeners without address.
    pub bind: Option<String>,
}

/// `[workers]`
#[derive(Clone, Debug)]
pub struct Workers {
    /// Event-loop threads; derived when unset.
    pub threads: Option<usize>,
    /// CPU of each.
    pub cpu_affinity: Option<CpuList>,
    /// The watchdog reports a worker that does not move for so long; zero = never.
    pub stuck_after: Duration,
}

/// `[cache]` or `[backend.NAME]`: which plugin, and its own settings.
#[derive(Clone, Debug)]
pub struct Store {
    /// Name or file of the plugin.
    pub plugin: String,
    /// The plugin's own keys.
    pub settings: BTreeMap<String, Given>,
    /// Where the plugin's keys were written, for error messages.
    pub origin: String,
}

/// `[[listener]]`
#[derive(Clone, Debug, Default)]
pub struct Listener {
    /// Name or file of the protocol's plugin.
    pub protocol: String,
    /// TCP address.
    pub address: Option<Address>,
    /// Path of a unix socket.
    pub unix_socket: Option<PathBuf>,
    /// Which store; `cache` when unset.
    pub backend: Option<String>,
    /// Most connections at once.
    pub max_connections: Option<usize>,
    /// See [`Limits`].
    pub idle_timeout: Option<Duration>,
    /// See [`Limits`].
    pub request_timeout: Option<Duration>,
    /// See [`Limits`].
    pub write_timeout: Option<Duration>,
    /// Users by name, each with a hashed password; everybody may enter
    /// when there are none.
    pub users: BTreeMap<String, String>,
    /// Everybody who reaches the address may enter.
    pub open: bool,
    /// `[listener.tls]`
    pub tls: Tls,
    /// The protocol's own settings.
    pub settings: BTreeMap<String, Given>,
    /// Where it was written, for error messages.
    pub origin: String,
}

/// `[listener.tls]`, `[admin.tls]`
#[derive(Clone, Debug)]
pub struct Tls {
    /// Certificate chain in PEM; encrypted when set.
    pub cert: Option<PathBuf>,
    /// Its private key in PEM.
    pub key: Option<PathBuf>,
    /// Authorities whose clients may enter.
    pub client_ca: Option<PathBuf>,
    /// Whether a client may come without a certificate.
    pub client_auth: ClientAuth,
    /// Oldest version.
    pub min_version: TlsVersion,
    /// Suites in the order of preference.
    pub ciphers: Option<Vec<String>>,
    /// Application protocols.
    pub alpn: Option<Vec<String>>,
    /// Longest handshake.
    pub handshake_timeout: Duration,
    /// Handshakes under way at most.
    pub handshakes_max: usize,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            cert: None,
            key: None,
            client_ca: None,
            client_auth: ClientAuth::Required,
            min_version: TlsVersion::V1_2,
            ciphers: None,
            alpn: None,
            handshake_timeout: Duration::from_secs(10),
            handshakes_max: 1024,
        }
    }
}

/// `[plugins]`
#[derive(Clone, Debug, Default)]
pub struct Plugins {
    /// Folders that are searched before the usual ones.
    pub dirs: Vec<PathBuf>,
    /// Where to write the long report about a plugin whose layout differs.
    pub layout_report: Option<PathBuf>,
    /// Accept plugins that abort the process when they panic.
    pub allow_abort: bool,
}

/// `[limits]`
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections in all.
    pub max_connections: usize,
    /// Connections from one address; 0 = no limit.
    pub max_connections_per_address: usize,
    /// A connection without a request for so long is closed; 0 = never.
    pub idle_timeout: Duration,
    /// A request must be whole after so long; 0 = no limit.
    pub request_timeout: Duration,
    /// Output must move within so long; 0 = no limit.
    pub write_timeout: Duration,
    /// Unread input at which a connection is closed.
    pub input_max: Size,
    /// Unsent output at which a connection is no longer read from.
    pub output_pause: Size,
    /// Unsent output at which it is read from again.
    pub output_resume: Size,
    /// Unsent output at which a connection is closed.
    pub output_max: Size,
    /// Values at least this long are sent from where they lie.
    pub by_reference_min: Size,
    /// A peer that takes nothing for so long holds them no more; 0 = no limit.
    pub by_reference_timeout: Duration,
    /// Unparsed input and unsent replies of all connections; 0 = no limit.
    pub connection_memory: Size,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 65_536,
            max_connections_per_address: 0,
            idle_timeout: Duration::ZERO,
            request_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            input_max: Size(64 << 20),
            output_pause: Size(1 << 20),
            output_resume: Size(256 << 10),
            output_max: Size(1 << 30),
            by_reference_min: Size(16 << 10),
            by_reference_timeout: Duration::from_secs(2),
            connection_memory: Size(0),
        }
    }
}

/// `[uring]`
#[derive(Clone, Debug)]
pub struct Uring {
    /// How connections reach the workers.
    pub accept: Accept,
    /// Length of the kernel's accept queue.
    pub backlog: u32,
    /// TCP keep-alive after this much silence.
    pub keepalive: Option<Duration>,
    /// Submission queue entries.
    pub sq_entries: u32,
    /// Completion queue entries.
    pub cq_entries: u32,
    /// Receive memory of a worker.
    pub recv_buffers: Size,
    /// Incrementally consumed buffers where the kernel has them.
    pub incremental_buffers: bool,
    /// The ring's own descriptor table.
    pub direct_descriptors: bool,
    /// Zero-copy sends.
    pub zero_copy: ZeroCopy,
    /// From this part length on.
    pub zero_copy_min: Size,
    /// Longest wait for a fuller batch.
    pub min_wait: Duration,
    /// Spin before sleeping.
    pub busy_poll: Duration,
    /// Kernel submission thread.
    pub sqpoll_idle: Option<Duration>,
}

/// `[shutdown]`
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// Longest wait for connections to finish.
    pub drain_timeout: Duration,
}

/// `[takeover]`
#[derive(Clone, Debug)]
pub struct Takeover {
    /// Where the next process asks for the listeners.
    pub socket: Option<PathBuf>,
    /// Time between the last accept and the drain.
    pub grace: Duration,
}

/// `[logging]`
#[derive(Clone, Debug)]
pub struct Logging {
    /// Lines above this are dropped.
    pub level: Level,
    /// How lines look.
    pub format: Format,
    /// Where they go.
    pub output: Output,
    /// A sampled request that takes at least so long is logged; zero = none.
    pub slow_after: Duration,
}

/// `[admin]`
#[derive(Clone, Debug, Default)]
pub struct Admin {
    /// Where the admin server listens; nowhere when unset.
    pub address: Option<Address>,
    /// What requests must carry.
    pub token_file: Option<PathBuf>,
    /// `[admin.tls]`
    pub tls: Tls,
}

impl Default for Settings {
    fn default() -> Self {
        let kompio = kompio::Config::default();
        let cache = Store {
            plugin: "segcache".into(),
            settings: BTreeMap::new(),
            origin: "the defaults".into(),
        };
        Self {
            workers: Workers {
                threads: None,
                cpu_affinity: None,
                stuck_after: Duration::from_secs(5),
            },
            stores: BTreeMap::from([(CACHE.to_owned(), cache)]),
            listeners: None,
            plugins: Plugins::default(),
            limits: Limits::default(),
            uring: Uring {
                accept: Accept::RoundRobin,
                backlog: kompio.backlog,
                keepalive: Some(Duration::from_secs(300)),
                sq_entries: kompio.sq_entries,
                cq_entries: kompio.cq_entries,
                recv_buffers: Size(kompio.recv_ring_bytes as u64),
                incremental_buffers: kompio.incremental_buffers,
                direct_descriptors: kompio.direct_descriptors,
                zero_copy: ZeroCopy::Probe,
                zero_copy_min: Size(kompio.zero_copy_part_bytes_min as u64),
                min_wait: Duration::from_micros(u64::from(kompio.min_wait_us)),
                busy_poll: Duration::ZERO,
                sqpoll_idle: None,
            },
            shutdown: Shutdown { drain_timeout: Duration::from_secs(10) },
            takeover: Takeover { socket: None, grace: Duration::from_secs(1) },
            logging: Logging {
                level: Level::Info,
                format: Format::Compact,
                output: Output::Stderr,
                slow_after: Duration::from_millis(100),
            },
            admin: Admin::default(),
            bind: None,
        }
    }
}
