//! The log: set up once, with a level that can change.
//!
//! What must always be true: plugins and host share one level; a plugin's line
//! carries its name. Called by `start`, by the plugins' table, by a reload.

use std::io::IsTerminal as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload::{Handle, Layer};

use crate::config::Logging;
use crate::config::value::{Format, Level, Output};

/// Lines about what any client can cause come this far apart.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

static LEVEL: OnceLock<Handle<LevelFilter, tracing_subscriber::Registry>> = OnceLock::new();

/// The level as the plugins' tables count it: 0 off .. 5 trace.
#[must_use]
pub fn number(level: Level) -> u8 {
    match level {
        Level::Off => 0,
        Level::Error => 1,
        Level::Warn => 2,
        Level::Info => 3,
        Level::Debug => 4,
        Level::Trace => 5,
    }
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Off => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

/// Time after which a sampled request is logged; 0 = never.
#[must_use]
pub fn slow_us(settings: &Logging) -> u64 {
    u64::try_from(settings.slow_after.as_micros()).unwrap_or(u64::MAX)
}

/// Sets the log up. Only the first call has an effect.
pub fn init(settings: &Logging) {
    let (level, handle) = Layer::new(filter(settings.level));
    let stderr = settings.output == Output::Stderr;
    let writer = move || -> Box<dyn std::io::Write> {
        if stderr { Box::new(std::io::stderr()) } else { Box::new(std::io::stdout()) }
    };
    // Escapes are for people who look on, not for files.
    let terminal =
        if stderr { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() };
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match settings.format {
        Format::Pretty => lines
            .pretty()
            .with_target(false)
            .with_file(false)
            .with_line_number(false)
            .with_ansi(colours)
            .boxed(),
        Format::Compact => lines.with_target(false).with_ansi(false).compact().boxed(),
        Format::Json => lines.with_ansi(false).json().boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(level));
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        let _first = LEVEL.set(handle);
    }
}

/// Changes the level, for the host and for plugins.
pub fn set_level(level: Level, plugins: &AtomicU8) {
    plugins.store(number(level), Ordering::Relaxed);
    if let Some(handle) = LEVEL.get()
        && let Err(error) = handle.reload(filter(level))
    {
        tracing::warn!(%error, "the log level stays as it was");
    }
}

/// Lets one line in a second through, and says how many it held back.
#[derive(Debug, Default)]
pub struct Throttle {
    last: Option<Instant>,
    held_back: u64,
}

impl Throttle {
    /// Whether a line may be written now: how many were not since the last.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < LINE_INTERVAL) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

/// A line from a plugin.
pub fn plugin_line(plugin: &str, level: u8, target: &str, message: &str) {
    match level {
        0 => {}
        1 => tracing::error!(plugin, target, "{message}"),
        2 => tracing::warn!(plugin, target, "{message}"),
        3 => tracing::info!(plugin, target, "{message}"),
        4 => tracing::debug!(plugin, target, "{message}"),
        _ => tracing::trace!(plugin, target, "{message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_lets_one_line_in_a_second_through_and_counts_the_others() {
        let mut throttle = Throttle::default();
        let start = Instant::now();
        assert_eq!(throttle.admit(start), Some(0));
        assert_eq!(throttle.admit(start), None);
        assert_eq!(throttle.admit(start + LINE_INTERVAL / 2), None);
        assert_eq!(throttle.admit(start + LINE_INTERVAL), Some(2));
        assert_eq!(throttle.admit(start + LINE_INTERVAL * 2), Some(0));
    }
}
