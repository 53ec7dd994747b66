//! The checked plan: every value present, every contradiction refused before a socket is opened.
//!
//! Always true: a `Plan` can be carried out as it stands. Called by `main`; read by everything.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use super::choices::{
    Arrival, Endpoints, Protocol, Reconnect, Table, Timestamps, TraceFormat, TraceSpeed, Verify,
};
use super::units::{Amount, Span, bytes, seconds};
use super::written::Written;
use crate::wire::Login;
use crate::workload::keys::KeyLaw;
use crate::workload::ledger::ENTRY_LEN_BYTES;
use crate::workload::mix::{Mix, Verb};
use crate::workload::spread::Spread;

/// Most worker threads.
pub const THREADS_MAX: u64 = 256;
/// Most connections over all threads.
pub const CONNECTIONS_MAX: u64 = 100_000;
/// Most requests in flight on a connection.
pub const PIPELINE_DEPTH_MAX: u64 = 4096;
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

/// Why what was written cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A key's value is impossible.
    #[error("{key} = {value}: {why}")]
    Impossible {
        /// The key, with its section.
        key: &'static str,
        /// As written.
        value: String,
        /// What is wrong and what would do.
        why: String,
    },
    /// Two keys contradict each other.
    #[error("{one} and {other} exclude each other: {why}")]
    Conflict {
        /// One key.
        one: &'static str,
        /// The other.
        other: &'static str,
        /// Why.
        why: &'static str,
    },
    /// A key needs another one.
    #[error("{key} needs {missing}: {why}")]
    Missing {
        /// The key that was written.
        key: String,
        /// The key that was not.
        missing: &'static str,
        /// Why.
        why: &'static str,
    },
    /// An endpoint's name has no address.
    #[error("target.endpoints: `{endpoint}` has no address: {error}")]
    Unresolved {
        /// As written.
        endpoint: String,
        /// From the resolver.
        error: String,
    },
}

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

fn impossible(key: &'static str, value: impl ToString, why: impl Into<String>) -> PlanError {
    PlanError::Impossible { key, value: value.to_string(), why: why.into() }
}

fn amount(
    key: &'static str,
    written: Option<Amount>,
    default: u64,
    low: u64,
    high: u64,
) -> Result<u64, PlanError> {
    let Amount(n) = written.unwrap_or(Amount(default));
    if (low..=high).contains(&n) {
        return Ok(n);
    }
    Err(impossible(key, n, format!("must lie between {low} and {high}")))
}

fn span(
    key: &'static str,
    written: Option<Span>,
    default: Span,
    low: Span,
    high: Span,
) -> Result<Duration, PlanError> {
    let span = written.unwrap_or(default);
    if span >= low && span <= high {
        return Ok(span.0);
    }
    Err(impossible(key, span, format!("must lie between {low} and {high}")))
}

const fn ms(n: u64) -> Span {
    Span(Duration::from_millis(n))
}

const DAY: Span = Span(Duration::from_secs(86_400));

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

        let cpus = general.cpu_list.as_deref().map(cpu_list).transpose()?.unwrap_or_default();
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

        let endpoints = resolve(target.endpoints.as_ref())?;
        let cluster = target.cluster.unwrap_or(false);
        if endpoints.len() > 1 && !protocol.is_memcache() && !cluster {
            let why = format!(
                "several endpoints are spread by ketama for memcache, or found with target.cluster; not for {protocol}"
            );
            return Err(impossible("target.endpoints", endpoints.len(), why));
        }
        for (key, present) in
            [("target.cache", target.cache.is_some()), ("target.token", target.token.is_some())]
        {
            if present && !protocol.is_momento() {
                return Err(impossible(key, "…", format!("only momento has it, not {protocol}")));
            }
        }
        check_login(&target, protocol)?;
        for (key, value) in [("target.cache", &target.cache), ("target.token", &target.token)] {
            let visible = |text: &String| text.bytes().all(|b| (0x20..0x7f).contains(&b));
            if protocol == Protocol::MomentoGrpc && !value.as_ref().is_none_or(visible) {
                return Err(impossible(
                    key,
                    "…",
                    "gRPC carries it in a header: printable ASCII only",
                ));
            }
        }
        let tls = tls_plan(&target)?;
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
        if protocol.is_momento() && pipeline_depth > 1 {
            let why = "momento may answer in any order: give it more connections instead";
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

        let search = search_plan(&search)?;
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
        let key_length =
            parse_spread("keyspace.length", keyspace.length.as_deref().unwrap_or("16"), bytes)?;
        check_key_length(
            &key_length,
            key_count,
            protocol,
            trace.path.is_some(),
            keyspace.length.as_deref(),
        )?;
        let value_text =
            values.length.as_deref().unwrap_or(if trace.path.is_some() { "trace" } else { "64" });
        let value_length = parse_spread("values.length", value_text, bytes)?;
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
            .map(|t| parse_spread("workload.ttl", t, seconds))
            .transpose()?;
        if ttl.as_ref().and_then(Spread::bounds).is_some_and(|(low, _)| low == 0) {
            return Err(impossible(
                "workload.ttl",
                workload.ttl.unwrap_or_default(),
                "a time to live of 0 deletes; leave the key out for none",
            ));
        }

        let trace = trace_plan(&trace)?;
        if trace.is_none() {
            for (key, spread) in [
                ("values.length", Some(&value_length)),
                ("workload.ttl", ttl.as_ref()),
                ("keyspace.length", Some(&key_length)),
            ] {
                if spread == Some(&Spread::Trace) {
                    return Err(PlanError::Missing {
                        key: format!("{key} = trace"),
                        missing: "trace.path",
                        why: "there is no trace to take it from",
                    });
                }
            }
        } else {
            let clash = |present: bool, one| {
                if present {
                    Err(PlanError::Conflict { one, other: "trace.path", why: "the trace says it" })
                } else {
                    Ok(())
                }
            };
            clash(workload.commands.is_some(), "workload.commands")?;
            clash(keyspace.distribution.is_some(), "keyspace.distribution")?;
            clash(keyspace.count.is_some(), "keyspace.count")?;
            clash(search.is_some(), "search")?;
            if workload.prefill == Some(true) {
                return Err(PlanError::Conflict {
                    one: "workload.prefill",
                    other: "trace.path",
                    why: "a trace starts on what its own requests store; use backfill_on_miss",
                });
            }
            if rate.is_some()
                && matches!(trace.as_ref().map(|t| t.speed), Some(TraceSpeed::Timed(_)))
            {
                return Err(PlanError::Conflict {
                    one: "workload.rate_limit",
                    other: "trace.speed",
                    why: "the recorded times are the rate",
                });
            }
        }

        let mix_text = match (&workload.commands, protocol) {
            (Some(mix), _) => mix.clone(),
            (None, Protocol::Ping) => "ping=1".parse().expect("a valid mix"),
            (None, _) => "get=90,set=10".parse().expect("a valid mix"),
        };
        let mix =
            Mix::new(&mix_text).map_err(|why| impossible("workload.commands", &mix_text, why))?;
        check_mix(&mix, protocol, &endpoints, cluster, ttl.is_some())?;
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

    /// How requests are paced, in words that say what the latencies mean.
    #[must_use]
    pub fn loop_words(&self) -> String {
        match (self.rate, self.trace.as_ref().map(|t| t.speed)) {
            (_, Some(TraceSpeed::Timed(factor))) => {
                format!("open loop, recorded times at {factor}x")
            }
            (Some(rate), _) => format!("open loop at {rate}/s ({} arrivals)", self.arrival),
            (None, _) if self.search.is_some() => "open loop at the rates of the search".into(),
            (None, _) => {
                "closed loop: latency is of the requests that were sent, not of a schedule".into()
            }
        }
    }

    fn describe(
        &self,
        mix: &str,
        values: &str,
        keys: &str,
        ttl: Option<&str>,
    ) -> Vec<(String, String)> {
        let endpoints: Vec<_> = self.endpoints.iter().map(|e| e.name.as_str()).collect();
        let mut pairs = vec![
            ("endpoints", endpoints.join(",")),
            ("protocol", self.protocol.to_string()),
            ("tls", self.tls.is_some().to_string()),
            ("loop", self.loop_words()),
            ("duration", Span(self.duration).to_string()),
            ("warmup", Span(self.warmup).to_string()),
            ("threads", self.threads.to_string()),
            ("connections", self.connections.to_string()),
            ("pipeline_depth", self.pipeline_depth.to_string()),
            ("request_timeout", Span(self.request_timeout).to_string()),
            ("timestamps", self.timestamps.to_string()),
            ("verify", self.verify.to_string()),
            ("seed", self.seed.to_string()),
            ("key_length", keys.to_owned()),
            ("value_length", values.to_owned()),
            ("ttl", ttl.unwrap_or("none").to_owned()),
            ("prefill", self.prefill.to_string()),
            ("backfill_on_miss", self.backfill_on_miss.to_string()),
        ];
        if let Some(trace) = &self.trace {
            pairs.push(("trace", trace.path.display().to_string()));
        } else {
            pairs.push(("commands", mix.to_owned()));
            pairs.push(("keys", self.key_count.to_string()));
            pairs.push(("distribution", self.law.to_string()));
        }
        if !self.cpus.is_empty() {
            pairs.push(("cpu_list", format!("{:?}", self.cpus)));
        }
        pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
    }
}

fn check_login(target: &super::written::Target, protocol: Protocol) -> Result<(), PlanError> {
    let (name, password) = (target.username.is_some(), target.password.is_some());
    let has = protocol.is_resp() || protocol.is_memcache();
    for (key, present) in [("target.username", name), ("target.password", password)] {
        if present && !has {
            return Err(impossible(key, "…", format!("{protocol} has no login")));
        }
    }
    let missing = |key: &str, missing, why| PlanError::Missing { key: key.into(), missing, why };
    match (name, password) {
        (true, false) => {
            Err(missing("target.username", "target.password", "a name alone opens nothing"))
        }
        (false, true) if protocol.is_memcache() => {
            Err(missing("target.password", "target.username", "memcache has no nameless login"))
        }
        _ => Ok(()),
    }
}

fn tls_plan(target: &super::written::Target) -> Result<Option<TlsPlan>, PlanError> {
    let path = |path: &Option<super::written::PathBufText>| path.as_ref().map(|p| p.0.clone());
    if target.tls != Some(true) {
        for (key, present) in [
            ("target.tls_ca", target.tls_ca.is_some()),
            ("target.tls_certificate", target.tls_certificate.is_some()),
            ("target.tls_key", target.tls_key.is_some()),
            ("target.tls_server_name", target.tls_server_name.is_some()),
            ("target.tls_insecure", target.tls_insecure == Some(true)),
        ] {
            if present {
                let why = "nothing is sealed without it";
                return Err(PlanError::Missing { key: key.into(), missing: "target.tls", why });
            }
        }
        return Ok(None);
    }
    if target.tls_certificate.is_some() != target.tls_key.is_some() {
        let (key, missing) = match target.tls_key {
            None => ("target.tls_certificate", "target.tls_key"),
            Some(_) => ("target.tls_key", "target.tls_certificate"),
        };
        return Err(PlanError::Missing { key: key.into(), missing, why: "one proves the other" });
    }
    if target.tls_insecure == Some(true) && target.tls_ca.is_some() {
        return Err(PlanError::Conflict {
            one: "target.tls_insecure",
            other: "target.tls_ca",
            why: "either any certificate will do or the authority's",
        });
    }
    Ok(Some(TlsPlan {
        ca: path(&target.tls_ca),
        certificate: path(&target.tls_certificate),
        key: path(&target.tls_key),
        server_name: target.tls_server_name.clone(),
        insecure: target.tls_insecure == Some(true),
    }))
}

fn parse_spread(
    key: &'static str,
    text: &str,
    unit: fn(&str) -> Result<u64, String>,
) -> Result<Spread, PlanError> {
    Spread::parse(text, unit).map_err(|why| impossible(key, text, why))
}

fn cpu_list(text: &str) -> Result<Vec<usize>, PlanError> {
    let bad = || impossible("general.cpu_list", text, "must be like 2,4-7");
    let mut cpus = Vec::new();
    for item in text.split(',') {
        let (low, high) = item.trim().split_once('-').unwrap_or((item.trim(), item.trim()));
        let number = |text: &str| text.parse::<usize>().map_err(|_| bad());
        let (low, high) = (number(low)?, number(high)?);
        if low > high || high > 4095 {
            return Err(bad());
        }
        cpus.extend(low..=high);
    }
    let online = std::thread::available_parallelism().map_or(usize::MAX, usize::from);
    if let Some(cpu) = cpus
        .iter()
        .find(|c| !std::path::Path::new(&format!("/sys/devices/system/cpu/cpu{c}")).exists())
    {
        return Err(impossible(
            "general.cpu_list",
            text,
            format!("processor {cpu} does not exist ({online} do)"),
        ));
    }
    Ok(cpus)
}

fn resolve(written: Option<&Endpoints>) -> Result<Vec<Endpoint>, PlanError> {
    let default = Endpoints(vec!["127.0.0.1:6379".into()]);
    let list = &written.unwrap_or(&default).0;
    let resolved = list.iter().map(|name| {
        let addresses = name
            .to_socket_addrs()
            .map_err(|e| PlanError::Unresolved { endpoint: name.clone(), error: e.to_string() })?;
        // IPv4 first, as servers that listen on one family usually do.
        let address =
            addresses.min_by_key(SocketAddr::is_ipv6).ok_or_else(|| PlanError::Unresolved {
                endpoint: name.clone(),
                error: "the name has no address".into(),
            })?;
        Ok(Endpoint { name: name.clone(), address })
    });
    resolved.collect()
}

fn check_key_length(
    spread: &Spread,
    count: u64,
    protocol: Protocol,
    traced: bool,
    written: Option<&str>,
) -> Result<(), PlanError> {
    let limit = if protocol.is_memcache() { MEMCACHE_KEY_LEN_BYTES_MAX } else { KEY_LEN_BYTES_MAX };
    let Some((low, high)) = spread.bounds() else { return Ok(()) };
    if high > limit {
        return Err(impossible(
            "keyspace.length",
            written.unwrap_or("16"),
            format!("{high} bytes are above {protocol}'s limit of {limit}"),
        ));
    }
    let needed = key_len_bytes_min(if traced { u64::from(u32::MAX) } else { count });
    if low < needed {
        let why = format!(
            "keys of {low} bytes cannot all differ: {count} keys need {needed} (one letter and the number)"
        );
        return Err(impossible("keyspace.length", written.unwrap_or("16"), why));
    }
    Ok(())
}

/// The shortest key that can tell `count` keys apart: a letter and the decimal id.
#[must_use]
pub fn key_len_bytes_min(count: u64) -> u64 {
    1 + u64::from(count.saturating_sub(1).checked_ilog10().unwrap_or(0)) + 1
}

fn check_mix(
    mix: &Mix,
    protocol: Protocol,
    endpoints: &[Endpoint],
    cluster: bool,
    ttl: bool,
) -> Result<(), PlanError> {
    for verb in mix.verbs() {
        let name = mix.name(verb).to_owned();
        let refuse = |why: String| Err(impossible("workload.commands", &name, why));
        match verb {
            _ if protocol == Protocol::Ping && verb != Verb::Ping => {
                return refuse("the ping protocol has only ping".into());
            }
            _ if protocol.is_momento() && !matches!(verb, Verb::Get | Verb::Set | Verb::Delete) => {
                return refuse(
                    "momento has get, set and delete: its protosocket and these gRPC calls".into(),
                );
            }
            Verb::Ping if protocol.is_memcache() => {
                return refuse(format!("{protocol} has no ping"));
            }
            Verb::Cas if protocol.is_resp() => {
                return refuse(format!("{protocol} has no check-and-set by token"));
            }
            Verb::Template(_) if !protocol.is_resp() => {
                return refuse(format!("a template is a RESP command, not for {protocol}"));
            }
            Verb::MGet if endpoints.len() > 1 || cluster => {
                return refuse("the keys of one mget would lie on several servers".into());
            }
            Verb::Touch if !ttl => {
                return Err(PlanError::Missing {
                    key: "touch in workload.commands".into(),
                    missing: "workload.ttl",
                    why: "it sets a time to live",
                });
            }
            _ => {}
        }
    }
    Ok(())
}

fn trace_plan(trace: &super::written::Trace) -> Result<Option<TracePlan>, PlanError> {
    let Some(path) = &trace.path else {
        for (key, present) in [
            ("trace.format", trace.format.is_some()),
            ("trace.speed", trace.speed.is_some()),
            ("trace.requests", trace.requests.is_some()),
        ] {
            if present {
                return Err(PlanError::Missing {
                    key: key.into(),
                    missing: "trace.path",
                    why: "there is no trace",
                });
            }
        }
        return Ok(None);
    };
    let path = path.0.clone();
    if let Err(error) = std::fs::File::open(&path) {
        return Err(impossible("trace.path", path.display(), error.to_string()));
    }
    let format = trace.format.or_else(|| format_of(&path.to_string_lossy())).ok_or_else(|| {
        PlanError::Missing {
            key: format!("trace.path = {}", path.display()),
            missing: "trace.format",
            why: "the file's name does not tell its format",
        }
    })?;
    let requests_max = trace.requests.map_or(u64::MAX, |Amount(n)| n);
    Ok(Some(TracePlan {
        path,
        format,
        speed: trace.speed.unwrap_or(TraceSpeed::Fast),
        requests_max,
    }))
}

fn format_of(name: &str) -> Option<TraceFormat> {
    let name =
        [".xz", ".zst", ".gz"].iter().fold(name, |n, suffix| n.strip_suffix(suffix).unwrap_or(n));
    if name.ends_with(".kt") {
        Some(TraceFormat::Kt)
    } else if name.ends_with(".csv") {
        Some(TraceFormat::Csv)
    } else if name.contains("oracleGeneral") {
        Some(TraceFormat::OracleGeneral)
    } else {
        None
    }
}

fn search_plan(search: &super::written::Search) -> Result<Option<SearchPlan>, PlanError> {
    let promise = search.p50.is_some()
        || search.p99.is_some()
        || search.p999.is_some()
        || search.achieved.is_some();
    if !promise {
        for (key, present) in [
            ("search.start", search.start.is_some()),
            ("search.max", search.max.is_some()),
            ("search.factor", search.factor.is_some()),
            ("search.step", search.step.is_some()),
            ("search.precision", search.precision.is_some()),
        ] {
            if present {
                return Err(PlanError::Missing {
                    key: key.into(),
                    missing: "search.p50, p99, p999 or achieved",
                    why: "a search needs a promise to keep",
                });
            }
        }
        return Ok(None);
    }
    let within = |key, value: Option<f64>, default: f64, low: f64, high: f64| {
        let value = value.unwrap_or(default);
        if (low..=high).contains(&value) {
            Ok(value)
        } else {
            Err(impossible(key, value, format!("must lie between {low} and {high}")))
        }
    };
    let start = amount("search.start", search.start, 1000, 1, 1_000_000_000)?;
    let max = amount("search.max", search.max, 10_000_000, 1, 1_000_000_000)?;
    if start > max {
        return Err(impossible("search.start", start, format!("is above search.max = {max}")));
    }
    Ok(Some(SearchPlan {
        p50: search.p50.map(|s| s.0),
        p99: search.p99.map(|s| s.0),
        p999: search.p999.map(|s| s.0),
        achieved: within("search.achieved", search.achieved, 0.98, 0.01, 1.0)?,
        start,
        max,
        factor: within("search.factor", search.factor, 2.0, 1.05, 100.0)?,
        step: span("search.step", search.step, ms(2_000), ms(50), ms(3_600_000))?,
        precision: within("search.precision", search.precision, 0.05, 0.001, 1.0)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(toml: &str) -> Result<Plan, String> {
        let written: Written = toml::from_str(toml).map_err(|e| e.to_string())?;
        Plan::new(written).map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_written_is_a_plan_for_a_quick_look() {
        let plan = plan("").unwrap();
        assert_eq!(plan.endpoints[0].address.port(), 6379);
        assert!(plan.prefill && plan.rate.is_none() && plan.verify == Verify::Full);
        assert!(plan.loop_words().contains("closed loop"));
    }

    #[test]
    fn toml_numbers_tables_and_lists_read_as_their_texts_do() {
        let plan = plan(
            "[general]\nduration = 2\ncpu_list = 0\n[target]\nendpoints = ['127.0.0.1:1', '127.0.0.1:2']\nprotocol = 'memcache'\n\
             [workload]\ncommands = { get = 3, set = 1 }\nrate_limit = '10k'\n[values]\nlength = 100",
        )
        .unwrap();
        assert_eq!(
            (plan.duration.as_secs(), plan.rate, plan.endpoints.len()),
            (2, Some(10_000), 2)
        );
        assert_eq!((plan.threads, &plan.cpus[..]), (1, &[0][..]));
        assert_eq!(plan.value_length, Spread::Fixed(100));
    }

    #[test]
    fn unknown_keys_and_sections_are_refused_by_name() {
        for (text, name) in
            [("[general]\ndurration = 1", "durration"), ("[genral]\nduration = 1", "genral")]
        {
            let error = plan(text).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn impossible_plans_are_refused_in_a_sentence_that_names_the_key() {
        for (text, name) in [
            ("[general]\nduration = 0", "general.duration"),
            ("[general]\nthreads = 0", "general.threads"),
            ("[general]\nthreads = 2\ncpu_list = 0", "general.cpu_list"),
            ("[general]\ncpu_list = 4000", "processor 4000"),
            ("[target]\nendpoints = 'localhost'", "localhost"),
            ("[target]\nendpoints = '127.0.0.1:1,127.0.0.1:2'", "target.endpoints"),
            ("[target]\nprotocol = 'momento'\n[workload]\ncommands = 'incr=1'", "protosocket"),
            ("[target]\nprotocol = 'momento'\n[connection]\npipeline_depth = 2", "pipeline_depth"),
            ("[target]\ncache = 'x'", "target.cache"),
            ("[target]\nprotocol = 'http'", "momento"),
            ("[target]\nprotocol = 'memcache'\ncluster = true", "target.cluster"),
            ("[target]\nserver_pid = 999999999", "target.server_pid"),
            ("[target]\nusername = 'me'", "target.password"),
            ("[target]\nprotocol = 'memcache'\npassword = 'x'", "target.username"),
            ("[target]\nprotocol = 'ping'\npassword = 'x'", "no login"),
            ("[target]\ntls_insecure = true", "target.tls"),
            ("[target]\ntls = true\ntls_key = 'k.pem'", "target.tls_certificate"),
            ("[target]\ntls = true\ntls_insecure = true\ntls_ca = 'k.pem'", "exclude each other"),
            ("[connection]\nconnections = 0", "connection.connections"),
            ("[connection]\ntimestamps = 'kernel'\n[target]\ntls = true", "target.tls"),
            ("[connection]\nrequest_timeout = '0s'", "connection.request_timeout"),
            ("[workload]\ncommands = 'cas=1'", "cas"),
            ("[workload]\ncommands = 'touch=1'", "workload.ttl"),
            ("[workload]\nttl = '0s'", "workload.ttl"),
            ("[workload]\narrival = 'poisson'", "workload.arrival"),
            ("[workload]\nmget_keys = 3", "workload.mget_keys"),
            ("[workload]\ncommands = 'set=1'\nbackfill_on_miss = true", "backfill_on_miss"),
            ("[workload]\nrate_limit = 5\n[search]\np99 = '1ms'", "workload.rate_limit"),
            ("[search]\nstart = 5", "search.start"),
            ("[search]\np99='1ms'\nstart = 50\nmax = 5", "search.max"),
            ("[keyspace]\ncount = '10G'", "workload.verify"),
            ("[keyspace]\nlength = 3", "keyspace.length"),
            ("[target]\nprotocol = 'memcache'\n[keyspace]\nlength = 251", "keyspace.length"),
            ("[values]\nlength = 'trace'", "values.length"),
            ("[values]\nlength = '1GiB'", "values.length"),
            ("[values]\nlength = '100MiB'\n[connection]\nconnections = 1000", "lower one of them"),
            ("[trace]\nspeed = 'timed'", "trace.speed"),
            ("[trace]\npath = '/nonexistent.csv'", "trace.path"),
            ("[output]\nprometheus = 'here'", "output.prometheus"),
            ("[target]\nprotocol = 'ping'\n[workload]\ncommands = 'get=1'", "ping"),
        ] {
            let error = plan(text).unwrap_err();
            assert!(error.contains(name), "{text}: {error}");
        }
    }

    #[test]
    fn a_trace_excludes_what_it_decides_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        std::fs::write(&path, "0,a,1\n").unwrap();
        let with = |more: &str| plan(&format!("{more}\n[trace]\npath = '{}'", path.display()));
        assert!(with("").is_ok());
        for more in [
            "[workload]\ncommands = 'get=1'",
            "[keyspace]\ncount = 5",
            "[workload]\nprefill = true",
        ] {
            assert!(with(more).unwrap_err().contains("trace.path"), "{more}");
        }
    }

    #[test]
    fn listed_processors_are_taken_as_listed() {
        assert_eq!(cpu_list("1,0").unwrap(), [1, 0]);
        assert_eq!(cpu_list("0-1").unwrap(), [0, 1]);
        assert!(cpu_list("1-0").is_err());
    }

    #[test]
    fn the_shortest_key_holds_its_number() {
        for (count, len) in [(1, 2), (10, 2), (11, 3), (100_000, 6), (100_001, 7)] {
            assert_eq!(key_len_bytes_min(count), len, "{count}");
        }
    }
}
