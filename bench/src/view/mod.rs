//! The dashboard: results put into one self-contained page.
//!
//! Always true: the page asks the network for nothing; what it shows was computed here from the result
//! files, so the page and `compare` cannot disagree. Called by `crucible-benchmark view`.

mod data;

use crate::record::parquet::{ResultFileError, Results};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page for these results.
///
/// # Errors
/// When a result has no measured interval or its buckets are impossible.
pub fn page(results: &[Results]) -> Result<String, ResultFileError> {
    let data = data::of(results)?.to_string();
    // Inside a script element only `</` could end it, and `<!--` could change how it is read.
    let data = data.replace('<', "\\u003c");
    // In order of appearance, so that nothing in the data can stand for a mark.
    let (head, rest) = PAGE.split_once("/*STYLE*/").expect("the page has its marks");
    let (middle, rest) = rest.split_once("/*DATA*/").expect("the page has its marks");
    let (between, tail) = rest.split_once("/*SCRIPT*/").expect("the page has its marks");
    Ok([head, STYLE, middle, &data, between, SCRIPT, tail].concat())
}
