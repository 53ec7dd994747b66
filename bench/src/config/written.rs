//! What the user wrote: one struct a section, each key optional, read from TOML and from flags alike.
//!
//! Always true: a key exists once, here, and is a flag by construction; unknown keys are refused. Called
//! by `main`; everything else reads the checked [`super::plan::Plan`].

use std::path::{Path, PathBuf};

use super::choices::{
    Arrival, Endpoints, Protocol, Reconnect, Table, Timestamps, TraceFormat, TraceSpeed, Verify,
};
use super::units::{Amount, Span};
use crate::workload::keys::KeyLaw;
use crate::workload::mix::MixText;

/// Defines a section: a struct of optional keys that serde reads from TOML and clap from flags.
macro_rules! section {
    ($(#[$outer:meta])* $name:ident { $($(#[$meta:meta])* $flag:literal $key:ident: $type:ty,)* }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Default, clap::Args, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[$meta])*
                #[arg(id = $flag, long = $flag)]
                #[serde(default, deserialize_with = "super::units::read")]
                pub $key: Option<$type>,
            )*
        }

        impl $name {
            /// The keys of `over` where it has them, this section's where it has not.
            fn overlaid(self, over: Self) -> Self {
                Self { $($key: over.$key.or(self.$key),)* }
            }
            #[cfg(test)]
            pub(super) const KEYS: &'static [&'static str] = &[$(stringify!($key)),*];
        }
    };
}

section! {
    /// How long, on which processors, from which seed.
    General {
        /// Measured time [10s]
        "duration" duration: Span,
        /// Time driven but not counted before the measurement [1s]
        "warmup" warmup: Span,
        /// Worker threads [1]
        "threads" threads: Amount,
        /// Processors to pin the threads to, in order: 2,4-7
        "cpu-list" cpu_list: String,
        /// Seed of every random choice [1]
        "seed" seed: Amount,
        /// Length of a reported interval [1s]
        "interval" interval: Span,
        /// Schedule slip (p99 of sending late while a slot was free) above which the run is void [10ms]
        "slip-limit" slip_limit: Span,
    }
}

section! {
    /// What is measured.
    Target {
        /// host:port, several by commas (memcache keys are spread by ketama) [127.0.0.1:6379]
        #[arg(alias = "target", short = 'e')]
        "endpoints" endpoints: Endpoints,
        /// resp, resp3, memcache, memcache-meta, memcache-binary, momento, momento-grpc, ping [resp]
        "protocol" protocol: Protocol,
        /// Discover a Redis cluster's slots, follow MOVED and ASK [false]
        #[arg(num_args = 0..=1, default_missing_value = "true")]
        "cluster" cluster: bool,
        /// Name of the cache (momento) [default-cache]
        "cache" cache: String,
        /// Token of the cache (momento) [none]
        "token" token: String,
        /// Name to log in with (resp, memcache)
        "username" username: String,
        /// Password to log in with (resp: AUTH or HELLO; memcache: a login store, SASL PLAIN) [none]
        "password" password: String,
        /// Speak through TLS [false]
        #[arg(num_args = 0..=1, default_missing_value = "true")]
        "tls" tls: bool,
        /// PEM file of the authorities that may vouch for the server [the system's]
        "tls-ca" tls_ca: PathBufText,
        /// PEM file of the own certificate, for servers that ask for one
        "tls-certificate" tls_certificate: PathBufText,
        /// PEM file of the own certificate's key
        "tls-key" tls_key: PathBufText,
        /// Name the server's certificate must have [the endpoint's host]
        "tls-server-name" tls_server_name: String,
        /// Accept any certificate [false]
        #[arg(num_args = 0..=1, default_missing_value = "true")]
        "tls-insecure" tls_insecure: bool,
        /// Process id of the server, to report its CPU per request
        "server-pid" server_pid: Amount,
    }
}

section! {
    /// How the generator connects.
    Connection {
        /// Connections over all threads [16]
        #[arg(short = 'c')]
        "connections" connections: Amount,
        /// Requests in flight on a connection at the most [1]
        #[arg(alias = "pipeline", short = 'P')]
        "pipeline-depth" pipeline_depth: Amount,
        /// Longest time to establish a connection [3s]
        "connect-timeout" connect_timeout: Span,
        /// Longest time to wait for a reply; later the connection is closed and the request counted [1s]
        "request-timeout" request_timeout: Span,
        /// Wait before a lost connection is opened again, or `never` [100ms]
        "reconnect" reconnect: Reconnect,
        /// user, or kernel: measure also from the kernel's stamp of sending to that of receiving [user]
        "timestamps" timestamps: Timestamps,
    }
}

section! {
    /// What is asked.
    Workload {
        /// Requests a second over all threads; makes the loop open [closed loop]
        #[arg(alias = "rate", short = 'r')]
        "rate-limit" rate_limit: Amount,
        /// Gaps between requests at a rate: uniform or poisson [uniform]
        "arrival" arrival: Arrival,
        /// Store every key before the run, each confirmed by its reply [true]
        #[arg(num_args = 0..=1, default_missing_value = "true")]
        "prefill" prefill: bool,
        /// Store a key that a get did not find [false]
        #[arg(num_args = 0..=1, default_missing_value = "true")]
        "backfill-on-miss" backfill_on_miss: bool,
        /// Commands with weights, get=90,set=10; a name with a space is a RESP template [get=90,set=10]
        "commands" commands: MixText,
        /// Keys of one mget [10]
        "mget-keys" mget_keys: Amount,
        /// Time to live of stored values: 60s, uniform:10s-60s, trace [none]
        "ttl" ttl: String,
        /// full (content and staleness), content, off [full]
        "verify" verify: Verify,
    }
}

section! {
    /// Which keys.
    Keyspace {
        /// Number of keys [100k]
        #[arg(alias = "keys")]
        "keyspace-count" count: Amount,
        /// Key length in bytes: 32, uniform:16-64, lognormal:MEDIAN:SIGMA:MAX, weighted:16=1,32=2 [16]
        "key-length" length: String,
        /// uniform, zipf:EXPONENT, hotspot:KEYS:REQUESTS, sequential, scan:FRACTION:BASE [uniform]
        "distribution" distribution: KeyLaw,
    }
}

section! {
    /// Which values.
    Values {
        /// Value length in bytes: 64, uniform:16-1KiB, lognormal:MEDIAN:SIGMA:MAX, file:PATH, trace [64]
        #[arg(alias = "size", short = 'd')]
        "value-length" length: String,
    }
}

section! {
    /// A trace to replay in place of drawn requests.
    Trace {
        /// The trace file; .xz, .zst and .gz are read through their programs
        "trace" path: PathBufText,
        /// csv, oracle-general, twitter, kt [by the file's name]
        "trace-format" format: TraceFormat,
        /// fast, timed, or a factor of the recorded speed, as in 2.0 [fast]
        "trace-speed" speed: TraceSpeed,
        /// Replay at most this many requests [all]
        "trace-requests" requests: Amount,
    }
}

section! {
    /// Where results go.
    Output {
        /// JSON lines: a file, or - for standard output
        "json" json: PathBufText,
        /// Parquet file of intervals, for view and compare
        "parquet" parquet: PathBufText,
        /// Address of a Prometheus endpoint while running, as in 127.0.0.1:9400
        "prometheus" prometheus: String,
        /// live, plain, none [live on a terminal, plain otherwise]
        "table" table: Table,
    }
}

section! {
    /// Search for the highest rate that keeps a promise; present keys start it.
    Search {
        /// p50 must stay below
        "slo-p50" p50: Span,
        /// p99 must stay below
        "slo-p99" p99: Span,
        /// p99.9 must stay below
        "slo-p999" p999: Span,
        /// Achieved over intended rate must reach [0.98]
        "slo-achieved" achieved: f64,
        /// First rate tried [1000]
        "search-start" start: Amount,
        /// Highest rate tried [10M]
        "search-max" max: Amount,
        /// Factor between coarse steps [2.0]
        "search-factor" factor: f64,
        /// Measured time of one step [2s]
        "search-step" step: Span,
        /// Stop when the bracket is this narrow, as a fraction [0.05]
        "search-precision" precision: f64,
    }
}

/// A path, read from text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathBufText(pub PathBuf);

impl std::str::FromStr for PathBufText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("the path is empty".into()) } else { Ok(Self(text.into())) }
    }
}

/// The whole of what was written.
#[derive(Debug, Clone, Default, clap::Args, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Written {
    /// `[general]`
    #[command(flatten)]
    pub general: General,
    /// `[target]`
    #[command(flatten)]
    pub target: Target,
    /// `[connection]`
    #[command(flatten)]
    pub connection: Connection,
    /// `[workload]`
    #[command(flatten)]
    pub workload: Workload,
    /// `[keyspace]`
    #[command(flatten)]
    pub keyspace: Keyspace,
    /// `[values]`
    #[command(flatten)]
    pub values: Values,
    /// `[trace]`
    #[command(flatten)]
    pub trace: Trace,
    /// `[output]`
    #[command(flatten)]
    pub output: Output,
    /// `[search]`
    #[command(flatten)]
    pub search: Search,
}

/// Why a config file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file itself.
    #[error("config {path}: {error}")]
    Unreadable {
        /// As given.
        path: PathBuf,
        /// From the system.
        error: std::io::Error,
    },
    /// Its content; the message holds line, key and cause.
    #[error("config {path}: {error}")]
    Malformed {
        /// As given.
        path: PathBuf,
        /// From the TOML reader.
        error: Box<toml::de::Error>,
    },
}

impl Written {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn from_file(path: &Path) -> Result<Self, FileError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| FileError::Unreadable { path: path.into(), error })?;
        toml::from_str(&text)
            .map_err(|error| FileError::Malformed { path: path.into(), error: Box::new(error) })
    }

    /// This, with the keys of `over` (the flags) taking precedence.
    #[must_use]
    pub fn overlaid(self, over: Self) -> Self {
        Self {
            general: self.general.overlaid(over.general),
            target: self.target.overlaid(over.target),
            connection: self.connection.overlaid(over.connection),
            workload: self.workload.overlaid(over.workload),
            keyspace: self.keyspace.overlaid(over.keyspace),
            values: self.values.overlaid(over.values),
            trace: self.trace.overlaid(over.trace),
            output: self.output.overlaid(over.output),
            search: self.search.overlaid(over.search),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../config/example.toml");

    /// The example with every key that is off switched on.
    fn everything() -> String {
        let keys = |line: &&str| !line.starts_with("# ");
        EXAMPLE
            .lines()
            .filter(keys)
            .map(|l| l.strip_prefix('#').unwrap_or(l))
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn the_example_names_every_key_and_every_one_of_its_lines_is_read() {
        let written: Written = toml::from_str(&everything()).unwrap();
        let sections: [(&str, &[&str]); 9] = [
            ("general", General::KEYS),
            ("target", Target::KEYS),
            ("connection", Connection::KEYS),
            ("workload", Workload::KEYS),
            ("keyspace", Keyspace::KEYS),
            ("values", Values::KEYS),
            ("trace", Trace::KEYS),
            ("output", Output::KEYS),
            ("search", Search::KEYS),
        ];
        let table: toml::Table = everything().parse().unwrap();
        for (section, keys) in sections {
            for key in keys {
                assert!(
                    table[section].get(key).is_some(),
                    "{section}.{key} is missing in the example"
                );
            }
        }
        assert_eq!(written.search.factor, Some(2.0));
    }

    #[test]
    fn the_example_as_it_stands_is_a_plan() {
        let written: Written = toml::from_str(EXAMPLE).unwrap();
        crate::config::plan::Plan::new(written).unwrap();
    }

    #[test]
    fn every_key_is_a_flag() {
        use clap::Args;
        let command = Written::augment_args(clap::Command::new("t"));
        let flags = command.get_arguments().filter(|a| a.get_long().is_some()).count();
        let keys = [
            General::KEYS,
            Target::KEYS,
            Connection::KEYS,
            Workload::KEYS,
            Keyspace::KEYS,
            Values::KEYS,
            Trace::KEYS,
            Output::KEYS,
            Search::KEYS,
        ];
        assert_eq!(flags, keys.iter().map(|k| k.len()).sum::<usize>());
    }
}
