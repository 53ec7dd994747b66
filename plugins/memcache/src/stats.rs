//! `stats` and its groups, for both encodings.
//!
//! Must hold: a name means what it means in memcached, and its value is true; what has no counterpart
//! here and is still read by exporters is the number that is true of a server without it (no slab
//! page was ever moved: 0). Called by [`crate::plugin`] after a barrier, so the numbers include every
//! command before.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crucible_plugin_api::Service;

use crate::counters::NAMES;
use crate::plugin::Memcache;

/// Where rows go.
pub type Emit<'e> = dyn FnMut(&str, &str) + 'e;

/// What a request for statistics is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The rows are written; the end of the list follows.
    Rows,
    /// This line alone.
    Line(&'static str),
    /// There is no such group.
    Unknown,
}

/// Names and values of host and backend, by name.
struct Known(BTreeMap<String, String>);

impl Known {
    fn gather(service: &Service) -> (Self, Self) {
        let (mut host, mut store) = (BTreeMap::new(), BTreeMap::new());
        service.env().host_stats(&mut |name, value| {
            host.insert(name.to_owned(), value.to_owned());
        });
        service.backend_stats("", &mut |name, value| {
            store.insert(name.to_owned(), value.to_owned());
        });
        (Self(host), Self(store))
    }

    /// The first of these names that is there, or 0.
    fn get(&self, names: &[&str]) -> &str {
        names.iter().find_map(|n| self.0.get(*n)).map_or("0", String::as_str)
    }
}

/// Writes the rows of a group.
pub fn write(plugin: &Memcache, service: &Service, args: &[u8], emit: &mut Emit<'_>) -> Outcome {
    let mut words = crate::line::Words::new(args);
    match words.next() {
        None => general(plugin, service, emit),
        Some(b"settings") => settings(plugin, service, emit),
        Some(b"items") => items(service, emit),
        Some(b"slabs") => slabs(plugin, service, emit),
        Some(b"conns") => conns(plugin, emit),
        Some(b"sizes") => emit("sizes_status", "disabled"),
        Some(b"reset") => {
            plugin.counters.reset();
            return Outcome::Line("RESET");
        }
        // Prefix statistics are not kept, so they can be switched off only.
        Some(b"detail") => {
            return Outcome::Line(match words.next() {
                Some(b"off") => "OK",
                Some(b"on") => "SERVER_ERROR prefix statistics are not kept",
                Some(b"dump") => "END",
                _ => "CLIENT_ERROR usage: stats detail on|off|dump",
            });
        }
        _ => return Outcome::Unknown,
    }
    Outcome::Rows
}

/// Rows that are 0 wherever pages are not moved, queues not shuffled and threads not crawling.
const NEVER: &[&str] = &[
    "response_obj_oom",
    "read_buf_oom",
    "get_expired",
    "get_flushed",
    "listen_disabled_num",
    "time_in_listen_disabled_us",
    "conn_yields",
    "hash_is_expanding",
    "slab_reassign_running",
    "slabs_moved",
    "slab_global_page_pool",
    "lru_crawler_running",
    "lru_crawler_starts",
    "lru_maintainer_juggles",
    "malloc_fails",
    "log_worker_dropped",
    "crawler_reclaimed",
    "crawler_items_checked",
    "lrutail_reflocked",
    "moves_to_cold",
    "moves_to_warm",
    "moves_within_lru",
    "lru_bumps_dropped",
];

fn general(plugin: &Memcache, service: &Service, emit: &mut Emit<'_>) {
    let (host, store) = Known::gather(service);
    let now_s = service.ctx().now_ms() / 1000;
    emit("pid", host.get(&["pid"]));
    emit("uptime", host.get(&["uptime_s"]));
    emit("time", &now_s.to_string());
    emit("version", &plugin.settings.version);
    emit("pointer_size", &(usize::BITS).to_string());
    emit("rusage_user", &seconds(host.get(&["cpu_user_us"])));
    emit("rusage_system", &seconds(host.get(&["cpu_system_us", "cpu_sys_us"])));
    emit("max_connections", host.get(&["connections_max", "max_connections"]));
    emit("curr_connections", host.get(&["connections_current"]));
    emit("total_connections", host.get(&["connections_total", "connections_accepted"]));
    emit("rejected_connections", host.get(&["connections_rejected"]));
    emit("connection_structures", host.get(&["connections_current"]));
    for (value, (name, _)) in plugin.counters.totals().iter().zip(NAMES) {
        emit(name, &value.to_string());
    }
    emit("bytes_read", host.get(&["bytes_received", "received_bytes"]));
    emit("bytes_written", host.get(&["bytes_sent", "sent_bytes"]));
    emit("limit_maxbytes", store.get(&["memory_limit_bytes"]));
    emit("accepting_conns", "1");
    emit("threads", &service.ctx().workers().to_string());
    emit("hash_power_level", store.get(&["hashtable_power", "table_power"]));
    emit("hash_bytes", store.get(&["hashtable_bytes", "table_bytes"]));
    emit("log_watchers", &plugin.watchers().to_string());
    emit("bytes", store.get(&["item_bytes", "memory_used_bytes"]));
    emit("curr_items", store.get(&["items"]));
    emit("evictions", store.get(&["evictions", "evicted"]));
    emit("reclaimed", store.get(&["expired"]));
    emit("expired_unfetched", store.get(&["expired_unread", "expired_unfetched"]));
    emit("evicted_unfetched", store.get(&["evicted_unread", "evicted_unfetched"]));
    emit("evicted_active", store.get(&["evicted_active"]));
    emit("direct_reclaims", store.get(&["direct_reclaims"]));
    for name in NEVER {
        emit(name, "0");
    }
}

/// Microseconds as seconds with six decimals.
fn seconds(us: &str) -> String {
    let us: u64 = us.parse().unwrap_or(0);
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

fn settings(plugin: &Memcache, service: &Service, emit: &mut Emit<'_>) {
    let (host, store) = Known::gather(service);
    let yes_no = |b| if b { "yes" } else { "no" };
    let s = &plugin.settings;
    emit("maxbytes", store.get(&["memory_limit_bytes"]));
    emit("maxconns", host.get(&["connections_max", "max_connections"]));
    emit("udpport", "0");
    emit("verbosity", "0");
    emit("evictions", "on");
    emit("shutdown_command", yes_no(s.shutdown_command));
    emit("num_threads", &service.ctx().workers().to_string());
    emit("stat_key_prefix", ":");
    emit("detail_enabled", "no");
    emit("cas_enabled", "yes");
    let protocol = match s.encodings {
        crate::settings::Encodings::Auto => "auto-negotiate",
        crate::settings::Encodings::Text => "ascii",
        crate::settings::Encodings::Binary => "binary",
    };
    emit("binding_protocol", protocol);
    emit("item_size_max", &plugin.value_len_max(service).to_string());
    emit("maxconns_fast", "yes");
    emit("slab_reassign", "no");
    emit("slab_automove", "0");
    for name in ["lru_crawler", "lru_maintainer_thread", "lru_segmented", "temp_lru", "track_sizes"]
    {
        emit(name, "no");
    }
    for name in ["lru_crawler_sleep", "lru_crawler_tocrawl", "hot_lru_pct", "warm_lru_pct"] {
        emit(name, "0");
    }
    emit("hot_max_factor", "0.00");
    emit("warm_max_factor", "0.00");
    emit("flush_enabled", yes_no(s.flush_enabled));
    emit("dump_enabled", yes_no(s.dump_enabled));
    emit("idle_timeout", host.get(&["idle_timeout_s"]));
    emit("watcher_logbuf_size", &s.watch_queue_bytes_max.to_string());
}

/// The whole store is one class: number 1.
fn items(service: &Service, emit: &mut Emit<'_>) {
    let (_, store) = Known::gather(service);
    if store.get(&["items"]) == "0" {
        return;
    }
    for (name, from) in [
        ("number", &["items"][..]),
        ("mem_requested", &["item_bytes", "memory_used_bytes"]),
        ("evicted", &["evictions", "evicted"]),
        ("reclaimed", &["expired"]),
        ("outofmemory", &["no_memory", "out_of_memory"]),
        ("expired_unfetched", &["expired_unread", "expired_unfetched"]),
        ("evicted_unfetched", &["evicted_unread", "evicted_unfetched"]),
    ] {
        emit(&format!("items:1:{name}"), store.get(from));
    }
}

fn slabs(plugin: &Memcache, service: &Service, emit: &mut Emit<'_>) {
    let (_, store) = Known::gather(service);
    let counted = plugin.counters.totals();
    emit("1:used_chunks", store.get(&["items"]));
    emit("1:mem_requested", store.get(&["item_bytes", "memory_used_bytes"]));
    for (value, (name, _)) in counted.iter().zip(NAMES) {
        let slab_rows = [
            "get_hits",
            "cmd_set",
            "delete_hits",
            "incr_hits",
            "decr_hits",
            "cas_hits",
            "cas_badval",
            "touch_hits",
        ];
        if slab_rows.contains(name) {
            emit(&format!("1:{name}"), &value.to_string());
        }
    }
    emit("active_slabs", "1");
    emit("total_malloced", store.get(&["memory_used_bytes"]));
    service.backend_stats("slabs", emit);
}

fn conns(plugin: &Memcache, emit: &mut Emit<'_>) {
    let shown = |address: Option<SocketAddr>| {
        address.map_or_else(|| "unix".to_owned(), |a| format!("tcp:{a}"))
    };
    plugin.each_connection(|id, row| {
        emit(&format!("{id}:addr"), &shown(row.peer));
        emit(&format!("{id}:listen_addr"), &shown(row.local));
        emit(&format!("{id}:state"), "conn_read");
    });
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn microseconds_are_written_as_seconds() {
        assert_eq!(seconds("1234567"), "1.234567");
        assert_eq!(seconds("7"), "0.000007");
        assert_eq!(seconds("x"), "0.000000");
    }
}
