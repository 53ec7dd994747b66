//! Two results side by side: each figure, its change, and whether the change is more than noise.
//!
//! Always true: "differs" is said only when the intervals of the two runs differ beyond what their own
//! spread explains (Welch's t over intervals, two-sided 99 %); a void run is said to be void. Called by
//! `crucible-benchmark compare` and the dashboard.

use std::fmt::Write as _;

use crate::record::parquet::{ResultFileError, Results};
use crate::record::row::Row;
use crate::record::words::{bytes, count, percent, time};

/// A figure of every measured interval.
struct Figure {
    name: &'static str,
    of: fn(&Row) -> Option<f64>,
    show: fn(f64) -> String,
    /// Whether more is better, if either is.
    more_is_better: Option<bool>,
}

fn seconds(row: &Row) -> f64 {
    ((row.int("end_ns") - row.int("start_ns")) as f64 / 1e9).max(1e-9)
}

fn quantile(row: &Row, q: f64) -> Option<f64> {
    let latencies = row.latencies("latency")?;
    (latencies.count() > 0).then(|| latencies.quantile_ns(q) as f64)
}

const FIGURES: [Figure; 11] = [
    Figure {
        name: "throughput /s",
        of: |r| Some(r.real("responses") / seconds(r)),
        show: count,
        more_is_better: Some(true),
    },
    Figure {
        name: "p50",
        of: |r| quantile(r, 0.5),
        show: |x| time(x as u64),
        more_is_better: Some(false),
    },
    Figure {
        name: "p90",
        of: |r| quantile(r, 0.9),
        show: |x| time(x as u64),
        more_is_better: Some(false),
    },
    Figure {
        name: "p99",
        of: |r| quantile(r, 0.99),
        show: |x| time(x as u64),
        more_is_better: Some(false),
    },
    Figure {
        name: "p99.9",
        of: |r| quantile(r, 0.999),
        show: |x| time(x as u64),
        more_is_better: Some(false),
    },
    Figure {
        name: "max",
        of: |r| quantile(r, 1.0),
        show: |x| time(x as u64),
        more_is_better: Some(false),
    },
    Figure {
        name: "hit ratio",
        of: hit_ratio,
        show: |x| percent(Some(x)),
        more_is_better: Some(true),
    },
    Figure {
        name: "failures /s",
        of: |r| Some(failures(r) / seconds(r)),
        show: count,
        more_is_better: Some(false),
    },
    Figure {
        name: "received /s",
        of: |r| Some(r.real("bytes_received") / seconds(r)),
        show: bytes,
        more_is_better: None,
    },
    Figure {
        name: "server CPU a request",
        of: server_cpu,
        show: |x| time(x as u64),
        more_is_better: Some(false),
    },
    Figure {
        name: "own CPU a request",
        of: own_cpu,
        show: |x| time(x as u64),
        more_is_better: None,
    },
];

fn hit_ratio(row: &Row) -> Option<f64> {
    let (hits, misses) = (row.real("read_hits"), row.real("read_misses"));
    (hits + misses > 0.0).then(|| hits / (hits + misses))
}

fn failures(row: &Row) -> f64 {
    ["errors", "timeouts", "lost", "unsent"].iter().map(|n| row.real(n)).sum()
}

fn per_response(row: &Row, ns: f64) -> Option<f64> {
    (row.int("responses") > 0 && ns >= 0.0).then(|| ns / row.real("responses"))
}

fn server_cpu(row: &Row) -> Option<f64> {
    per_response(row, row.real("server_cpu_ns"))
}

fn own_cpu(row: &Row) -> Option<f64> {
    per_response(row, row.real("generator_cpu_ns"))
}

/// Mean and spread of a figure over intervals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Intervals that have it.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub deviation: f64,
}

fn spread(rows: &[&Row], of: fn(&Row) -> Option<f64>) -> Option<Spread> {
    let values: Vec<f64> = rows.iter().filter_map(|r| of(r)).collect();
    let n = values.len();
    if n == 0 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n as f64;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    let deviation = if n > 1 { (squares / (n - 1) as f64).sqrt() } else { 0.0 };
    Some(Spread { n, mean, deviation })
}

/// What can be said of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confidence {
    /// Beyond the noise of both.
    Differs,
    /// Within it.
    Noise,
    /// Fewer than three intervals on a side.
    TooFew,
}

/// Welch's t-test, two-sided at 99 %.
#[must_use]
pub fn confidence(a: Spread, b: Spread) -> Confidence {
    if a.n < 3 || b.n < 3 {
        return Confidence::TooFew;
    }
    let (va, vb) = (a.deviation.powi(2) / a.n as f64, b.deviation.powi(2) / b.n as f64);
    if va + vb == 0.0 {
        return if a.mean == b.mean { Confidence::Noise } else { Confidence::Differs };
    }
    let t = (a.mean - b.mean).abs() / (va + vb).sqrt();
    let freedom =
        (va + vb).powi(2) / (va.powi(2) / (a.n - 1) as f64 + vb.powi(2) / (b.n - 1) as f64);
    if t > t_99(freedom) { Confidence::Differs } else { Confidence::Noise }
}

/// Critical values of Student's t, two-sided 99 %: the table's entry at or below the degrees of freedom.
fn t_99(freedom: f64) -> f64 {
    const TABLE: [(f64, f64); 14] = [
        (1.0, 63.66),
        (2.0, 9.925),
        (3.0, 5.841),
        (4.0, 4.604),
        (5.0, 4.032),
        (6.0, 3.707),
        (8.0, 3.355),
        (10.0, 3.169),
        (15.0, 2.947),
        (20.0, 2.845),
        (30.0, 2.750),
        (60.0, 2.660),
        (120.0, 2.617),
        (1e9, 2.576),
    ];
    TABLE.iter().rev().find(|(n, _)| *n <= freedom).map_or(63.66, |(_, t)| *t)
}

fn measured(results: &Results) -> Result<Vec<&Row>, ResultFileError> {
    let rows: Vec<&Row> = results.rows.iter().filter(|r| r.text("phase") == "measure").collect();
    if rows.is_empty() {
        Err(ResultFileError::Empty { path: results.path.clone() })
    } else {
        Ok(rows)
    }
}

/// One line of a comparison.
#[derive(Debug, Clone)]
pub struct Line {
    /// The figure.
    pub name: &'static str,
    /// Before and after, as people read them.
    pub before: String,
    /// See `before`.
    pub after: String,
    /// After over before, less one.
    pub change: Option<f64>,
    /// What can be said of it.
    pub confidence: Confidence,
    /// Whether the change is for the better, if that is known.
    pub better: Option<bool>,
}

/// Every figure that both results have.
///
/// # Errors
/// When a result has no measured interval.
pub fn lines(before: &Results, after: &Results) -> Result<Vec<Line>, ResultFileError> {
    let (rows_before, rows_after) = (measured(before)?, measured(after)?);
    let line = |figure: &Figure| {
        let (a, b) = (spread(&rows_before, figure.of)?, spread(&rows_after, figure.of)?);
        let show = |s: Spread| {
            if s.n > 1 {
                format!("{} ± {}", (figure.show)(s.mean), (figure.show)(s.deviation))
            } else {
                (figure.show)(s.mean)
            }
        };
        Some(Line {
            name: figure.name,
            before: show(a),
            after: show(b),
            change: (a.mean != 0.0).then(|| b.mean / a.mean - 1.0),
            confidence: confidence(a, b),
            better: figure.more_is_better.map(|more| (b.mean > a.mean) == more),
        })
    };
    Ok(FIGURES.iter().filter_map(line).collect())
}

/// The comparison as text.
///
/// # Errors
/// When a result has no measured interval.
pub fn table(before: &Results, after: &Results) -> Result<String, ResultFileError> {
    let mut out = String::new();
    let _ = writeln!(out, "before  {}\nafter   {}\n", before.path.display(), after.path.display());
    let keys: std::collections::BTreeSet<&String> =
        before.description.keys().chain(after.description.keys()).collect();
    for key in keys {
        let (a, b) = (before.description.get(key), after.description.get(key));
        if a != b && !matches!(key.as_str(), "begun_unix_ns" | "void" | "failures" | "partial") {
            let text = |v: Option<&String>| v.map_or("-", String::as_str).replace('\n', ",");
            let _ = writeln!(out, "differs by {key}: {} → {}", text(a), text(b));
        }
    }
    for (which, results) in [("before", before), ("after", after)] {
        for key in ["void", "failures", "partial"] {
            for line in results.description.get(key).into_iter().flat_map(|t| t.lines()) {
                let _ = writeln!(
                    out,
                    "{which} is {}: {line}",
                    if key == "failures" { "failed" } else { key }
                );
            }
        }
    }
    let _ = writeln!(
        out,
        "\n{:<22} {:>24} {:>24} {:>9}  (mean ± deviation over intervals)",
        "", "before", "after", "change"
    );
    for line in lines(before, after)? {
        let change = line.change.map_or_else(|| "-".into(), |c| format!("{:+.1} %", c * 100.0));
        let verdict = match (line.confidence, line.better) {
            (Confidence::Differs, Some(true)) => "better (99 %)",
            (Confidence::Differs, Some(false)) => "worse (99 %)",
            (Confidence::Differs, None) => "differs (99 %)",
            (Confidence::Noise, _) => "within noise",
            (Confidence::TooFew, _) => "too few intervals to tell",
        };
        let _ = writeln!(
            out,
            "{:<22} {:>24} {:>24} {change:>9}  {verdict}",
            line.name, line.before, line.after
        );
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::row::{
        row,
        tests::{interval, names},
    };
    use std::collections::BTreeMap;

    fn results(replies: impl Iterator<Item = u64>, latency_ns: u64) -> Results {
        let rows = replies
            .enumerate()
            .map(|(n, r)| row(&interval(n as u64, r, latency_ns), &names(), &[0], 0))
            .collect();
        Results { path: "r.parquet".into(), description: BTreeMap::new(), rows }
    }

    fn verdict(before: &Results, after: &Results, name: &str) -> (Confidence, Option<bool>) {
        let line = lines(before, after).unwrap().into_iter().find(|l| l.name == name).unwrap();
        (line.confidence, line.better)
    }

    #[test]
    fn a_difference_beyond_the_spread_is_stated_and_one_within_it_is_not() {
        let wobble = |base: u64| (0..10).map(move |n| base + n % 3 * 5);
        let (a, same, faster) = (
            results(wobble(1000), 10_000),
            results(wobble(1002), 10_000),
            results(wobble(1100), 5_000),
        );
        assert_eq!(verdict(&a, &same, "throughput /s").0, Confidence::Noise);
        assert_eq!(verdict(&a, &faster, "throughput /s"), (Confidence::Differs, Some(true)));
        assert_eq!(verdict(&faster, &a, "p50"), (Confidence::Differs, Some(false)));
    }

    #[test]
    fn two_intervals_are_too_few_to_tell() {
        let (a, b) = (results([100, 100].into_iter(), 10), results([200, 200].into_iter(), 10));
        assert_eq!(verdict(&a, &b, "throughput /s").0, Confidence::TooFew);
    }

    #[test]
    fn void_and_failed_runs_are_said_to_be_so() {
        let (a, mut b) = (results((0..5).map(|_| 10), 10), results((0..5).map(|_| 10), 10));
        b.description.insert("void".into(), "the generator was the limit".into());
        b.description.insert("protocol".into(), "resp3".into());
        let text = table(&a, &b).unwrap();
        assert!(text.contains("after is void: the generator was the limit"), "{text}");
        assert!(text.contains("differs by protocol: - → resp3"), "{text}");
    }
}
