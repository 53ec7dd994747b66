//! Requests, as the sample of them shows: times and outcomes.
//!
//! What must always be true: buckets add up and end with one that has no bound. Called by
//! `render`.

use super::text::{Kind, Text};
use crate::admin::State;
use crate::observe::class::OUTCOMES;
use crate::observe::latency::bound_s;

/// Histograms by protocol, operation and worker; outcomes by protocol and operation.
pub(super) fn write(text: &mut Text, state: &State) {
    let observer = &state.crew.core.observer;
    let name = text.family(
        "crucible_request_seconds",
        Kind::Histogram,
        "From a worker's wake-up to the reply, of sampled operations (one crossing in 128).",
    );
    let (buckets, count, sum) =
        (format!("{name}_bucket"), format!("{name}_count"), format!("{name}_sum"));
    let mut outcomes: Vec<(String, &str, [u64; OUTCOMES.len()])> = Vec::new();
    observer.series(|worker, protocol, op, seen| {
        let worker = worker.to_string();
        let labels = [("protocol", protocol), ("op", op), ("worker", worker.as_str())];
        let mut below = 0;
        for (at, in_bucket) in seen.buckets.iter().enumerate() {
            below += in_bucket;
            let last = at + 1 == seen.buckets.len();
            let le = if last { "+Inf".to_owned() } else { bound_s(at).to_string() };
            text.sample(&buckets, &[labels[0], labels[1], labels[2], ("le", &le)], below);
        }
        text.sample(&count, &labels, below);
        text.sample(&sum, &labels, seen.sum_ns as f64 / 1e9);
        match outcomes.iter_mut().find(|(p, o, _)| p == protocol && *o == op) {
            Some((_, _, known)) => {
                known.iter_mut().zip(seen.outcomes).for_each(|(sum, more)| *sum += more);
            }
            None => outcomes.push((protocol.to_owned(), op, seen.outcomes)),
        }
    });
    let name = text.family(
        "crucible_sampled_operations",
        Kind::Counter,
        "Sampled operations by what became of them: absent is a miss, condition one that did not hold.",
    );
    for (protocol, op, counts) in &outcomes {
        for (outcome, count) in OUTCOMES.iter().zip(counts).filter(|(_, count)| **count > 0) {
            let labels = [("protocol", protocol.as_str()), ("op", op), ("outcome", outcome)];
            text.sample(&name, &labels, count);
        }
    }
}
