//! Why a plan cannot be made, and the checks of single values that every section shares.
//!
//! Always true: an error names the key, what was written, and what would do. Called by the plan's sections.

use std::time::Duration;

use super::super::units::{Amount, Span};

/// Why what was written cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A key's value is impossible.
    #[error("{key} = {value}: {why}")]
    Impossible {
        /// The key, with its section.
        key: &'static str,
        /// As written.
        value: String,
        /// What is wrong and what would do.
        why: String,
    },
    /// Two keys contradict each other.
    #[error("{one} and {other} exclude each other: {why}")]
    Conflict {
        /// One key.
        one: &'static str,
        /// The other.
        other: &'static str,
        /// Why.
        why: &'static str,
    },
    /// A key needs another one.
    #[error("{key} needs {missing}: {why}")]
    Missing {
        /// The key that was written.
        key: String,
        /// The key that was not.
        missing: &'static str,
        /// Why.
        why: &'static str,
    },
    /// An endpoint's name has no address.
    #[error("target.endpoints: `{endpoint}` has no address: {error}")]
    Unresolved {
        /// As written.
        endpoint: String,
        /// From the resolver.
        error: String,
    },
}

/// A key whose value cannot be.
pub(super) fn impossible(
    key: &'static str,
    value: impl ToString,
    why: impl Into<String>,
) -> PlanError {
    PlanError::Impossible { key, value: value.to_string(), why: why.into() }
}

/// A number within its bounds.
pub(super) fn amount(
    key: &'static str,
    written: Option<Amount>,
    default: u64,
    low: u64,
    high: u64,
) -> Result<u64, PlanError> {
    let Amount(n) = written.unwrap_or(Amount(default));
    if (low..=high).contains(&n) {
        return Ok(n);
    }
    Err(impossible(key, n, format!("must lie between {low} and {high}")))
}

/// A time within its bounds.
pub(super) fn span(
    key: &'static str,
    written: Option<Span>,
    default: Span,
    low: Span,
    high: Span,
) -> Result<Duration, PlanError> {
    let span = written.unwrap_or(default);
    if span >= low && span <= high {
        return Ok(span.0);
    }
    Err(impossible(key, span, format!("must lie between {low} and {high}")))
}

/// So many milliseconds.
pub(super) const fn ms(n: u64) -> Span {
    Span(Duration::from_millis(n))
}

/// The longest of times.
pub(super) const DAY: Span = Span(Duration::from_secs(86_400));
