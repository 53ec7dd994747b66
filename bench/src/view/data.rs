//! What the dashboard draws, as JSON.
//!
//! Always true: long runs are put together to at most [`POINTS_MAX`] points by adding histograms, never by
//! averaging percentiles. Called by [`super::page`].

use serde_json::{Map, Value, json};

use crate::compare::{self, Confidence};
use crate::hist::{Latencies, bucket_start_ns};
use crate::record::parquet::{ResultFileError, Results};
use crate::record::row::Row;

/// Most points of a curve.
pub(super) const POINTS_MAX: usize = 900;
/// Rows of the heatmap in each power of two of latency.
const HEAT_PER_POWER: f64 = 6.0;

/// The data of a page.
pub(super) fn of(results: &[Results]) -> Result<Value, ResultFileError> {
    let runs = results.iter().map(run).collect::<Result<Vec<_>, _>>()?;
    let mut differences = Vec::new();
    for other in results.iter().skip(1) {
        let lines = compare::lines(&results[0], other)?;
        differences.push(json!({ "before": name(&results[0]), "after": name(other), "lines": lines.iter().map(line).collect::<Vec<_>>() }));
    }
    Ok(json!({ "runs": runs, "differences": differences, "heatPerPower": HEAT_PER_POWER }))
}

fn line(line: &compare::Line) -> Value {
    let verdict = match (line.confidence, line.better) {
        (Confidence::Differs, Some(true)) => "better",
        (Confidence::Differs, Some(false)) => "worse",
        (Confidence::Differs, None) => "differs",
        (Confidence::Noise, _) => "within noise",
        (Confidence::TooFew, _) => "too few intervals",
    };
    json!({ "name": line.name, "before": line.before, "after": line.after, "change": line.change, "verdict": verdict })
}

fn name(results: &Results) -> String {
    results.path.file_stem().map_or_else(|| "run".into(), |n| n.to_string_lossy().into_owned())
}

fn impossible(results: &Results) -> ResultFileError {
    let error = parquet::errors::ParquetError::General("a histogram has impossible buckets".into());
    ResultFileError::Content { path: results.path.clone(), error }
}

/// Intervals that are drawn as one point.
struct Point<'a> {
    rows: Vec<&'a Row>,
}

impl Point<'_> {
    fn sum(&self, name: &str) -> f64 {
        self.rows.iter().map(|r| r.real(name)).sum()
    }

    fn seconds(&self) -> f64 {
        self.rows
            .iter()
            .map(|r| (r.int("end_ns") - r.int("start_ns")) as f64 / 1e9)
            .sum::<f64>()
            .max(1e-9)
    }

    fn last(&self, name: &str) -> f64 {
        self.rows.last().map_or(0.0, |r| r.real(name))
    }

    fn latencies(&self, name: &str) -> Option<Latencies> {
        self.rows.iter().try_fold(Latencies::new(), |mut sum, row| {
            sum.add(&row.latencies(name)?);
            Some(sum)
        })
    }
}

fn run(results: &Results) -> Result<Value, ResultFileError> {
    let rows: Vec<&Row> = results.rows.iter().filter(|r| r.text("phase") == "measure").collect();
    let Some(first) = rows.first() else {
        return Err(ResultFileError::Empty { path: results.path.clone() });
    };
    let begun_ns = first.int("start_ns");
    let each = rows.len().div_ceil(POINTS_MAX);
    let points: Vec<Point<'_>> =
        rows.chunks(each).map(|rows| Point { rows: rows.to_vec() }).collect();
    let commands: Vec<&str> = results
        .description
        .get("commands_measured")
        .map(|t| t.lines().collect())
        .unwrap_or_default();

    let mut series: Map<String, Value> = Map::new();
    let mut put = |name: &str, of: &dyn Fn(&Point<'_>) -> Option<f64>| {
        series.insert(
            name.to_owned(),
            points.iter().map(|p| of(p).map_or(Value::Null, |x| json!(round(x)))).collect(),
        );
    };
    put("time_s", &|p| p.rows.first().map(|r| (r.int("start_ns") - begun_ns) as f64 / 1e9));
    put("seconds", &|p| Some(p.seconds()));
    put("throughput", &|p| Some(p.sum("responses") / p.seconds()));
    put("rate", &|p| Some(p.last("rate")).filter(|r| *r > 0.0));
    put("hit_ratio", &|p| {
        let (hits, misses) = (p.sum("read_hits"), p.sum("read_misses"));
        (hits + misses > 0.0).then(|| hits / (hits + misses))
    });
    for failure in [
        "errors",
        "timeouts",
        "lost",
        "unsent",
        "disconnects",
        "garbage",
        "wrong",
        "torn",
        "stale",
        "stale_after_delete",
        "never_written",
    ] {
        put(failure, &|p| Some(p.sum(failure) / p.seconds()));
    }
    put("bytes_sent", &|p| Some(p.sum("bytes_sent") / p.seconds()));
    put("bytes_received", &|p| Some(p.sum("bytes_received") / p.seconds()));
    put("connections", &|p| Some(p.last("connections")));
    put("in_flight", &|p| Some(p.last("in_flight")));
    put("backlog", &|p| Some(p.last("backlog")));
    put("own_cpu", &|p| Some(p.sum("generator_cpu_ns") / p.seconds() / 1e9));
    put("server_cpu", &|p| {
        p.rows
            .iter()
            .all(|r| r.int("server_cpu_ns") >= 0)
            .then(|| p.sum("server_cpu_ns") / p.seconds() / 1e9)
    });

    let merged = points
        .iter()
        .map(|p| p.latencies("latency"))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| impossible(results))?;
    let of = |name| {
        let all = points.iter().map(|p| p.latencies(name)).collect::<Option<Vec<_>>>();
        all.ok_or_else(|| impossible(results))
    };
    let (first_bytes, kernel) = (of("first_byte")?, of("kernel")?);
    let percentiles = |list: &[Latencies], q: f64| -> Value {
        list.iter()
            .map(|l| if l.count() == 0 { Value::Null } else { json!(l.quantile_ns(q)) })
            .collect()
    };
    for (name, q) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)] {
        series.insert(name.into(), percentiles(&merged, q));
    }
    series.insert("first_byte_p50".into(), percentiles(&first_bytes, 0.5));
    series.insert("first_byte_p99".into(), percentiles(&first_bytes, 0.99));
    series.insert("kernel_p50".into(), percentiles(&kernel, 0.5));
    series.insert("kernel_p99".into(), percentiles(&kernel, 0.99));
    let heat: Vec<Value> = merged.iter().map(heat).collect();

    let all = merged.iter().fold(Latencies::new(), |mut all, l| {
        all.add(l);
        all
    });
    let whole = Point { rows: rows.clone() };
    let table = commands.iter().map(|name| {
        let latencies = whole.latencies(&format!("{name}/latency")).ok_or_else(|| impossible(results))?;
        Ok(json!({ "name": name, "responses": whole.sum(&format!("{name}/responses")), "latency": quantiles(&latencies),
            "hits": whole.sum(&format!("{name}/hits")), "misses": whole.sum(&format!("{name}/misses")), "errors": whole.sum(&format!("{name}/errors")) }))
    });
    let table = table.collect::<Result<Vec<_>, ResultFileError>>()?;
    Ok(json!({
        "name": name(results),
        "description": results.description,
        "series": series,
        "heat": heat,
        "commands": table,
        "total": { "responses": whole.sum("responses"), "seconds": whole.seconds(), "latency": quantiles(&all), "cdf": cdf(&all) },
        "steps": steps(&rows, results)?,
    }))
}

fn round(x: f64) -> f64 {
    if x.abs() >= 100.0 { x.round() } else { (x * 1e6).round() / 1e6 }
}

fn quantiles(l: &Latencies) -> Value {
    let q = |q| l.quantile_ns(q);
    json!({ "count": l.count(), "mean": l.mean_ns() as u64, "p50": q(0.5), "p90": q(0.9), "p99": q(0.99), "p999": q(0.999), "max": l.max_ns() })
}

/// The latency at each "number of nines", for the distribution's curve.
fn cdf(l: &Latencies) -> Value {
    (0..=60)
        .map(|n| f64::from(n) / 10.0)
        .map(|nines| json!([nines, l.quantile_ns(1.0 - 10f64.powf(-nines))]))
        .collect()
}

/// Counts by heatmap row: [row, count, …].
fn heat(l: &Latencies) -> Value {
    let mut rows: std::collections::BTreeMap<i64, u64> = std::collections::BTreeMap::new();
    for (index, n) in l.sparse() {
        let row = ((bucket_start_ns(index).max(1) as f64).log2() * HEAT_PER_POWER).floor() as i64;
        *rows.entry(row).or_insert(0) += n;
    }
    rows.into_iter().flat_map(|(row, n)| [json!(row), json!(n)]).collect()
}

/// One entry for each rate of a search, lowest first; a single rate gives none.
fn steps(rows: &[&Row], results: &Results) -> Result<Value, ResultFileError> {
    let mut numbers: Vec<i64> = rows.iter().map(|r| r.int("step")).collect();
    numbers.dedup();
    if numbers.len() < 2 {
        return Ok(json!([]));
    }
    let mut steps = Vec::new();
    for number in numbers {
        let step =
            Point { rows: rows.iter().copied().filter(|r| r.int("step") == number).collect() };
        let latencies = step.latencies("latency").ok_or_else(|| impossible(results))?;
        let (rate, throughput) = (step.last("rate"), step.sum("responses") / step.seconds());
        steps.push((
            rate,
            json!({ "rate": rate, "throughput": throughput, "latency": quantiles(&latencies) }),
        ));
    }
    steps.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(steps.into_iter().map(|(_, step)| step).collect())
}
