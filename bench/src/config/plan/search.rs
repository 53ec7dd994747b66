//! The `[search]` section: the promise, and how its limit is looked for.
//!
//! Always true: a search has a promise to keep. Called by the plan.

use super::super::written::Search;
use super::SearchPlan;
use super::error::{PlanError, amount, impossible, ms, span};

/// The search, where a promise is made.
pub(super) fn plan(search: &Search) -> Result<Option<SearchPlan>, PlanError> {
    let promise = search.p50.is_some()
        || search.p99.is_some()
        || search.p999.is_some()
        || search.achieved.is_some();
    if !promise {
        for (key, present) in [
            ("search.start", search.start.is_some()),
            ("search.max", search.max.is_some()),
            ("search.factor", search.factor.is_some()),
            ("search.step", search.step.is_some()),
            ("search.precision", search.precision.is_some()),
        ] {
            if present {
                return Err(PlanError::Missing {
                    key: key.into(),
                    missing: "search.p50, p99, p999 or achieved",
                    why: "a search needs a promise to keep",
                });
            }
        }
        return Ok(None);
    }
    let within = |key, value: Option<f64>, default: f64, low: f64, high: f64| {
        let value = value.unwrap_or(default);
        if (low..=high).contains(&value) {
            Ok(value)
        } else {
            Err(impossible(key, value, format!("must lie between {low} and {high}")))
        }
    };
    let start = amount("search.start", search.start, 1000, 1, 1_000_000_000)?;
    let max = amount("search.max", search.max, 10_000_000, 1, 1_000_000_000)?;
    if start > max {
        return Err(impossible("search.start", start, format!("is above search.max = {max}")));
    }
    Ok(Some(SearchPlan {
        p50: search.p50.map(|s| s.0),
        p99: search.p99.map(|s| s.0),
        p999: search.p999.map(|s| s.0),
        achieved: within("search.achieved", search.achieved, 0.98, 0.01, 1.0)?,
        start,
        max,
        factor: within("search.factor", search.factor, 2.0, 1.05, 100.0)?,
        step: span("search.step", search.step, ms(2_000), ms(50), ms(3_600_000))?,
        precision: within("search.precision", search.precision, 0.05, 0.001, 1.0)?,
    }))
}
