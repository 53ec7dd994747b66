//! What requests do, seen through a small sample of the crossings.
//!
//! One crossing in [`SAMPLED_EVERY`] is observed, and a few operations of it: how long they took
//! from the worker's wake-up to the reply, what became of them, which keys they were for. What
//! must always be true: a crossing that is not observed pays for a counter and two branches;
//! nothing here holds a lock while a plugin runs; a whole key leaves the process only for who
//! asks for whole keys. Called by the worker; read by the admin server.

pub(crate) mod class;
pub(crate) mod hot;
pub(crate) mod latency;
pub(crate) mod tap;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use class::{Class, outcome};
use hot::{Hot, HotKeys};
use latency::{Seen, Series};
use tap::Note;

use crate::services::lock;

/// One crossing in so many is observed; a power of two.
pub(crate) const SAMPLED_EVERY: u64 = 128;
/// Operations that a trace keeps of each worker.
const TRACED_MAX: usize = 4096;

const _: () = assert!(SAMPLED_EVERY.is_power_of_two());

/// An operation of a trace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traced {
    pub(crate) at_ms: u64,
    pub(crate) protocol: usize,
    pub(crate) took: Duration,
    pub(crate) note: Note,
}

/// One worker's view.
#[derive(Debug)]
struct View {
    /// By protocol and class.
    series: Vec<[Series; Class::NAMES.len()]>,
    hot: Mutex<HotKeys>,
    traced: Mutex<Vec<Traced>>,
}

/// What all workers saw.
#[derive(Debug)]
pub struct Observer {
    /// Crossings whose number has none of these bits are observed.
    mask: AtomicU64,
    tracing: AtomicBool,
    protocols: Vec<String>,
    views: Vec<View>,
}

/// A trace is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Trace<'o>(&'o Observer);

impl Observer {
    /// For these workers and the protocols' names, which may repeat.
    #[must_use]
    pub fn new(workers: usize, names: impl Iterator<Item = String>) -> Self {
        let mut protocols: Vec<String> = Vec::new();
        for name in names {
            if !protocols.contains(&name) {
                protocols.push(name);
            }
        }
        let view = || View {
            series: protocols.iter().map(|_| Default::default()).collect(),
            hot: Mutex::default(),
            traced: Mutex::default(),
        };
        let views = (0..workers).map(|_| view()).collect();
        let mask = AtomicU64::new(SAMPLED_EVERY - 1);
        Self { mask, tracing: AtomicBool::new(false), protocols, views }
    }

    /// Whether the crossing of this number is observed.
    #[inline]
    pub(crate) fn wants(&self, crossing: u64) -> bool {
        crossing & self.mask.load(Ordering::Relaxed) == 0
    }

    /// Takes in the operations of a crossing. On the worker's thread.
    pub(crate) fn record(
        &self,
        worker: usize,
        protocol: &str,
        took: Duration,
        at_ms: u64,
        notes: &[Note],
    ) {
        let place = self.protocols.iter().position(|known| known == protocol);
        let (Some(protocol), Some(view)) = (place, self.views.get(worker)) else { return };
        for note in notes {
            view.series[protocol][note.class as usize].record(took, outcome(note.status));
        }
        {
            let mut hot = lock(&view.hot);
            notes.iter().for_each(|note| hot.record(note));
        }
        if self.tracing.load(Ordering::Relaxed) {
            let mut traced = lock(&view.traced);
            let room = TRACED_MAX.saturating_sub(traced.len());
            let some = notes.iter().take(room);
            traced.extend(some.map(|note| Traced { at_ms, protocol, took, note: *note }));
        }
    }

    /// Times and outcomes by worker, protocol and class, where there are any.
    pub(crate) fn series(&self, mut visit: impl FnMut(usize, &str, &'static str, &Seen)) {
        for (worker, view) in self.views.iter().enumerate() {
            for (protocol, classes) in self.protocols.iter().zip(&view.series) {
                for (class, series) in Class::NAMES.iter().zip(classes) {
                    let seen = series.read();
                    if seen.count() > 0 {
                        visit(worker, protocol, class, &seen);
                    }
                }
            }
        }
    }

    /// The most frequent keys of all workers, best first, and the operations behind them.
    pub(crate) fn hot(&self, most: usize) -> (Vec<Hot>, u64) {
        let mut all = Vec::new();
        let seen = self.views.iter().map(|view| lock(&view.hot).read(&mut all)).sum();
        all.sort_by_key(|hot| std::cmp::Reverse(hot.count - hot.doubt));
        all.retain(|hot| hot.count > hot.doubt);
        all.truncate(most);
        (all, seen)
    }

    /// Begins a trace, unless one is under way: every crossing is observed while it lasts.
    pub(crate) fn trace(&self) -> Option<Trace<'_>> {
        if self.tracing.swap(true, Ordering::Relaxed) {
            return None;
        }
        self.mask.store(0, Ordering::Relaxed);
        Some(Trace(self))
    }

    /// The protocol of a traced operation.
    pub(crate) fn protocol(&self, traced: &Traced) -> &str {
        &self.protocols[traced.protocol]
    }
}

impl Trace<'_> {
    /// What was traced so far, in the order of time.
    pub(crate) fn read(&self) -> Vec<(usize, Traced)> {
        let of = |(worker, view): (usize, &View)| {
            let taken = std::mem::take(&mut *lock(&view.traced));
            taken.into_iter().map(move |traced| (worker, traced))
        };
        let mut all: Vec<_> = self.0.views.iter().enumerate().flat_map(of).collect();
        all.sort_by_key(|(_, traced)| traced.at_ms);
        all
    }
}

impl Drop for Trace<'_> {
    fn drop(&mut self) {
        self.0.mask.store(SAMPLED_EVERY - 1, Ordering::Relaxed);
        self.0.tracing.store(false, Ordering::Relaxed);
        self.0.views.iter().for_each(|view| lock(&view.traced).clear());
    }
}

/// A key for people: its first bytes, or, when not `whole`, at most half of it and at most eight.
pub(crate) fn shown(note: &Note, whole: bool) -> String {
    let len = note.key_len as usize;
    let most = if whole { tap::KEY_LEN_MAX } else { 8.min(len / 2) };
    let kept = &note.key()[..most.min(note.key().len())];
    let dots = if kept.len() < len { "…" } else { "" };
    format!("{}{dots}", kept.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crucible_plugin_api::Status;

    fn note(key: &[u8]) -> Note {
        let mut kept = [0; tap::KEY_LEN_MAX];
        let len = key.len().min(tap::KEY_LEN_MAX);
        kept[..len].copy_from_slice(&key[..len]);
        Note {
            class: Class::Get,
            status: Status::MISS,
            conn_id: 5,
            key: kept,
            key_len: key.len() as u32,
            key_hash: 1,
            value_len: 0,
        }
    }

    #[test]
    fn a_key_is_never_shown_whole_unless_asked_for() {
        assert_eq!(shown(&note(b"ab"), false), "a…");
        assert_eq!(shown(&note(b"a"), false), "…");
        assert_eq!(shown(&note(b"user:12345:token"), false), "user:123…");
        assert_eq!(shown(&note(b"user:\x00"), true), "user:\\x00");
        let long = shown(&note(&[b'k'; 100]), true);
        assert_eq!(long, format!("{}…", "k".repeat(32)));
    }

    #[test]
    fn one_trace_at_a_time_sees_every_crossing_and_leaves_nothing_behind() {
        let observer = Observer::new(1, ["resp", "resp"].map(String::from).into_iter());
        assert!(observer.wants(SAMPLED_EVERY) && !observer.wants(65));
        let took = Duration::from_micros(3);
        observer.record(0, "resp", took, 9, &[note(b"key")]);
        {
            let trace = observer.trace().unwrap();
            assert!(observer.trace().is_none() && observer.wants(65));
            observer.record(0, "resp", took, 10, &[note(b"key"); 3]);
            observer.record(0, "unknown", took, 10, &[note(b"key")]);
            assert_eq!(trace.read().len(), 3);
            for _ in 0..TRACED_MAX {
                observer.record(0, "resp", took, 10, &[note(b"key"); 3]);
            }
            assert_eq!(trace.read().len(), TRACED_MAX);
        }
        assert!(!observer.wants(65));
        let mut counts = Vec::new();
        observer.series(|worker, protocol, class, seen| {
            counts.push((worker, protocol.to_owned(), class, seen.outcomes[1] == seen.count()));
        });
        assert_eq!(counts, [(0, "resp".to_owned(), "get", true)]);
        assert_eq!(observer.hot(10).0.len(), 1);
    }
}
