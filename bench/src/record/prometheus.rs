//! The Prometheus endpoint while a run goes on.
//!
//! Always true: counters never fall within a run, and a scrape never waits for a worker: it reads the text
//! that the last interval left. Called by the recorder; served by [`crate::http`].

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use super::sample::{All, Of, Sample};
use crate::run::conductor::{Interval, Phase};

/// Bounds of the exported histogram's buckets, in seconds.
const BOUNDS_S: [f64; 16] =
    [5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0];

/// The text of the last interval.
pub type Page = Arc<Mutex<String>>;

/// Sums up intervals into a page.
pub struct Exporter {
    page: Page,
    commands: Vec<String>,
    sum: Sample,
}

impl Exporter {
    /// An exporter and its page.
    #[must_use]
    pub fn new(commands: Vec<String>) -> (Self, Page) {
        let page = Page::default();
        let sum = Sample::new(commands.len());
        let exporter = Self { page: page.clone(), commands, sum };
        exporter.publish(None);
        (exporter, page)
    }

    /// Takes in an interval.
    pub fn interval(&mut self, interval: &Interval) {
        self.sum.merge(&interval.sample, false);
        self.publish(Some(interval.phase));
    }

    fn publish(&self, phase: Option<Phase>) {
        let text = self.text(phase);
        *self.page.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = text;
    }

    fn text(&self, phase: Option<Phase>) -> String {
        let mut out = String::new();
        for of in All::ALL {
            let _ = writeln!(
                out,
                "# TYPE crucible_benchmark_{0}_total counter\ncrucible_benchmark_{0}_total {1}",
                of.name(),
                self.sum.get(*of)
            );
        }
        for of in Of::ALL {
            let _ = writeln!(out, "# TYPE crucible_benchmark_{}_total counter", of.name());
            for (name, command) in self.commands.iter().zip(&self.sum.commands) {
                let _ = writeln!(
                    out,
                    "crucible_benchmark_{}_total{{command=\"{}\"}} {}",
                    of.name(),
                    label(name),
                    command.get(*of)
                );
            }
        }
        for (name, value) in [
            ("connections", self.sum.connections),
            ("in_flight", self.sum.in_flight),
            ("backlog", self.sum.backlog),
        ] {
            let _ = writeln!(
                out,
                "# TYPE crucible_benchmark_{name} gauge\ncrucible_benchmark_{name} {value}"
            );
        }
        let measuring = u8::from(phase == Some(Phase::Measure));
        let _ = writeln!(
            out,
            "# TYPE crucible_benchmark_measuring gauge\ncrucible_benchmark_measuring {measuring}"
        );
        let _ = writeln!(out, "# TYPE crucible_benchmark_latency_seconds histogram");
        for (name, command) in self.commands.iter().zip(&self.sum.commands) {
            let (name, mut below, mut pairs) =
                (label(name), 0u64, command.latency.sparse().peekable());
            for bound in BOUNDS_S {
                while let Some((_, n)) = pairs.next_if(|(index, _)| {
                    crate::hist::bucket_start_ns(index + 1) as f64 <= bound * 1e9 + 1.0
                }) {
                    below += n;
                }
                let _ = writeln!(
                    out,
                    "crucible_benchmark_latency_seconds_bucket{{command=\"{name}\",le=\"{bound}\"}} {below}"
                );
            }
            let l = &command.latency;
            let _ = writeln!(
                out,
                "crucible_benchmark_latency_seconds_bucket{{command=\"{name}\",le=\"+Inf\"}} {}",
                l.count()
            );
            let _ = writeln!(
                out,
                "crucible_benchmark_latency_seconds_sum{{command=\"{name}\"}} {}",
                l.sum_ns() as f64 / 1e9
            );
            let _ = writeln!(
                out,
                "crucible_benchmark_latency_seconds_count{{command=\"{name}\"}} {}",
                l.count()
            );
        }
        out
    }
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::{interval, names};
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_end_at_the_count() {
        let (mut exporter, page) = Exporter::new(names());
        exporter.interval(&interval(0, 100, 150_000));
        exporter.interval(&interval(1, 100, 150_000));
        let text = page.lock().unwrap().clone();
        assert!(text.contains("crucible_benchmark_responses_total{command=\"get\"} 100"), "{text}");
        assert!(text.contains("latency_seconds_bucket{command=\"get\",le=\"0.0001\"} 0\n"));
        assert!(text.contains("latency_seconds_bucket{command=\"get\",le=\"0.0005\"} 100\n"));
        assert!(text.contains("latency_seconds_bucket{command=\"get\",le=\"+Inf\"} 100\n"));
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let (_, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
}
