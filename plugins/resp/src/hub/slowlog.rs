//! Commands that took long, and how long commands of their kind take.
//!
//! What runs alone (walks over the keys, flushes, descriptions) is timed by `reply`, each call.
//! Commands of the store run in batches, many connections at once: `timing` shares a batch's time
//! out among them, for some of the batches, and `watch` times the batches that have a command which
//! may take long. Such a command is an entry with the time of its batch.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::table::Cmd;

/// Most arguments of an entry, and most bytes of each.
const ARGS_MAX: usize = 32;
const ARG_LEN_BYTES_MAX: usize = 128;

/// Most entries kept, until CONFIG SET `slowlog-max-len` says otherwise.
const ENTRIES_MAX: u64 = 128;

/// A command that took longer than this is kept, in microseconds, until CONFIG SET
/// `slowlog-log-slower-than` says otherwise.
const SLOWER_THAN_US: i64 = 10_000;

/// Below this threshold every command of the store is watched, not only those that may take long,
/// in microseconds.
pub const CLOSE_WATCH_US: i64 = 1000;

/// A slow command.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Grows from entry to entry.
    pub id: u64,
    /// Unix seconds.
    pub at_s: u64,
    /// What it took.
    pub took_us: u64,
    /// Its arguments, cut.
    pub args: Vec<Vec<u8>>,
    /// The client's address.
    pub addr: String,
    /// The client's name.
    pub name: String,
}

/// Times of one command: their sum, and counts by power of two of microseconds.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// Times it was timed.
    pub calls: u64,
    /// Sum in nanoseconds.
    pub sum_ns: u64,
    /// Calls that took up to 2^i microseconds, and more than 2^(i-1).
    pub buckets: [u64; 32],
}

impl Times {
    fn add(&mut self, calls: u64, each_ns: u64) {
        self.calls += calls;
        self.sum_ns += calls * each_ns;
        let bucket = each_ns.div_ceil(1000).max(1).next_power_of_two().trailing_zeros() as usize;
        self.buckets[bucket.min(31)] += calls;
    }

    /// Microseconds of one call, on average.
    pub fn each_us(&self) -> f64 {
        self.sum_ns as f64 / 1000.0 / self.calls.max(1) as f64
    }

    /// The bound in microseconds that this share of the calls kept to, 0.0 to 1.0.
    pub fn percentile_us(&self, share: f64) -> u64 {
        let wanted = (self.calls as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let found = self.buckets.iter().position(|n| {
            seen += n;
            seen >= wanted
        });
        1 << found.unwrap_or(0)
    }
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    entries: VecDeque<Entry>,
    times: BTreeMap<u8, Times>,
}

/// All slow commands and times.
#[derive(Debug)]
pub struct Slowlog {
    /// Negative: nothing is kept.
    slower_than_us: AtomicI64,
    entries_max: AtomicU64,
    state: Mutex<State>,
}

impl Default for Slowlog {
    fn default() -> Self {
        Slowlog {
            slower_than_us: AtomicI64::new(SLOWER_THAN_US),
            entries_max: AtomicU64::new(ENTRIES_MAX),
            state: Mutex::default(),
        }
    }
}

impl Slowlog {
    /// CONFIG's `slowlog-log-slower-than`.
    pub fn slower_than_us(&self) -> i64 {
        self.slower_than_us.load(Ordering::Relaxed)
    }

    /// Changes it.
    pub fn set_slower_than_us(&self, us: i64) {
        self.slower_than_us.store(us, Ordering::Relaxed);
    }

    /// CONFIG's `slowlog-max-len`.
    pub fn entries_max(&self) -> u64 {
        self.entries_max.load(Ordering::Relaxed)
    }

    /// Changes it; what is over it goes.
    pub fn set_entries_max(&self, entries: u64) {
        self.entries_max.store(entries, Ordering::Relaxed);
        self.lock().entries.truncate(usize::try_from(entries).unwrap_or(usize::MAX));
    }

    /// Whether a command that took so long is kept.
    pub fn is_slow(&self, took_us: u64) -> bool {
        u64::try_from(self.slower_than_us()).is_ok_and(|least_us| took_us >= least_us)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A command that ran alone took so long.
    pub fn took(
        &self,
        command: Cmd,
        took_us: u64,
        at_s: u64,
        args: &[&[u8]],
        who: impl FnOnce() -> (String, String),
    ) {
        let ns = took_us.saturating_mul(1000);
        self.lock().times.entry(command as u8).or_default().add(1, ns);
        if self.is_slow(took_us) {
            self.keep(took_us, at_s, cut(args), who());
        }
    }

    /// Makes an entry.
    pub fn keep(&self, took_us: u64, at_s: u64, args: Vec<Vec<u8>>, who: (String, String)) {
        let mut state = self.lock();
        let id = state.next_id;
        state.next_id += 1;
        let ((addr, name), entries) = (who, &mut state.entries);
        entries.push_front(Entry { id, at_s, took_us, args, addr, name });
        entries.truncate(usize::try_from(self.entries_max()).unwrap_or(usize::MAX));
    }

    /// Commands that ran together took so long each.
    pub fn shared(&self, ran: &[(Cmd, u64)], each_ns: u64) {
        let mut state = self.lock();
        for (command, calls) in ran {
            state.times.entry(*command as u8).or_default().add(*calls, each_ns);
        }
    }

    /// The latest entries, newest first.
    pub fn latest(&self, n: usize) -> Vec<Entry> {
        self.lock().entries.iter().take(n).cloned().collect()
    }

    /// How many entries are kept.
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// No entries are kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the entries.
    pub fn reset(&self) {
        self.lock().entries.clear();
    }

    /// Times of one command.
    pub fn times(&self, command: Cmd) -> Option<Times> {
        self.lock().times.get(&(command as u8)).cloned()
    }

    /// Forgets the times.
    pub fn reset_times(&self) {
        self.lock().times.clear();
    }
}

/// Arguments cut to what an entry keeps, with a note on what is left out.
fn cut(args: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut cut = Cut::default();
    let (start, n) = cut.add(args.iter().copied(), args.len());
    cut.args(start, n)
}

/// Arguments of many commands, cut to what entries keep, one behind the other in one buffer.
#[derive(Debug, Default)]
pub struct Cut {
    bytes: Vec<u8>,
}

impl Cut {
    /// Adds a command's arguments; where they begin, and how many there are.
    pub fn add<'a>(&mut self, args: impl Iterator<Item = &'a [u8]>, argc: usize) -> (usize, usize) {
        let start = self.bytes.len();
        let note = argc > ARGS_MAX;
        let n = if note { ARGS_MAX - 1 } else { argc };
        for arg in args.take(n) {
            let kept = &arg[..arg.len().min(ARG_LEN_BYTES_MAX)];
            self.bytes.extend_from_slice(&(arg.len() as u32).to_ne_bytes());
            self.bytes.extend_from_slice(kept);
        }
        if note {
            let text = format!("... ({} more arguments)", argc - n);
            self.bytes.extend_from_slice(&(text.len() as u32).to_ne_bytes());
            self.bytes.extend_from_slice(text.as_bytes());
        }
        (start, n + usize::from(note))
    }

    /// The `n` arguments that begin there.
    pub fn args(&self, start: usize, n: usize) -> Vec<Vec<u8>> {
        let mut rest = &self.bytes[start..];
        let mut args = Vec::with_capacity(n);
        while args.len() < n
            && let Some((len, behind)) = rest.split_first_chunk::<4>()
        {
            let len = u32::from_ne_bytes(*len) as usize;
            let (kept, behind) = behind.split_at(len.min(ARG_LEN_BYTES_MAX));
            let mut arg = kept.to_vec();
            if len > ARG_LEN_BYTES_MAX {
                let more = len - ARG_LEN_BYTES_MAX;
                arg.extend_from_slice(format!("... ({more} more bytes)").as_bytes());
            }
            args.push(arg);
            rest = behind;
        }
        args
    }

    /// Forgets them all.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_commands_are_kept_cut_and_bounded() {
        let log = Slowlog::default();
        let who = || ("a".to_owned(), "n".to_owned());
        log.took(Cmd::Keys, 10, 1, &[b"KEYS", b"*"], who);
        assert!(log.is_empty());
        let long = [b'x'; 200];
        let args: Vec<&[u8]> = vec![&long; 40];
        for _ in 0..200 {
            log.took(Cmd::Keys, SLOWER_THAN_US as u64, 1, &args, who);
        }
        assert_eq!(log.len() as u64, ENTRIES_MAX);
        let entry = &log.latest(1)[0];
        assert_eq!((entry.id, entry.args.len()), (199, 32));
        assert!(entry.args[0].ends_with(b"... (72 more bytes)"));
        assert_eq!(entry.args[31], b"... (9 more arguments)");
        let times = log.times(Cmd::Keys).unwrap();
        assert_eq!((times.calls, times.buckets[4], times.buckets[14]), (201, 1, 200));
        log.shared(&[(Cmd::Get, 99), (Cmd::Set, 1)], 250);
        log.shared(&[(Cmd::Get, 1)], 3_000_000);
        let get = log.times(Cmd::Get).unwrap();
        assert_eq!((get.calls, get.buckets[0], get.buckets[12]), (100, 99, 1));
        assert_eq!((get.percentile_us(0.5), get.percentile_us(0.99)), (1, 1));
        assert_eq!(get.percentile_us(0.999), 4096);
        assert!((get.each_us() - 30.2475).abs() < 1e-9, "{}", get.each_us());
        log.set_entries_max(3);
        assert_eq!((log.len(), log.latest(9)[2].id), (3, 197));
        log.reset();
        assert!(log.is_empty());
        log.set_slower_than_us(-1);
        log.took(Cmd::Keys, 1 << 40, 1, &args, who);
        assert!(log.is_empty(), "negative: nothing is slow");
        log.set_slower_than_us(0);
        log.took(Cmd::Keys, 0, 1, &[b"KEYS", b"*"], who);
        assert_eq!(log.latest(1)[0].args, [b"KEYS".to_vec(), b"*".to_vec()]);
    }
}
