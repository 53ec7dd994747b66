//! INFO, LATENCY HISTOGRAM and MEMORY STATS: facts under the names that exporters read. What this server has
//! no fact for is left out rather than made up.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Cx;
use super::connection::REDIS_VERSION;
use crate::hub::slowlog::Times;
use crate::table::Cmd;
use crate::write::{Sink, Writer};

pub(super) type Facts = BTreeMap<String, String>;

/// What the host tells.
pub(super) fn host(cx: &Cx<'_, '_>) -> Facts {
    let mut facts = Facts::new();
    cx.resp.hub.env.host_stats(&mut |name, value| {
        facts.insert(name.to_owned(), value.to_owned());
    });
    facts
}

/// What the backend tells.
pub(super) fn backend(cx: &Cx<'_, '_>) -> Facts {
    let mut facts = Facts::new();
    cx.worker.service.backend_stats("", &mut |name, value| {
        facts.insert(name.to_owned(), value.to_owned());
    });
    facts
}

/// A fact as a number; 0 without it.
pub(super) fn number(facts: &Facts, name: &str) -> u64 {
    facts.get(name).and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// The first of several names that the host knows.
fn either(facts: &Facts, names: [&str; 2]) -> u64 {
    names.iter().find(|name| facts.contains_key(**name)).map_or(0, |name| number(facts, name))
}

/// The port that this client came through.
pub(super) fn port(cx: &Cx<'_, '_>, host: &Facts) -> u64 {
    match cx.session.client.local {
        Some(local) => u64::from(local.port()),
        None => number(host, "tcp_port"),
    }
}

/// How many keys there are.
pub(super) fn items(cx: &Cx<'_, '_>) -> u64 {
    let ask = |section: &str| {
        let mut found = None;
        cx.worker.service.backend_stats(section, &mut |name, value| {
            if name == "items" {
                found = value.parse().ok();
            }
        });
        found
    };
    // Not every backend knows the short way.
    ask("items").or_else(|| ask("")).unwrap_or(0)
}

/// Bytes as people read them.
fn human(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "K", "M", "G"] {
        if size < 1024.0 {
            return if unit == "B" { format!("{bytes}B") } else { format!("{size:.2}{unit}") };
        }
        size /= 1024.0;
    }
    format!("{size:.2}T")
}

const SECTIONS: [&str; 11] = [
    "server",
    "clients",
    "memory",
    "stats",
    "replication",
    "cpu",
    "commandstats",
    "errorstats",
    "latencystats",
    "cluster",
    "keyspace",
];

/// Sections that come only when they are named, or with `all`.
const SECTIONS_ON_DEMAND: [&str; 2] = ["commandstats", "latencystats"];

/// INFO.
pub(super) fn info<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, args: &[&[u8]], w: &mut Writer<'_, S>) {
    let asked: Vec<String> =
        args[1..].iter().map(|a| String::from_utf8_lossy(a).to_ascii_lowercase()).collect();
    let all = asked.iter().any(|a| a == "all" || a == "everything");
    let default = asked.is_empty() || asked.iter().any(|a| a == "default");
    let (host, backend) = (host(cx), backend(cx));
    let mut text = String::new();
    for name in SECTIONS {
        let wanted = all
            || asked.iter().any(|a| a == name)
            || default && !SECTIONS_ON_DEMAND.contains(&name);
        if !wanted {
            continue;
        }
        let lines = section(cx, name, &host, &backend);
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        let title = name[..1].to_ascii_uppercase() + &name[1..];
        let title = if name == "cpu" { "CPU" } else { &title };
        let _infallible = write!(text, "# {title}\r\n");
        for (name, value) in lines {
            let _infallible = write!(text, "{name}:{value}\r\n");
        }
    }
    w.verbatim("txt", text.as_bytes());
}

type Lines = Vec<(String, String)>;

fn section(cx: &Cx<'_, '_>, name: &str, host: &Facts, backend: &Facts) -> Lines {
    match name {
        "server" => server(cx, host),
        "clients" => clients(cx, host),
        "memory" => memory(host, backend),
        "stats" => stats(cx, host, backend),
        "replication" => lines(&[("role", "master"), ("connected_slaves", "0")]),
        "cpu" => cpu(host),
        "commandstats" => command_stats(cx),
        "errorstats" => {
            let errors = cx.resp.hub.stats.errors().into_iter();
            errors.map(|(code, n)| (format!("errorstat_{code}"), format!("count={n}"))).collect()
        }
        "latencystats" => {
            let percentiles = cx.resp.hub.live.percentiles();
            timed(cx)
                .map(|(command, times)| {
                    let each: Vec<String> = percentiles
                        .iter()
                        .map(|p| format!("p{p}={}.000", times.percentile_us(p / 100.0)))
                        .collect();
                    let name = format!("latency_percentiles_usec_{}", command.spec().name);
                    (name, each.join(","))
                })
                .collect()
        }
        "cluster" => {
            lines(&[("cluster_enabled", if cx.resp.cluster.is_some() { "1" } else { "0" })])
        }
        "keyspace" => match number(backend, "items") {
            0 => Lines::new(),
            n => vec![("db0".to_owned(), format!("keys={n},expires=0,avg_ttl=0"))],
        },
        _ => Lines::new(),
    }
}

/// Commands with times, unless nothing is to be told of times.
fn timed<'x>(cx: &'x Cx<'_, '_>) -> impl Iterator<Item = (Cmd, Times)> + 'x {
    let tells = cx.resp.hub.live.tells_latency();
    let times = |command| Some((command, cx.resp.hub.slowlog.times(command)?));
    Cmd::all().filter(move |_| tells).filter_map(times)
}

fn lines(pairs: &[(&str, &str)]) -> Lines {
    pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

fn push(out: &mut Lines, name: &str, value: impl std::fmt::Display) {
    out.push((name.to_owned(), value.to_string()));
}

fn server(cx: &Cx<'_, '_>, host: &Facts) -> Lines {
    let mut out = lines(&[
        ("redis_version", REDIS_VERSION),
        ("server_name", "crucible"),
        ("crucible_version", env!("CARGO_PKG_VERSION")),
        ("redis_mode", if cx.resp.cluster.is_some() { "cluster" } else { "standalone" }),
        ("os", std::env::consts::OS),
        ("arch_bits", if usize::BITS == 64 { "64" } else { "32" }),
        ("multiplexing_api", "io_uring"),
    ]);
    push(&mut out, "process_id", std::process::id());
    push(&mut out, "run_id", &cx.resp.run_id);
    push(&mut out, "tcp_port", port(cx, host));
    let uptime_s = number(host, "uptime_s");
    push(&mut out, "server_time_usec", cx.queue.now_ms() * 1000);
    push(&mut out, "uptime_in_seconds", uptime_s);
    push(&mut out, "uptime_in_days", uptime_s / 86_400);
    push(&mut out, "hz", 100);
    push(&mut out, "io_threads_active", u8::from(cx.resp.hub.env.workers() > 1));
    out
}

fn clients(cx: &Cx<'_, '_>, host: &Facts) -> Lines {
    let hub = &cx.resp.hub;
    let mut out = Lines::new();
    push(&mut out, "connected_clients", hub.clients.count());
    if let Some(max) = host.get("connections_max") {
        push(&mut out, "maxclients", max);
    }
    push(&mut out, "blocked_clients", cx.resp.hub.waiting.connections());
    push(&mut out, "tracking_clients", hub.tracking.clients());
    let listening = hub.clients.list().into_iter().filter(|c| {
        c.mode.load(std::sync::atomic::Ordering::Relaxed) & crate::session::mode::SUBSCRIBED != 0
    });
    push(&mut out, "pubsub_clients", listening.count());
    out
}

fn memory(host: &Facts, backend: &Facts) -> Lines {
    let mut out = Lines::new();
    let (used, limit) =
        (number(backend, "memory_used_bytes"), number(backend, "memory_limit_bytes"));
    let rss = number(host, "memory_rss_bytes");
    push(&mut out, "used_memory", used);
    push(&mut out, "used_memory_human", human(used));
    push(&mut out, "used_memory_rss", rss);
    push(&mut out, "used_memory_rss_human", human(rss));
    push(&mut out, "used_memory_dataset", used);
    push(&mut out, "maxmemory", limit);
    push(&mut out, "maxmemory_human", human(limit));
    push(&mut out, "maxmemory_policy", policy(backend));
    let ratio = if used == 0 { 0.0 } else { rss as f64 / used as f64 };
    push(&mut out, "mem_fragmentation_ratio", format!("{ratio:.2}"));
    push(&mut out, "mem_allocator", "segments");
    out
}

/// The eviction policy.
pub(super) fn policy(backend: &Facts) -> &str {
    backend.get("policy").map_or("unknown", String::as_str)
}

fn stats(cx: &Cx<'_, '_>, host: &Facts, backend: &Facts) -> Lines {
    let (hub, mut out) = (&cx.resp.hub, Lines::new());
    let sums = hub.stats.sums();
    push(
        &mut out,
        "total_connections_received",
        either(host, ["connections_total", "connections_accepted"]),
    );
    push(&mut out, "total_commands_processed", sums.commands);
    push(&mut out, "total_net_input_bytes", sums.input_bytes);
    push(&mut out, "total_net_output_bytes", sums.output_bytes);
    push(&mut out, "rejected_connections", number(host, "connections_rejected"));
    push(&mut out, "expired_keys", number(backend, "expired"));
    push(&mut out, "evicted_keys", number(backend, "evictions"));
    push(&mut out, "keyspace_hits", sums.hits);
    push(&mut out, "keyspace_misses", sums.misses);
    push(&mut out, "pubsub_channels", hub.pubsub.len(crate::hub::pubsub::Kind::Channel));
    push(&mut out, "pubsub_patterns", hub.pubsub.len(crate::hub::pubsub::Kind::Pattern));
    push(&mut out, "pubsubshard_channels", hub.pubsub.len(crate::hub::pubsub::Kind::Shard));
    push(&mut out, "tracking_total_keys", hub.tracking.keys());
    push(&mut out, "total_error_replies", sums.errors);
    out
}

fn cpu(host: &Facts) -> Lines {
    let seconds = |us: u64| format!("{:.6}", us as f64 / 1e6);
    let mut out = Lines::new();
    push(&mut out, "used_cpu_sys", seconds(either(host, ["cpu_sys_us", "cpu_system_us"])));
    push(&mut out, "used_cpu_user", seconds(number(host, "cpu_user_us")));
    out
}

fn command_stats(cx: &Cx<'_, '_>) -> Lines {
    let mut out = Lines::new();
    for command in Cmd::all() {
        let sums = cx.resp.hub.stats.command(command);
        if sums.calls + sums.rejected > 0 {
            // Not every call is timed: the sum is that of the calls that were, carried over to all.
            let each = cx.resp.hub.slowlog.times(command).unwrap_or_default().each_us();
            let sum = (each * sums.calls as f64).round();
            let text = format!(
                "calls={},usec={sum},usec_per_call={each:.2},rejected_calls={},failed_calls={}",
                sums.calls, sums.rejected, sums.failed
            );
            push(&mut out, &format!("cmdstat_{}", command.spec().name), text);
        }
    }
    out
}

/// LATENCY HISTOGRAM: of commands that are timed.
pub(super) fn histogram<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    names: &[&[u8]],
    w: &mut Writer<'_, S>,
) {
    let wanted =
        |command: &Cmd| names.is_empty() || names.iter().any(|n| cx.resp.find(n) == Some(*command));
    let timed: Vec<_> = timed(cx).filter(|(command, _)| wanted(command)).collect();
    w.map(timed.len());
    for (command, times) in timed {
        w.bulk(command.spec().name.as_bytes());
        w.map(2);
        w.bulk(b"calls");
        w.int(times.calls as i64);
        w.bulk(b"histogram_usec");
        // Counts are cumulative; only buckets that add something are told.
        let filled: Vec<usize> =
            (0..times.buckets.len()).filter(|i| times.buckets[*i] > 0).collect();
        w.map(filled.len());
        for i in filled {
            w.int(1 << i);
            w.int(times.buckets[..=i].iter().sum::<u64>() as i64);
        }
    }
}

/// MEMORY STATS.
pub(super) fn memory_stats<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, w: &mut Writer<'_, S>) {
    let facts = backend(cx);
    let items = number(&facts, "items");
    let used = number(&facts, "memory_used_bytes");
    let pairs = [
        ("total.allocated", used),
        ("dataset.bytes", used),
        ("keys.count", items),
        ("keys.bytes-per-key", used.checked_div(items).unwrap_or(0)),
        ("maxmemory", number(&facts, "memory_limit_bytes")),
    ];
    w.map(pairs.len());
    for (name, value) in pairs {
        w.bulk(name.as_bytes());
        w.int(value as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_as_people_read_them() {
        assert_eq!((human(10), human(2048)), ("10B".into(), "2.00K".into()));
    }
}
