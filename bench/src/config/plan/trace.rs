//! The `[trace]` section: what is replayed, and what it excludes.
//!
//! Always true: the file can be opened and its format is known. Called by the plan.

use super::super::choices::{TraceFormat, TraceSpeed};
use super::super::units::Amount;
use super::super::written::{Keyspace, Trace, Workload};
use super::TracePlan;
use super::error::{PlanError, impossible};

/// Nothing else may decide what the trace decides.
pub(super) fn check_alone(
    trace: &TracePlan,
    workload: &Workload,
    keyspace: &Keyspace,
    searching: bool,
) -> Result<(), PlanError> {
    let clash = |present: bool, one| {
        if present {
            Err(PlanError::Conflict { one, other: "trace.path", why: "the trace says it" })
        } else {
            Ok(())
        }
    };
    clash(workload.commands.is_some(), "workload.commands")?;
    clash(keyspace.distribution.is_some(), "keyspace.distribution")?;
    clash(keyspace.count.is_some(), "keyspace.count")?;
    clash(searching, "search")?;
    if workload.prefill == Some(true) {
        return Err(PlanError::Conflict {
            one: "workload.prefill",
            other: "trace.path",
            why: "a trace starts on what its own requests store; use backfill_on_miss",
        });
    }
    if workload.rate_limit.is_some() && matches!(trace.speed, TraceSpeed::Timed(_)) {
        return Err(PlanError::Conflict {
            one: "workload.rate_limit",
            other: "trace.speed",
            why: "the recorded times are the rate",
        });
    }
    Ok(())
}

/// The trace, where one is named.
pub(super) fn plan(trace: &Trace) -> Result<Option<TracePlan>, PlanError> {
    let Some(path) = &trace.path else {
        for (key, present) in [
            ("trace.format", trace.format.is_some()),
            ("trace.speed", trace.speed.is_some()),
            ("trace.requests", trace.requests.is_some()),
        ] {
            if present {
                return Err(PlanError::Missing {
                    key: key.into(),
                    missing: "trace.path",
                    why: "there is no trace",
                });
            }
        }
        return Ok(None);
    };
    let path = path.0.clone();
    if let Err(error) = std::fs::File::open(&path) {
        return Err(impossible("trace.path", path.display(), error.to_string()));
    }
    let format = trace.format.or_else(|| format_of(&path.to_string_lossy())).ok_or_else(|| {
        PlanError::Missing {
            key: format!("trace.path = {}", path.display()),
            missing: "trace.format",
            why: "the file's name does not tell its format",
        }
    })?;
    let requests_max = trace.requests.map_or(u64::MAX, |Amount(n)| n);
    Ok(Some(TracePlan {
        path,
        format,
        speed: trace.speed.unwrap_or(TraceSpeed::Fast),
        requests_max,
    }))
}

fn format_of(name: &str) -> Option<TraceFormat> {
    let name =
        [".xz", ".zst", ".gz"].iter().fold(name, |n, suffix| n.strip_suffix(suffix).unwrap_or(n));
    if name.ends_with(".kt") {
        Some(TraceFormat::Kt)
    } else if name.ends_with(".csv") {
        Some(TraceFormat::Csv)
    } else if name.contains("oracleGeneral") {
        Some(TraceFormat::OracleGeneral)
    } else {
        None
    }
}
