//! JSON lines: one object for the run's description, each interval, each step.
//!
//! Always true: a line is written whole and flushed, so that a reader of a pipe sees it at once. Called
//! by the recorder.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::row::{Cell, Row};
use super::summary::About;
use crate::hist::Latencies;
use crate::run::verdict::Step;

/// Where the lines go.
pub struct JsonLines {
    out: Box<dyn Write + Send>,
}

impl JsonLines {
    /// A file, or standard output for `-`.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        let out: Box<dyn Write + Send> = if path.as_os_str() == "-" {
            Box::new(io::stdout())
        } else {
            Box::new(File::create(path)?)
        };
        Ok(Self { out })
    }

    fn line(&mut self, value: &Value) -> io::Result<()> {
        writeln!(self.out, "{value}")?;
        self.out.flush()
    }

    /// The run's description.
    ///
    /// # Errors
    /// When writing fails.
    pub fn description(&mut self, pairs: &[(String, String)]) -> io::Result<()> {
        let map: Map<String, Value> = pairs.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        self.line(&json!({ "kind": "run", "description": map }))
    }

    /// An interval.
    ///
    /// # Errors
    /// When writing fails.
    pub fn interval(&mut self, row: &Row) -> io::Result<()> {
        let mut map = Map::new();
        map.insert("kind".into(), json!("interval"));
        for (name, cell) in row.cells() {
            let value = match cell {
                Cell::Int(n) => json!(n),
                Cell::Real(x) => json!(x),
                Cell::Text(text) => json!(text),
                Cell::Buckets(_) => latencies(&row.latencies(name).unwrap_or_default()),
            };
            map.insert(name.to_owned(), value);
        }
        self.line(&Value::Object(map))
    }

    /// A step's result.
    ///
    /// # Errors
    /// When writing fails.
    pub fn step(&mut self, about: &About<'_>, step: &Step) -> io::Result<()> {
        let value = result(about, step);
        self.line(&value)
    }
}

/// The percentiles of a histogram.
#[must_use]
pub fn latencies(l: &Latencies) -> Value {
    let q = |q| l.quantile_ns(q);
    json!({
        "count": l.count(), "mean_ns": l.mean_ns(), "p50_ns": q(0.5), "p90_ns": q(0.9), "p99_ns": q(0.99),
        "p999_ns": q(0.999), "max_ns": l.max_ns(),
    })
}

/// A step as an object.
#[must_use]
pub fn result(about: &About<'_>, step: &Step) -> Value {
    let mut counts = Map::new();
    for of in super::sample::Of::ALL {
        counts.insert(of.name().into(), json!(step.total.sum(*of)));
    }
    for of in super::sample::All::ALL {
        counts.insert(of.name().into(), json!(step.total.get(*of)));
    }
    let commands: Map<String, Value> = about
        .commands
        .iter()
        .zip(&step.total.commands)
        .map(|(name, c)| (name.clone(), latencies(&c.latency)))
        .collect();
    json!({
        "kind": "result", "step": step.number, "loop": about.plan.loop_words(), "rate": step.rate, "seconds": step.seconds,
        "throughput": step.throughput(), "achieved": step.achieved(), "hit_ratio": step.total.hit_ratio(about.reads),
        "latency": latencies(&step.latency()), "service": latencies(&step.total.service()),
        "first_byte": latencies(&step.total.first_byte),
        "kernel": latencies(&step.total.kernel), "slip": latencies(&step.total.slip), "commands": commands,
        "counts": counts, "error_words": step.total.error_words, "server_cpu_ns": step.server_cpu_ns,
        "partial": step.partial, "void": step.void, "warnings": step.warnings, "failures": step.failures(),
    })
}
