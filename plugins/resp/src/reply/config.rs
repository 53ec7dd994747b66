//! CONFIG: the settings that exist, under the names that Redis gives them.
//!
//! What can change while the server runs is changed; the rest is refused in the words that clients
//! know. What must always be true: one SET changes everything it names, or nothing.

use crucible_plugin_api::Status;

use super::Cx;
use super::info::{backend, host, number, policy, port};
use crate::error::{Refusal, quote};
use crate::glob;
use crate::number::{parse_i64, parse_u64};
use crate::write::{Sink, Writer};

/// Shortest `proto-max-bulk-len` and `client-query-buffer-limit`, in bytes.
const REQUEST_LEN_BYTES_LEAST: i64 = 1 << 20;

/// Longest of both that requests are counted in, in bytes.
const REQUEST_LEN_BYTES_MOST: i64 = u32::MAX as i64;

/// Settings with their values.
fn settings(cx: &Cx<'_, '_>) -> Vec<(&'static str, String)> {
    let (host, backend, hub) = (host(cx), backend(cx), &cx.resp.hub);
    let own = &cx.resp.settings;
    let yes_no = |on: bool| if on { "yes" } else { "no" }.to_owned();
    let percentiles: Vec<String> = hub.live.percentiles().iter().map(f64::to_string).collect();
    let mut out = vec![
        ("appendonly", "no".to_owned()),
        ("client-output-buffer-limit", output_limit(hub.clients.mailbox_len_bytes_max())),
        ("client-query-buffer-limit", hub.live.request_len_bytes_max().to_string()),
        ("cluster-enabled", yes_no(cx.resp.cluster.is_some())),
        ("databases", "1".to_owned()),
        ("enable-debug-command", yes_no(own.debug_commands)),
        ("io-threads", hub.env.workers().to_string()),
        ("latency-tracking", yes_no(hub.live.tells_latency())),
        ("latency-tracking-info-percentiles", percentiles.join(" ")),
        ("maxmemory", number(&backend, "memory_limit_bytes").to_string()),
        ("maxmemory-policy", policy(&backend).to_owned()),
        ("port", port(cx, &host).to_string()),
        ("proto-max-bulk-len", hub.live.bulk_len_bytes_max().to_string()),
        ("save", String::new()),
        ("slowlog-log-slower-than", hub.slowlog.slower_than_us().to_string()),
        ("slowlog-max-len", hub.slowlog.entries_max().to_string()),
        ("tracking-table-max-keys", hub.tracking.keys_max().to_string()),
    ];
    if let Some(max) = host.get("connections_max") {
        out.push(("maxclients", max.clone()));
    }
    out
}

/// Messages that wait for a connection are all that a hard limit is kept on here.
fn output_limit(bytes: u64) -> String {
    format!("pubsub {bytes} 0 0")
}

/// CONFIG and its subcommands.
pub(super) fn config<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    sub: &str,
    args: &[&[u8]],
    w: &mut Writer<'_, S>,
) {
    match sub {
        "get" => get(cx, &args[2..], w),
        "set" if !args.len().is_multiple_of(2) => {
            cx.refuse(w, &Refusal::Arity("config|set".to_owned()));
        }
        "set" => match set(cx, &args[2..]) {
            Ok(()) => w.ok(),
            Err(text) => cx.error(w, &text),
        },
        "resetstat" => {
            cx.resp.hub.stats.reset();
            cx.resp.hub.slowlog.reset_times();
            w.ok();
        }
        _ => cx.error(w, "ERR The server is running without a config file"),
    }
}

fn get<S: Sink + ?Sized>(cx: &Cx<'_, '_>, patterns: &[&[u8]], w: &mut Writer<'_, S>) {
    let mut all = settings(cx);
    all.retain(|(name, _)| {
        patterns.iter().any(|p| glob::matches_ignoring_case(p, name.as_bytes()))
    });
    w.map(all.len());
    for (name, value) in all {
        w.bulk(name.as_bytes());
        w.bulk(value.as_bytes());
    }
}

/// A change that has been understood.
enum Change {
    BulkLen(u64),
    RequestLen(u64),
    MailboxLen(u64),
    TellsLatency(bool),
    Percentiles(Vec<f64>),
    Memory(u64),
    SlowerThan(i64),
    SlowlogLen(u64),
    TrackedKeys(u64),
    /// It has this value already.
    None,
}

/// SET: understands all pairs, then changes.
fn set(cx: &mut Cx<'_, '_>, pairs: &[&[u8]]) -> Result<(), String> {
    let known = settings(cx);
    let failed = |name: &str, why: &str| {
        format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")
    };
    let mut changes: Vec<(String, Change)> = Vec::new();
    for pair in pairs.chunks_exact(2) {
        let name = quote(pair[0]).to_ascii_lowercase();
        let Some((_, now)) = known.iter().find(|(n, _)| *n == name) else {
            return Err(format!(
                "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
            ));
        };
        if changes.iter().any(|(earlier, _)| *earlier == name) {
            return Err(failed(&name, "duplicate parameter"));
        }
        let change = change(&name, pair[1], now).map_err(|why| failed(&name, &why))?;
        changes.push((name, change));
    }
    // The one change that may still fail goes first.
    changes.sort_by_key(|(_, change)| !matches!(change, Change::Memory(_)));
    for (name, change) in changes {
        let hub = &cx.resp.hub;
        match change {
            Change::Memory(bytes) => match cx.worker.service.set_memory_limit(bytes) {
                Status::OK => {}
                Status::UNSUPPORTED => {
                    return Err(failed(&name, "this backend's memory is fixed at start"));
                }
                _ => return Err(failed(&name, "the backend refuses this limit")),
            },
            Change::BulkLen(bytes) => hub.live.set_bulk_len_bytes_max(bytes),
            Change::RequestLen(bytes) => hub.live.set_request_len_bytes_max(bytes),
            Change::MailboxLen(bytes) => hub.clients.set_mailbox_len_bytes_max(bytes),
            Change::TellsLatency(tells) => hub.live.set_tells_latency(tells),
            Change::Percentiles(list) => hub.live.set_percentiles(list),
            Change::SlowerThan(us) => hub.watch_slower_than(us),
            Change::SlowlogLen(entries) => hub.slowlog.set_entries_max(entries),
            Change::TrackedKeys(keys) => hub.tracking.set_keys_max(keys),
            Change::None => {}
        }
    }
    Ok(())
}

/// Understands a new value; the error is what follows the dash of Redis' sentence.
fn change(name: &str, value: &[u8], now: &str) -> Result<Change, String> {
    Ok(match name {
        "maxmemory" => Change::Memory(parse_size(value).ok_or("argument must be a memory value")?),
        "slowlog-log-slower-than" => Change::SlowerThan(integer(value, -1, i64::MAX)?),
        "slowlog-max-len" => Change::SlowlogLen(integer(value, 0, i64::MAX)?.cast_unsigned()),
        "tracking-table-max-keys" => {
            Change::TrackedKeys(integer(value, 0, i64::MAX)?.cast_unsigned())
        }
        "proto-max-bulk-len" => Change::BulkLen(request_len(value)?),
        "client-query-buffer-limit" => Change::RequestLen(request_len(value)?),
        "client-output-buffer-limit" => Change::MailboxLen(mailbox_len(value)?),
        "latency-tracking" => Change::TellsLatency(match value.to_ascii_lowercase().as_slice() {
            b"yes" => true,
            b"no" => false,
            _ => return Err("argument must be 'yes' or 'no'".to_owned()),
        }),
        "latency-tracking-info-percentiles" => Change::Percentiles(percentiles(value)?),
        _ if now.as_bytes() == value => Change::None,
        _ => return Err("can't set immutable config".to_owned()),
    })
}

fn within(number: i64, least: i64, most: i64) -> Result<i64, String> {
    match (least..=most).contains(&number) {
        true => Ok(number),
        false => Err(format!("argument must be between {least} and {most} inclusive")),
    }
}

fn integer(value: &[u8], least: i64, most: i64) -> Result<i64, String> {
    let number = parse_i64(value).ok_or("argument couldn't be parsed into an integer")?;
    within(number, least, most)
}

fn request_len(value: &[u8]) -> Result<u64, String> {
    let bytes = parse_size(value).ok_or("argument must be a memory value")?;
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    within(bytes, REQUEST_LEN_BYTES_LEAST, REQUEST_LEN_BYTES_MOST).map(i64::cast_unsigned)
}

/// `class hard soft seconds` of one class or several. Only messages have a limit that can change.
fn mailbox_len(value: &[u8]) -> Result<u64, String> {
    let words: Vec<&[u8]> = value.split(|b| *b == b' ').filter(|word| !word.is_empty()).collect();
    if words.is_empty() || !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".to_owned());
    }
    let mut found = None;
    for class in words.chunks_exact(4) {
        let name = class[0].to_ascii_lowercase();
        if !matches!(name.as_slice(), b"normal" | b"slave" | b"replica" | b"pubsub") {
            return Err("Invalid client class specified in buffer limit configuration.".to_owned());
        }
        let number = |word: &[u8]| parse_size(word).filter(|bytes| i64::try_from(*bytes).is_ok());
        let (hard, soft, seconds) = (number(class[1]), number(class[2]), parse_u64(class[3]));
        let (Some(hard), Some(soft), Some(_)) = (hard, soft, seconds) else {
            let text = "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
            return Err(text.to_owned());
        };
        if name != b"pubsub" || soft != 0 {
            return Err("only the hard limit of the class pubsub can be changed here".to_owned());
        }
        found = Some(hard);
    }
    found.ok_or_else(|| "the class pubsub is missing".to_owned())
}

fn percentiles(value: &[u8]) -> Result<Vec<f64>, String> {
    let words = value.split(|b| *b == b' ').filter(|word| !word.is_empty());
    let each = words.map(|word| {
        let number = crate::number::parse_f64(word)
            .ok_or("Invalid latency-tracking-info-percentiles parameters")?;
        match (0.0..=100.0).contains(&number) {
            true => Ok(number),
            false => Err("latency-tracking-info-percentiles parameters should sit between \
                          [0.0,100.0]"
                .to_owned()),
        }
    });
    each.collect()
}

/// A size with Redis' units: 1k is 1000 bytes, 1kb is 1024.
fn parse_size(text: &[u8]) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.iter().take_while(|b| b.is_ascii_digit()).count();
    let factor: u64 = match &lower[digits..] {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    parse_u64(&lower[..digits])?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_the_units_of_redis() {
        for (text, bytes) in [
            ("100", Some(100)),
            ("1k", Some(1000)),
            ("1KB", Some(1024)),
            ("2mb", Some(2 << 20)),
            ("1g", Some(1_000_000_000)),
            ("1tb", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(parse_size(text.as_bytes()), bytes, "{text}");
        }
    }
}
