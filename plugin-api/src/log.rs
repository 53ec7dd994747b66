//! A plugin's `tracing` events, carried to the host's log.
//!
//! Every cdylib has its own copy of `tracing`, so an event in a plugin reaches
//! nobody unless the plugin installs a subscriber. This one formats the event's
//! fields into one line and hands it to the host, which adds the plugin's name.
//! Spans are accepted and ignored.
//!
//! Always true: an event above the level costs a comparison and no call, in the
//! libraries of the plugin as well; the level is the host's as of the last
//! crossing.

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::env::Env;

/// Sends events to the host.
struct HostLog {
    env: Env,
}

/// The host that gets the events; unset where another subscriber has them.
static RECEIVER: OnceLock<Env> = OnceLock::new();

/// The level that `tracing` was told.
static TOLD: AtomicU8 = AtomicU8::new(0);

/// Makes the host the receiver of this plugin's events and panics. Only the
/// first call of a process image has an effect.
pub(crate) fn install(env: &Env) {
    let log = HostLog { env: env.clone() };
    TOLD.store(env.log_level(), Ordering::Relaxed);
    if tracing::subscriber::set_global_default(log).is_ok() {
        let _only_once = RECEIVER.set(env.clone());
        let env = env.clone();
        std::panic::set_hook(Box::new(move |info| {
            env.log(1, "panic", &info.to_string().replace('\n', " "));
        }));
    }
}

/// Takes over the host's level if it has changed. Called at each crossing.
#[inline]
pub(crate) fn follow() {
    if let Some(env) = RECEIVER.get()
        && env.log_level() != TOLD.load(Ordering::Relaxed)
    {
        take_over(env.log_level());
    }
}

#[cold]
fn take_over(level: u8) {
    TOLD.store(level, Ordering::Relaxed);
    // Asks for `max_level_hint` again.
    tracing::callsite::rebuild_interest_cache();
}

fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

impl Subscriber for HostLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        number(*metadata.level()) <= self.env.log_level()
    }

    fn register_callsite(&self, _: &'static Metadata<'static>) -> tracing::subscriber::Interest {
        // The host may change the level at run time.
        tracing::subscriber::Interest::sometimes()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.env.log_level() {
            0 => LevelFilter::OFF,
            1 => LevelFilter::ERROR,
            2 => LevelFilter::WARN,
            3 => LevelFilter::INFO,
            4 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let metadata = event.metadata();
        line.message.push_str(&line.fields);
        self.env.log(number(*metadata.level()), metadata.target(), &line.message);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}
