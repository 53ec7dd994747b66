//! Listeners and workers: connections, turns, the event loop, limits that were reached.
//!
//! What must always be true: a worker's numbers carry its number. Called by `render`.

use std::sync::atomic::Ordering::Relaxed;

use super::text::{Kind, Text};
use crate::admin::State;
use crate::services::{WorkerShare, lock};

type Own = (&'static str, Kind, &'static str, fn(&WorkerShare) -> u64);
type OfLoop = (&'static str, &'static str, fn(&kompio::Stats) -> u64);

/// What workers count.
const OWN: &[Own] = &[
    ("crucible_turns", Kind::Counter, "Turns of connections.", |s| s.turns.load(Relaxed)),
    (
        "crucible_crossings",
        Kind::Counter,
        "Calls into protocols; turns by crossings is the batch.",
        |s| s.crossings.load(Relaxed),
    ),
    ("crucible_sweeps", Kind::Counter, "Rounds of the event loop.", |s| s.sweeps.load(Relaxed)),
    (
        "crucible_exclusive_turns",
        Kind::Counter,
        "Turns that had their store for themselves, such as transactions.",
        |s| s.exclusive.load(Relaxed),
    ),
    ("crucible_session_panics", Kind::Counter, "Sessions that panicked.", |s| {
        s.panics.load(Relaxed)
    }),
    ("crucible_timed_out_connections", Kind::Counter, "Connections closed for a time-out.", |s| {
        s.timeouts.load(Relaxed)
    }),
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
    ("crucible_pinned_values", Kind::Gauge, "Values being sent from the store's memory.", |s| {
        s.pinned.load(Relaxed)
    }),
    (
        "crucible_pinned_bytes",
        Kind::Gauge,
        "Bytes of those values, as of the last look at all connections (twice a second).",
        |s| s.pinned_bytes.load(Relaxed),
    ),
    ("crucible_bodies", Kind::Gauge, "Values being received into the store's memory.", |s| {
        s.bodies.load(Relaxed)
    }),
    (
        "crucible_backpressure_turns",
        Kind::Counter,
        "Turns put off because a peer does not take its replies.",
        |s| s.backpressure.load(Relaxed),
    ),
    (
        "crucible_memory_limit_closes",
        Kind::Counter,
        "Connections closed because all together held too much memory.",
        |s| s.memory_closes.load(Relaxed),
    ),
    (
        "crucible_stuck_workers",
        Kind::Counter,
        "Looks of the watchdog that found a worker stuck in a plugin.",
        |s| s.stuck.load(Relaxed),
    ),
    ("crucible_sessions", Kind::Gauge, "Open sessions.", |s| s.sessions.load(Relaxed)),
];

/// What their event loops count.
const LOOP: &[OfLoop] = &[
    ("crucible_received_bytes", "Bytes received.", |s| s.received_bytes),
    ("crucible_sent_bytes", "Bytes sent.", |s| s.sent_bytes),
    ("crucible_ring_enters", "io_uring_enter calls.", |s| s.enters),
    (
        "crucible_ring_fuller_waits",
        "Of those, waits for several completions, for uring.min_wait at the longest.",
        |s| s.fuller_waits,
    ),
    ("crucible_ring_submissions", "Operations submitted.", |s| s.sqes),
    ("crucible_ring_completions", "Completions reaped.", |s| s.cqes),
    ("crucible_ring_overflows", "Completion queue overflows.", |s| s.cq_overflows),
    ("crucible_receive_buffer_exhaustions", "Receives that found no buffer.", |s| {
        s.buffer_exhausted
    }),
    ("crucible_short_sends", "Sends that took only a part.", |s| s.short_sends),
    ("crucible_accept_errors", "Accepts that failed.", |s| s.accept_errors),
    (
        "crucible_submission_queue_flushes",
        "Times the submission queue was full in the middle of a round.",
        |s| s.sq_flushes,
    ),
    ("crucible_receive_rearms", "Receives that the kernel ended and that were begun again.", |s| {
        s.recv_rearms
    }),
    (
        "crucible_input_copied_bytes",
        "Beginnings of requests that were moved out of the receive buffers.",
        |s| s.tail_copied_bytes,
    ),
    ("crucible_zero_copy_sends", "Zero-copy sends that the kernel did not copy.", |s| {
        s.zero_copy_not_copied
    }),
    ("crucible_zero_copy_copies", "Zero-copy sends that the kernel copied after all.", |s| {
        s.zero_copy_copied
    }),
];

/// Connections by listener.
pub(super) fn listeners(text: &mut Text, state: &State) {
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

/// Everything by worker.
pub(super) fn write(text: &mut Text, state: &State) {
    let core = &state.crew.core;
    let shares = &core.shares[..core.workers];
    for &(name, kind, help, of) in OWN {
        let name = text.family(name, kind, help);
        for (worker, share) in shares.iter().enumerate() {
            text.sample(&name, &[("worker", &worker.to_string())], of(share));
        }
    }
    let loops: Vec<kompio::Stats> = shares.iter().map(|s| *lock(&s.loop_stats)).collect();
    for &(name, help, of) in LOOP {
        let name = text.family(name, Kind::Counter, help);
        for (worker, stats) in loops.iter().enumerate() {
            text.sample(&name, &[("worker", &worker.to_string())], of(stats));
        }
    }
}
