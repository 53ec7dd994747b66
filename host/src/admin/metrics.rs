//! `/metrics` in the OpenMetrics text format.
//!
//! What must always be true: each family has its TYPE and HELP once, its samples
//! together, names of letters that the format allows; the text ends with EOF.
//! Called for each scrape.
//!
//! Source: the OpenMetrics 1.0 specification.

use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

use super::State;
use crate::services::{lock, process};

/// The format's content type.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Info,
    Unknown,
}

#[derive(Default)]
struct Text(String);

impl Text {
    /// Begins a family; the name of its samples.
    fn family(&mut self, name: &str, kind: Kind, help: &str) -> String {
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Info => "info",
            Kind::Unknown => "unknown",
        };
        let _ = writeln!(self.0, "# TYPE {name} {word}");
        for unit in ["seconds", "bytes"] {
            if name.ends_with(&format!("_{unit}")) {
                let _ = writeln!(self.0, "# UNIT {name} {unit}");
            }
        }
        let _ = writeln!(self.0, "# HELP {name} {}", escaped(help));
        match kind {
            Kind::Counter => format!("{name}_total"),
            Kind::Info => format!("{name}_info"),
            Kind::Gauge | Kind::Unknown => name.to_owned(),
        }
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (i, (label, text)) in labels.iter().enumerate() {
            let open = if i == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{}\"", escaped(text));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn one(&mut self, name: &str, kind: Kind, help: &str, value: impl std::fmt::Display) {
        let name = self.family(name, kind, help);
        self.sample(&name, &[], value);
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A name of letters that the format allows.
fn name_of(parts: &[&str]) -> String {
    let joined = parts.join("_");
    joined
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .collect()
}

/// All metrics.
pub(super) fn render(state: &State) -> String {
    let mut text = Text::default();
    process_part(&mut text, state);
    listener_part(&mut text, state);
    worker_part(&mut text, state);
    plugin_part(&mut text, state);
    store_part(&mut text, state);
    text.0.push_str("# EOF\n");
    text.0
}

fn process_part(text: &mut Text, state: &State) {
    let core = &state.crew.core;
    let usage = process::usage();
    let name = text.family("crucible_build", Kind::Info, "Version of the host.");
    text.sample(&name, &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let name = text.family("crucible_plugin", Kind::Info, "Loaded plugins.");
    let protocols = state.crew.serving().protocols;
    let all = state.crew.stores.iter().map(|s| &s.plugin);
    let mut seen = Vec::new();
    for plugin in all.chain(protocols.iter().map(|p| &p.plugin)) {
        let m = &plugin.metadata;
        if !seen.contains(&(&m.name, &m.version)) {
            seen.push((&m.name, &m.version));
            let kind = m.kind.to_string();
            text.sample(&name, &[("name", &m.name), ("kind", &kind), ("version", &m.version)], 1);
        }
    }
    text.one(
        "crucible_ready",
        Kind::Gauge,
        "1 while requests are welcome.",
        u8::from(core.is_ready()),
    );
    text.one(
        "crucible_uptime_seconds",
        Kind::Gauge,
        "Time since the start.",
        core.started.elapsed().as_secs_f64(),
    );
    let name = text.family("crucible_cpu_seconds", Kind::Counter, "CPU time of the process.");
    text.sample(&name, &[("mode", "user")], usage.user_us as f64 / 1e6);
    text.sample(&name, &[("mode", "system")], usage.system_us as f64 / 1e6);
    let name = text.family("crucible_memory_bytes", Kind::Gauge, "Memory of the process by kind.");
    text.sample(&name, &[("kind", "resident")], usage.rss_bytes);
    text.sample(&name, &[("kind", "resident_max")], usage.rss_max_bytes);
    text.one("crucible_threads", Kind::Gauge, "Threads of the process.", usage.threads);
    text.one("crucible_descriptors", Kind::Gauge, "Open file descriptors.", usage.descriptors);
}

fn listener_part(text: &mut Text, state: &State) {
    let listeners = &state.crew.core.listeners;
    let name = text.family("crucible_connections", Kind::Gauge, "Open connections.");
    for l in listeners {
        let labels = [("listener", l.name.as_str()), ("protocol", &l.protocol)];
        text.sample(&name, &labels, l.connections.load(Relaxed));
    }
    let name = text.family("crucible_accepted_connections", Kind::Counter, "Connections accepted.");
    for l in listeners {
        let labels = [("listener", l.name.as_str()), ("protocol", &l.protocol)];
        text.sample(&name, &labels, l.accepted.load(Relaxed));
    }
}

fn worker_part(text: &mut Text, state: &State) {
    let core = &state.crew.core;
    let shares = &core.shares[..core.workers];
    type Of = fn(&crate::services::WorkerShare) -> u64;
    let own: [(&str, Kind, &str, Of); 14] = [
        ("crucible_turns", Kind::Counter, "Turns of connections.", |s| s.turns.load(Relaxed)),
        (
            "crucible_crossings",
            Kind::Counter,
            "Calls into protocols; turns by crossings is the batch.",
            |s| s.crossings.load(Relaxed),
        ),
        ("crucible_sweeps", Kind::Counter, "Rounds of the event loop.", |s| s.sweeps.load(Relaxed)),
        ("crucible_session_panics", Kind::Counter, "Sessions that panicked.", |s| {
            s.panics.load(Relaxed)
        }),
        (
            "crucible_timed_out_connections",
            Kind::Counter,
            "Connections closed for a time-out.",
            |s| s.timeouts.load(Relaxed),
        ),
        ("crucible_tls_handshakes", Kind::Counter, "TLS handshakes that were done.", |s| {
            s.tls_handshakes.load(Relaxed)
        }),
        (
            "crucible_tls_resumed",
            Kind::Counter,
            "TLS handshakes that took up an earlier session.",
            |s| s.tls_resumed.load(Relaxed),
        ),
        (
            "crucible_tls_failures",
            Kind::Counter,
            "TLS connections that failed, in the handshake or later.",
            |s| s.tls_failures.load(Relaxed),
        ),
        ("crucible_refused_connections", Kind::Counter, "Connections refused by a limit.", |s| {
            s.refusals.load(Relaxed)
        }),
        (
            "crucible_output_limit_closes",
            Kind::Counter,
            "Connections closed because the peer did not read.",
            |s| s.output_limits.load(Relaxed),
        ),
        (
            "crucible_input_limit_closes",
            Kind::Counter,
            "Connections closed because a request was too long.",
            |s| s.input_limits.load(Relaxed),
        ),
        (
            "crucible_pinned_values",
            Kind::Gauge,
            "Values being sent from the store's memory.",
            |s| s.pinned.load(Relaxed),
        ),
        (
            "crucible_pinned_bytes",
            Kind::Gauge,
            "Bytes of those values, as of the last look at all connections (twice a second).",
            |s| s.pinned_bytes.load(Relaxed),
        ),
        ("crucible_bodies", Kind::Gauge, "Values being received into the store's memory.", |s| {
            s.bodies.load(Relaxed)
        }),
    ];
    for (name, kind, help, of) in own {
        let name = text.family(name, kind, help);
        for (worker, share) in shares.iter().enumerate() {
            text.sample(&name, &[("worker", &worker.to_string())], of(share));
        }
    }
    let loops: Vec<kompio::Stats> = shares.iter().map(|s| *lock(&s.loop_stats)).collect();
    type LoopOf = fn(&kompio::Stats) -> u64;
    let of_loop: [(&str, &str, LoopOf); 9] = [
        ("crucible_received_bytes", "Bytes received.", |s| s.received_bytes),
        ("crucible_sent_bytes", "Bytes sent.", |s| s.sent_bytes),
        ("crucible_ring_enters", "io_uring_enter calls.", |s| s.enters),
        ("crucible_ring_submissions", "Operations submitted.", |s| s.sqes),
        ("crucible_ring_completions", "Completions reaped.", |s| s.cqes),
        ("crucible_ring_overflows", "Completion queue overflows.", |s| s.cq_overflows),
        ("crucible_receive_buffer_exhaustions", "Receives that found no buffer.", |s| {
            s.buffer_exhausted
        }),
        ("crucible_short_sends", "Sends that took only a part.", |s| s.short_sends),
        ("crucible_accept_errors", "Accepts that failed.", |s| s.accept_errors),
    ];
    for (name, help, of) in of_loop {
        let name = text.family(name, Kind::Counter, help);
        for (worker, stats) in loops.iter().enumerate() {
            text.sample(&name, &[("worker", &worker.to_string())], of(stats));
        }
    }
}

fn plugin_part(text: &mut Text, state: &State) {
    for (number, value) in state.crew.core.counters.read() {
        let base = name_of(&["crucible", &number.plugin, &number.name]);
        let base = base.strip_suffix("_total").unwrap_or(&base);
        if number.gauge {
            text.one(base, Kind::Gauge, &number.help, value.cast_signed());
        } else {
            text.one(base, Kind::Counter, &number.help, value);
        }
    }
}

fn store_part(text: &mut Text, state: &State) {
    let mut families: Vec<(String, Vec<(String, f64)>)> = Vec::new();
    for (store, side) in state.crew.stores.iter().zip(state.stores.borrow_mut().iter_mut()) {
        side.stats("", &mut |name, value| {
            let Ok(value) = value.parse::<f64>() else { return };
            let family = name_of(&["crucible", "store", name]);
            let family = family.strip_suffix("_total").unwrap_or(&family).to_owned();
            match families.iter_mut().find(|(known, _)| *known == family) {
                Some((_, samples)) => samples.push((store.name.clone(), value)),
                None => families.push((family, vec![(store.name.clone(), value)])),
            }
        });
    }
    for (family, samples) in families {
        let name = text.family(&family, Kind::Unknown, "As the store's manual says.");
        for (store, value) in samples {
            text.sample(&name, &[("store", &store)], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_keep_to_the_letters_of_the_format() {
        assert_eq!(name_of(&["crucible", "resp", "Calls-get"]), "crucible_resp_calls_get");
        let mut text = Text::default();
        let name = text.family("x_bytes", Kind::Counter, "a \"b\"\nc");
        text.sample(&name, &[("l", "q\"\\")], 1);
        assert_eq!(
            text.0,
            "# TYPE x_bytes counter\n# UNIT x_bytes bytes\n# HELP x_bytes a \\\"b\\\"\\nc\n\
             x_bytes_total{l=\"q\\\"\\\\\"} 1\n"
        );
    }
}
