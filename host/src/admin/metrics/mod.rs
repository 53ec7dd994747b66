//! `/metrics` in the OpenMetrics text format, by what the numbers are of.
//!
//! What must always be true: a name is said by one file here; the text ends with EOF. Called for
//! each scrape.
//!
//! Source: the OpenMetrics 1.0 specification.

mod process;
mod requests;
mod stores;
mod text;
mod workers;

use super::State;
pub(super) use stores::numbers as store_numbers;
use text::{Kind, Text};

/// The format's content type.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics.
pub(super) fn render(state: &State) -> String {
    let mut text = Text::default();
    process::write(&mut text, state);
    workers::listeners(&mut text, state);
    requests::write(&mut text, state);
    workers::write(&mut text, state);
    plugins(&mut text, state);
    stores::write(&mut text, state);
    text.end()
}

/// What plugins count of themselves.
fn plugins(text: &mut Text, state: &State) {
    for (number, value) in state.crew.core.counters.read() {
        let base = text::name_of(&["crucible", &number.plugin, &number.name]);
        let base = base.strip_suffix("_total").unwrap_or(&base);
        if number.gauge {
            text.one(base, Kind::Gauge, &number.help, value.cast_signed());
        } else {
            text.one(base, Kind::Counter, &number.help, value);
        }
    }
}
