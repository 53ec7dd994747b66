//! The checked plan: every value present, every contradiction refused before a socket is opened.
//!
//! Always true: a `Plan` can be carried out as it stands. Called by `main`; read by everything.

mod error;
mod search;
mod target;
mod threads;
mod trace;
mod words;
mod workload;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::choices::{
    Arrival, Protocol, Reconnect, Table, Timestamps, TraceFormat, TraceSpeed, Verify,
};
use super::units::{Amount, Span, bytes, seconds};
use super::written::Written;
use crate::wire::Login;
use crate::workload::keys::KeyLaw;
use crate::workload::ledger::ENTRY_LEN_BYTES;
use crate::workload::mix::{Mix, Verb};
use crate::workload::spread::Spread;
pub use error::PlanError;
use error::{DAY, amount, impossible, ms, span};
pub use workload::key_len_bytes_min;

/// Most worker threads.
pub const THREADS_MAX: u64 = 256;
/// Most connections over all threads.
pub const CONNECTIONS_MAX: u64 = 100_000;
/// Most requests in flight on a connection.
pub const PIPELINE_DEPTH_MAX: u64 = 4096;
/// Most calls in flight on a gRPC connection: what HTTP/2 recommends servers to allow at the least.
pub const GRPC_DEPTH_MAX: u64 = 100;
/// Longest key of the memcache protocols.
pub const MEMCACHE_KEY_LEN_BYTES_MAX: u64 = 250;
/// Longest key elsewhere.
pub const KEY_LEN_BYTES_MAX: u64 = 16 << 10;
/// Longest value (what Redis takes).
pub const VALUE_LEN_BYTES_MAX: u64 = 512 << 20;
/// Most keys of one mget.
pub const MGET_KEYS_MAX: u64 = 100;
/// Memory that versions of keys may take with `verify = "full"`.
pub const LEDGER_LEN_BYTES_MAX: u64 = 2 << 30;
/// Memory that requests in flight may take: connections × pipeline_depth × longest value.
pub const FLIGHT_LEN_BYTES_MAX: u64 = 8 << 30;
/// Most keys of a key space.
pub const KEYS_MAX: u64 = 10_000_000_000;

/// A server to talk to.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// As written; ketama hashes this text.
    pub name: String,
    /// Where it is.
    pub address: SocketAddr,
}

/// How the connections are sealed.
#[derive(Debug, Clone)]
pub struct TlsPlan {
    /// Authorities, instead of the system's.
    pub ca: Option<PathBuf>,
    /// The own certificate.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// The name that the certificate must have, instead of the endpoint's host.
    pub server_name: Option<String>,
    /// Any certificate will do.
    pub insecure: bool,
}

/// A trace to replay.
#[derive(Debug, Clone)]
pub struct TracePlan {
    /// The file.
    pub path: PathBuf,
    /// Its format.
    pub format: TraceFormat,
    /// When its requests are sent.
    pub speed: TraceSpeed,
    /// How many of them at the most.
    pub requests_max: u64,
}

/// A search for the highest rate within a promise.
#[derive(Debug, Clone)]
pub struct SearchPlan {
    /// Limits on p50, p99 and p99.9.
    pub p50: Option<Duration>,
    /// See `p50`.
    pub p99: Option<Duration>,
    /// See `p50`.
    pub p999: Option<Duration>,
    /// Least achieved over intended rate.
    pub achieved: f64,
    /// First and highest rate tried.
    pub start: u64,
    /// See `start`.
    pub max: u64,
    /// Between coarse steps.
    pub factor: f64,
    /// Measured time of a step.
    pub step: Duration,
    /// Width of the final bracket as a fraction.
    pub precision: f64,
}

/// Everything a run needs to know.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the fields are the config's keys, documented there")]
pub struct Plan {
    pub duration: Duration,
    pub warmup: Duration,
    pub interval: Duration,
    pub threads: usize,
    /// One processor for each thread, or empty for unpinned threads.
    pub cpus: Vec<usize>,
    pub seed: u64,
    pub slip_limit: Duration,
    pub endpoints: Vec<Endpoint>,
    pub protocol: Protocol,
    pub cluster: bool,
    pub login: std::sync::Arc<Login>,
    pub tls: Option<TlsPlan>,
    pub server_pid: Option<u32>,
    pub connections: usize,
    pub pipeline_depth: usize,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
    pub reconnect: Reconnect,
    pub timestamps: Timestamps,
    pub rate: Option<u64>,
    pub arrival: Arrival,
    pub prefill: bool,
    pub backfill_on_miss: bool,
    pub mix: Mix,
    pub mget_keys: usize,
    pub ttl: Option<Spread>,
    pub verify: Verify,
    pub key_count: u64,
    pub key_length: Spread,
    pub law: KeyLaw,
    pub value_length: Spread,
    pub trace: Option<TracePlan>,
    pub json: Option<PathBuf>,
    pub parquet: Option<PathBuf>,
    pub prometheus: Option<SocketAddr>,
    pub table: Option<Table>,
    pub search: Option<SearchPlan>,
    /// The effective config as text pairs, for result files.
    pub described: Vec<(String, String)>,
}

impl Protocol {
    /// RESP2 or RESP3.
    #[must_use]
    pub fn is_resp(self) -> bool {
        matches!(self, Self::Resp | Self::Resp3)
    }

    /// One of Momento's.
    #[must_use]
    pub fn is_momento(self) -> bool {
        matches!(self, Self::Momento | Self::MomentoGrpc)
    }

    /// One of memcached's.
    #[must_use]
    pub fn is_memcache(self) -> bool {
        matches!(self, Self::McText | Self::McMeta | Self::McBinary)
    }
}

impl Plan {
    /// Checks what was written.
    ///
    /// # Errors
    /// The first contradiction or impossible value, as a sentence that names its key.
    pub fn new(written: Written) -> Result<Self, PlanError> {
        let Written {
            general,
            target,
            connection,
            workload,
            keyspace,
            values,
            trace,
            output,
            search,
        } = written;
        let protocol = target.protocol.unwrap_or(Protocol::Resp);

        let cpus =
            general.cpu_list.as_deref().map(threads::cpu_list).transpose()?.unwrap_or_default();
        let threads_default = cpus.len().max(1) as u64;
        let threads =
            amount("general.threads", general.threads, threads_default, 1, THREADS_MAX)? as usize;
        if !cpus.is_empty() && cpus.len() != threads {
            let why =
                format!("{threads} threads need as many processors, {} are listed", cpus.len());
            return Err(impossible("general.cpu_list", general.cpu_list.unwrap_or_default(), why));
        }
        let connections = amount(
            "connection.connections",
            connection.connections,
            16.max(threads as u64),
            1,
            CONNECTIONS_MAX,
        )?;
        if connections < threads as u64 {
            let why = format!("{threads} threads need a connection each");
            return Err(impossible("connection.connections", connections, why));
        }
        let pipeline_depth = amount(
            "connection.pipeline_depth",
            connection.pipeline_depth,
            1,
            1,
            PIPELINE_DEPTH_MAX,
        )?;

        let endpoints = target::resolve(target.endpoints.as_ref())?;
        let cluster = target.cluster.unwrap_or(false);
        if endpoints.len() > 1 && !protocol.is_memcache() && !cluster {
            let why = format!(
                "several endpoints are spread by ketama for memcache, or found with target.cluster; not for {protocol}"
            );
            return Err(impossible("target.endpoints", endpoints.len(), why));
        }
        target::check(&target, protocol)?;
        let tls = target::tls(&target)?;
        let timestamps = connection.timestamps.unwrap_or(Timestamps::User);
        if timestamps == Timestamps::Kernel && protocol == Protocol::MomentoGrpc {
            let why = "the kernel does not see where a call of HTTP/2 ends";
            return Err(impossible("connection.timestamps", timestamps, why));
        }
        if timestamps == Timestamps::Kernel && tls.is_some() {
            return Err(PlanError::Conflict {
                one: "connection.timestamps = kernel",
                other: "target.tls",
                why: "the kernel does not see where a sealed request ends",
            });
        }
        if protocol == Protocol::MomentoGrpc && pipeline_depth > GRPC_DEPTH_MAX {
            let why = format!("servers allow {GRPC_DEPTH_MAX} calls of one connection at a time");
            return Err(impossible("connection.pipeline_depth", pipeline_depth, why));
        }
        if cluster && !protocol.is_resp() {
            return Err(impossible("target.cluster", true, format!("{protocol} has no cluster")));
        }

        let least = (threads * endpoints.len()) as u64;
        if connections < least {
            let why = format!("{threads} threads × {} endpoints need {least}", endpoints.len());
            return Err(impossible("connection.connections", connections, why));
        }

        let search = search::plan(&search)?;
        if search.is_some() && workload.rate_limit.is_some() {
            return Err(PlanError::Conflict {
                one: "search",
                other: "workload.rate_limit",
                why: "the search chooses the rates",
            });
        }
        let rate = workload
            .rate_limit
            .map(|_| amount("workload.rate_limit", workload.rate_limit, 0, 1, 1_000_000_000))
            .transpose()?;
        if workload.arrival.is_some() && rate.is_none() && search.is_none() {
            return Err(PlanError::Missing {
                key: "workload.arrival".into(),
                missing: "workload.rate_limit",
                why: "a closed loop has no arrivals",
            });
        }

        let key_count = amount("keyspace.count", keyspace.count, 100_000, 1, KEYS_MAX)?;
        let key_length = workload::parse_spread(
            "keyspace.length",
            keyspace.length.as_deref().unwrap_or("16"),
            bytes,
        )?;
        workload::check_key_length(
            &key_length,
            key_count,
            protocol,
            trace.path.is_some(),
            keyspace.length.as_deref(),
        )?;
        let value_text =
            values.length.as_deref().unwrap_or(if trace.path.is_some() { "trace" } else { "64" });
        let value_length = workload::parse_spread("values.length", value_text, bytes)?;
        if let Some((_, high)) = value_length.bounds() {
            if high > VALUE_LEN_BYTES_MAX {
                return Err(impossible(
                    "values.length",
                    value_text,
                    format!("{high} bytes are above the limit of {VALUE_LEN_BYTES_MAX}"),
                ));
            }
            let flight = connections.saturating_mul(pipeline_depth).saturating_mul(high);
            if flight > FLIGHT_LEN_BYTES_MAX {
                let why = format!(
                    "{connections} connections × {pipeline_depth} in flight × {high} bytes may hold {flight} bytes in memory, \
                     above the limit of {FLIGHT_LEN_BYTES_MAX}; lower one of them"
                );
                return Err(impossible("values.length", value_text, why));
            }
        }
        let ttl = workload
            .ttl
            .as_deref()
            .map(|t| workload::parse_spread("workload.ttl", t, seconds))
            .transpose()?;
        if ttl.as_ref().and_then(Spread::bounds).is_some_and(|(low, _)| low == 0) {
            return Err(impossible(
                "workload.ttl",
                workload.ttl.unwrap_or_default(),
                "a time to live of 0 deletes; leave the key out for none",
            ));
        }

        let trace = trace::plan(&trace)?;
        match &trace {
            None => workload::check_without_trace(&[
                ("values.length", Some(&value_length)),
                ("workload.ttl", ttl.as_ref()),
                ("keyspace.length", Some(&key_length)),
            ])?,
            Some(trace) => trace::check_alone(trace, &workload, &keyspace, search.is_some())?,
        }

        let mix_text = match (&workload.commands, protocol) {
            (Some(mix), _) => mix.clone(),
            (None, Protocol::Ping) => "ping=1".parse().expect("a valid mix"),
            (None, _) => "get=90,set=10".parse().expect("a valid mix"),
        };
        let mix =
            Mix::new(&mix_text).map_err(|why| impossible("workload.commands", &mix_text, why))?;
        workload::check_mix(&mix, protocol, &endpoints, cluster, ttl.is_some())?;
        let reads = trace.is_some() || mix.verbs().any(|v| matches!(v, Verb::Get | Verb::MGet));
        let backfill_on_miss = workload.backfill_on_miss.unwrap_or(false);
        if backfill_on_miss && !reads {
            return Err(PlanError::Missing {
                key: "workload.backfill_on_miss".into(),
                missing: "get or mget in workload.commands",
                why: "nothing is read",
            });
        }
        let mget_keys = amount("workload.mget_keys", workload.mget_keys, 10, 1, MGET_KEYS_MAX)?;
        if workload.mget_keys.is_some() && !mix.verbs().any(|v| v == Verb::MGet) {
            return Err(PlanError::Missing {
                key: "workload.mget_keys".into(),
                missing: "mget in workload.commands",
                why: "no request has several keys",
            });
        }

        let verify = workload.verify.unwrap_or(if protocol == Protocol::Ping {
            Verify::Off
        } else {
            Verify::Full
        });
        if verify == Verify::Full
            && trace.is_none()
            && key_count * ENTRY_LEN_BYTES > LEDGER_LEN_BYTES_MAX
        {
            let why = format!(
                "versions of {key_count} keys take {} bytes, above the limit of {LEDGER_LEN_BYTES_MAX}; write verify = \"content\"",
                key_count * ENTRY_LEN_BYTES
            );
            return Err(impossible("workload.verify", verify, why));
        }
        let prefill_default = trace.is_none() && protocol != Protocol::Ping;
        let prefill = workload.prefill.unwrap_or(prefill_default);
        if prefill && protocol == Protocol::Ping {
            return Err(impossible("workload.prefill", true, "ping stores nothing"));
        }

        let prometheus = output
            .prometheus
            .as_deref()
            .map(|text| {
                text.parse().map_err(|_| {
                    impossible(
                        "output.prometheus",
                        text,
                        "must be ADDRESS:PORT, as in 127.0.0.1:9400",
                    )
                })
            })
            .transpose()?;
        // A trace counts from its first request.
        let warmup_default = if trace.is_some() { ms(0) } else { ms(1_000) };
        let mut plan = Self {
            duration: span("general.duration", general.duration, ms(10_000), ms(1), DAY)?,
            warmup: span("general.warmup", general.warmup, warmup_default, ms(0), DAY)?,
            interval: span("general.interval", general.interval, ms(1_000), ms(10), ms(3_600_000))?,
            threads,
            cpus,
            seed: general.seed.map_or(1, |Amount(n)| n),
            slip_limit: span(
                "general.slip_limit",
                general.slip_limit,
                ms(10),
                Span(Duration::from_micros(10)),
                ms(60_000),
            )?,
            endpoints,
            protocol,
            cluster,
            login: std::sync::Arc::new(Login {
                cache: target.cache.unwrap_or_else(|| "default-cache".into()),
                token: target.token.unwrap_or_default(),
                username: target.username.unwrap_or_default(),
                password: target.password.unwrap_or_default(),
            }),
            tls,
            server_pid: target
                .server_pid
                .map(|_| amount("target.server_pid", target.server_pid, 0, 1, i32::MAX as u64))
                .transpose()?
                .map(|n| n as u32),
            connections: connections as usize,
            pipeline_depth: pipeline_depth as usize,
            connect_timeout: span(
                "connection.connect_timeout",
                connection.connect_timeout,
                ms(3_000),
                ms(1),
                ms(600_000),
            )?,
            request_timeout: span(
                "connection.request_timeout",
                connection.request_timeout,
                ms(1_000),
                ms(1),
                ms(100_000),
            )?,
            reconnect: connection.reconnect.unwrap_or(Reconnect::After(Duration::from_millis(100))),
            timestamps,
            rate,
            arrival: workload.arrival.unwrap_or(Arrival::Uniform),
            prefill,
            backfill_on_miss,
            mix,
            mget_keys: mget_keys as usize,
            ttl,
            verify,
            key_count,
            key_length,
            law: keyspace.distribution.unwrap_or(KeyLaw::Uniform),
            value_length,
            trace,
            json: output.json.map(|p| p.0),
            parquet: output.parquet.map(|p| p.0),
            prometheus,
            table: output.table,
            search,
            described: Vec::new(),
        };
        if let Some(pid) = plan.server_pid
            && !std::path::Path::new(&format!("/proc/{pid}/stat")).exists()
        {
            return Err(impossible("target.server_pid", pid, "no such process on this machine"));
        }
        plan.described = plan.describe(
            &mix_text.to_string(),
            value_text,
            keyspace.length.as_deref().unwrap_or("16"),
            workload.ttl.as_deref(),
        );
        Ok(plan)
    }
}

#[cfg(test)]
mod tests;
