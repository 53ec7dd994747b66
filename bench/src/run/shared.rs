//! What the threads of a run have in common: the plan in the form workers use, and the words between
//! workers and the conductor.
//!
//! Always true: workers share nothing that is written on the way of a request but the ledger. Called by
//! `conductor` and `worker`.

use std::sync::atomic::AtomicU64;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::config::plan::{MEMCACHE_KEY_LEN_BYTES_MAX, Plan};
use crate::record::sample::Sample;
use crate::rng::mix64;
use crate::run::route::Router;
use crate::run::tls::TlsSettings;
use crate::workload::content::Pool;
use crate::workload::key_hash;
use crate::workload::ledger::Ledger;
use crate::workload::mix::Verb;
use crate::workload::spread::Spread;

/// What the workers do next.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Task {
    /// Store every key of the worker's stripe once, each confirmed.
    Prefill,
    /// Send requests and count them.
    Drive {
        /// Over all threads; `None` is a closed loop.
        rate: Option<u64>,
        /// When the first request is due, in ns of the run.
        start_ns: u64,
        /// From here on requests are counted.
        measure_ns: u64,
        /// The first instant at which nothing is due any more.
        end_ns: u64,
    },
    /// Stop sending, now.
    Halt,
}

/// What a worker tells.
#[derive(Debug)]
pub(crate) enum Told {
    /// All its connections are established and greeted.
    Ready,
    /// An interval is over: its number since the task's start, and what happened.
    Interval { number: u64, sample: Box<Sample> },
    /// The task is done: nothing is in flight any more. The sample holds what came after the last interval.
    Done { sample: Box<Sample> },
    /// Something a person should read.
    Trouble(String),
    /// No connection is left and none comes back: why.
    Abandoned(String),
}

/// The commands of a run in the order of its samples.
#[derive(Debug, Clone)]
pub(crate) struct Roster {
    pub(crate) verbs: Vec<Verb>,
    places: [u8; 10 + 256],
}

fn verb_code(verb: Verb) -> usize {
    match verb {
        Verb::Get => 0,
        Verb::Set => 1,
        Verb::Delete => 2,
        Verb::MGet => 3,
        Verb::Incr => 4,
        Verb::Touch => 5,
        Verb::Gets => 6,
        Verb::Cas => 7,
        Verb::Ping => 8,
        // Never counted on its own: requests that follow an ASK are not measured twice.
        Verb::CounterInit | Verb::Asking => 9,
        Verb::Template(index) => 10 + index as usize,
    }
}

impl Roster {
    pub(crate) fn new(plan: &Plan) -> Self {
        use crate::config::choices::Protocol;
        let mut verbs: Vec<Verb> = if plan.trace.is_some() {
            vec![Verb::Get, Verb::Set, Verb::Delete, Verb::Incr, Verb::Touch]
        } else {
            plan.mix.verbs().collect()
        };
        if verbs.contains(&Verb::Cas) {
            verbs.push(Verb::Gets);
        }
        if verbs.contains(&Verb::Incr) && plan.protocol == Protocol::McText {
            verbs.push(Verb::CounterInit);
        }
        if (plan.prefill || plan.backfill_on_miss) && !verbs.contains(&Verb::Set) {
            verbs.push(Verb::Set);
        }
        let mut places = [0; 10 + 256];
        for (place, verb) in verbs.iter().enumerate() {
            places[verb_code(*verb)] = place as u8;
        }
        Self { verbs, places }
    }

    #[inline]
    pub(crate) fn place(&self, verb: Verb) -> usize {
        self.places[verb_code(verb)] as usize
    }

    /// Places of commands that find or miss keys by reading them.
    pub(crate) fn reads(&self) -> Vec<usize> {
        let read = |verb: &Verb| matches!(verb, Verb::Get | Verb::MGet | Verb::Gets);
        self.verbs
            .iter()
            .enumerate()
            .filter(|(_, verb)| read(verb))
            .map(|(place, _)| place)
            .collect()
    }
}

/// Shared by all threads of a run.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) roster: Roster,
    pub(crate) router: Router,
    pub(crate) tls: Option<TlsSettings>,
    pub(crate) pool: &'static Pool,
    pub(crate) ledger: Option<Ledger>,
    /// Tells values of this run from those of earlier ones.
    pub(crate) run: u32,
    pub(crate) epoch: Instant,
    pub(crate) task: Mutex<(u64, Task)>,
    pub(crate) told: Mutex<Sender<(usize, Told)>>,
    /// Keys confirmed by prefill, for the progress bar.
    pub(crate) confirmed: AtomicU64,
    pub(crate) feeds: Mutex<Vec<Option<crate::run::feed::Feed>>>,
}

impl Shared {
    /// Nanoseconds since the run's beginning.
    #[inline]
    pub(crate) fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// The key's length.
    #[inline]
    pub(crate) fn key_len(&self, id: u64, traced: u32) -> usize {
        let limit =
            if self.plan.protocol.is_memcache() { MEMCACHE_KEY_LEN_BYTES_MAX } else { 16 << 10 };
        match &self.plan.key_length {
            Spread::Fixed(len) if traced == 0 => *len as usize,
            spread => {
                let traced = if traced == 0 { 16 } else { u64::from(traced) };
                let len = match spread {
                    Spread::Trace => traced,
                    spread => spread.draw(mix64(key_hash(id) ^ 0x006c_656e), traced),
                };
                len.clamp(1, limit) as usize
            }
        }
    }

    /// The value's length.
    #[inline]
    pub(crate) fn value_len(&self, id: u64, traced: u32) -> usize {
        self.plan.value_length.draw(mix64(key_hash(id) ^ 0x0076_616c), u64::from(traced)) as usize
    }
}

/// Writes the key of `id`: a letter, zeros, the decimal number; `counters` have their own letter.
#[inline]
pub(crate) fn write_key(out: &mut Vec<u8>, id: u64, len: usize, counter: bool) {
    let start = out.len();
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(id).as_bytes();
    let len = len.max(digits.len() + 1);
    out.resize(start + len, b'0');
    out[start] = if counter { b'c' } else { b'k' };
    let at = out.len() - digits.len();
    out[at..].copy_from_slice(digits);
}

/// Client flags of a key's values, so that a server that mixes them up is noticed.
#[inline]
pub(crate) fn flags_of(id: u64) -> u32 {
    (key_hash(id) >> 48) as u32
}

/// A handle that workers and conductor hold.
pub(crate) type SharedRef = Arc<Shared>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_a_letter_and_a_padded_number() {
        let mut out = Vec::new();
        write_key(&mut out, 42, 8, false);
        write_key(&mut out, 42, 1, true);
        assert_eq!(out, b"k0000042c42");
    }
}
