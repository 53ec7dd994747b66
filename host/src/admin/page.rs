//! The live page at `/`: how the cache is doing, at a glance.
//!
//! What must always be true: it is one self-contained document that reads
//! `/stats` and `/plugins` and loads nothing else. Called for `GET /`.

/// The document.
pub(super) const PAGE: &str = include_str!("page.html");
