//! What one worker saw in one interval, and sums of it over workers and intervals.
//!
//! Always true: a sample adds up, so the total of a run is the sum of its intervals and of its workers.
//! Called by workers (counting) and by everything that reports.

use std::collections::BTreeMap;

use crate::hist::Latencies;

/// Most different words of errors that are counted apart; the rest share one line.
pub const ERROR_WORDS_MAX: usize = 32;
/// Longest words of an error that are kept.
pub const ERROR_LEN_BYTES_MAX: usize = 80;

/// Defines an enum of counters and its names.
macro_rules! counters {
    ($(#[$outer:meta])* $name:ident { $($(#[$meta:meta])* $word:literal $variant:ident,)* }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$meta])* $variant,)* }

        impl $name {
            /// Every counter, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in outputs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

counters! {
    /// Counted for each command.
    Of {
        /// Sent.
        "requests" Requests,
        /// Answered, in any way.
        "responses" Responses,
        /// Keys that were found.
        "hits" Hits,
        /// Keys that were not.
        "misses" Misses,
        /// Conditions that did not hold.
        "not_stored" NotStored,
        /// Refused by the server.
        "errors" Errors,
        /// Not answered in time.
        "timeouts" Timeouts,
        /// Unanswered when their connection was lost.
        "lost" Lost,
        /// Due, but never sent: every connection was busy to the end.
        "unsent" Unsent,
    }
}

counters! {
    /// Counted for the whole worker.
    All {
        /// Written to sockets.
        "bytes_sent" BytesSent,
        /// Read from sockets.
        "bytes_received" BytesReceived,
        /// Connections established.
        "connects" Connects,
        /// Attempts that failed.
        "connect_failures" ConnectFailures,
        /// Connections the server closed or the network broke.
        "disconnects" Disconnects,
        /// Connections closed because the server answered what is no answer.
        "garbage" Garbage,
        /// Values checked.
        "verified" Verified,
        /// Values of another key.
        "wrong" Wrong,
        /// Values whose bytes do not belong together.
        "torn" Torn,
        /// Values older than an acknowledged write.
        "stale" Stale,
        /// Values older than an acknowledged delete.
        "stale_after_delete" StaleAfterDelete,
        /// Values of a version that was never written.
        "never_written" NeverWritten,
        /// Stores that followed a miss.
        "backfills" Backfills,
        /// Requests sent again to the node that a MOVED or ASK named.
        "redirects" Redirects,
        /// Replies that the kernel's clock did not measure although it was asked to.
        "unstamped" Unstamped,
        /// CPU time of the workers.
        "generator_cpu_ns" CpuNs,
        /// Time the workers were ready to run and were not run.
        "generator_wait_ns" WaitNs,
    }
}

/// Counters of verification that make a run fail.
pub const FAULTS: [All; 5] =
    [All::Wrong, All::Torn, All::Stale, All::StaleAfterDelete, All::NeverWritten];

/// One command's share of a sample.
#[derive(Debug, Clone, Default)]
pub struct CommandSample {
    counts: [u64; Of::ALL.len()],
    /// From the intended send time (closed loop: from the send time).
    pub latency: Latencies,
    /// From the send time; empty in a closed loop, where both are one.
    pub service: Latencies,
}

impl CommandSample {
    /// The counter's value.
    #[must_use]
    pub fn get(&self, of: Of) -> u64 {
        self.counts[of as usize]
    }

    /// Adds to a counter.
    #[inline]
    pub fn add(&mut self, of: Of, n: u64) {
        self.counts[of as usize] += n;
    }
}

/// Everything counted in an interval.
#[derive(Debug, Clone)]
pub struct Sample {
    counts: [u64; All::ALL.len()],
    /// One for each command of the roster.
    pub commands: Vec<CommandSample>,
    /// From the send time to the first byte of the reply.
    pub first_byte: Latencies,
    /// From the kernel's stamp of sending to its stamp of receiving; empty without `timestamps = "kernel"`.
    pub kernel: Latencies,
    /// How late requests were sent although a connection was free: the generator's own fault.
    pub slip: Latencies,
    /// Errors by the server's words.
    pub error_words: BTreeMap<String, u64>,
    /// Open connections at the end.
    pub connections: u64,
    /// Requests in flight at the end.
    pub in_flight: u64,
    /// Requests due and not sent at the end.
    pub backlog: u64,
    /// The longest share of an interval that any worker spent on its processor, in thousandths.
    pub busiest_permille: u64,
}

impl Sample {
    /// An empty sample for so many commands.
    #[must_use]
    pub fn new(commands: usize) -> Self {
        Self {
            counts: [0; All::ALL.len()],
            commands: vec![CommandSample::default(); commands],
            first_byte: Latencies::new(),
            kernel: Latencies::new(),
            slip: Latencies::new(),
            error_words: BTreeMap::new(),
            connections: 0,
            in_flight: 0,
            backlog: 0,
            busiest_permille: 0,
        }
    }

    /// The counter's value.
    #[must_use]
    pub fn get(&self, of: All) -> u64 {
        self.counts[of as usize]
    }

    /// Adds to a counter.
    #[inline]
    pub fn add(&mut self, of: All, n: u64) {
        self.counts[of as usize] += n;
    }

    /// A counter summed over the commands.
    #[must_use]
    pub fn sum(&self, of: Of) -> u64 {
        self.commands.iter().map(|c| c.get(of)).sum()
    }

    /// Requests that got no usable answer, for whatever reason.
    #[must_use]
    pub fn failures(&self) -> u64 {
        [Of::Errors, Of::Timeouts, Of::Lost, Of::Unsent].into_iter().map(|of| self.sum(of)).sum()
    }

    /// Answers that were impossible.
    #[must_use]
    pub fn faults(&self) -> u64 {
        FAULTS.into_iter().map(|of| self.get(of)).sum()
    }

    /// Found keys over asked keys; `None` when nothing was read.
    #[must_use]
    pub fn hit_ratio(&self, reads: &[usize]) -> Option<f64> {
        let of = |of| reads.iter().map(|i| self.commands[*i].get(of)).sum::<u64>() as f64;
        let (hits, misses) = (of(Of::Hits), of(Of::Misses));
        (hits + misses > 0.0).then(|| hits / (hits + misses))
    }

    /// Latencies of all commands together.
    #[must_use]
    pub fn latency(&self) -> Latencies {
        self.commands.iter().fold(Latencies::new(), |mut all, c| {
            all.add(&c.latency);
            all
        })
    }

    /// Service times of all commands together.
    #[must_use]
    pub fn service(&self) -> Latencies {
        self.commands.iter().fold(Latencies::new(), |mut all, c| {
            all.add(&c.service);
            all
        })
    }

    /// Counts the words of a refusal. Words with digits are left out: a server that repeats the key would
    /// give every refusal a line of its own.
    pub fn error(&mut self, words: &[u8]) {
        let text = String::from_utf8_lossy(&words[..words.len().min(ERROR_LEN_BYTES_MAX)]);
        let general =
            |word| if str::contains(word, |c: char| c.is_ascii_digit()) { "…" } else { word };
        let words: Vec<&str> = text.split(' ').map(general).collect();
        self.error_n(words.join(" "), 1);
    }

    fn error_n(&mut self, words: String, n: u64) {
        let full =
            self.error_words.len() >= ERROR_WORDS_MAX && !self.error_words.contains_key(&words);
        let key = if full { "other words".to_owned() } else { words };
        *self.error_words.entry(key).or_insert(0) += n;
    }

    /// Adds what another worker saw in the same interval, or this one in the next: gauges of workers add
    /// up with `workers`, those of a later interval replace.
    pub fn merge(&mut self, other: &Self, workers: bool) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        for (mine, theirs) in self.commands.iter_mut().zip(&other.commands) {
            for (a, b) in mine.counts.iter_mut().zip(theirs.counts) {
                *a += b;
            }
            mine.latency.add(&theirs.latency);
            mine.service.add(&theirs.service);
        }
        self.first_byte.add(&other.first_byte);
        self.kernel.add(&other.kernel);
        self.slip.add(&other.slip);
        for (words, n) in &other.error_words {
            self.error_n(words.clone(), *n);
        }
        let gauge =
            |mine: &mut u64, theirs: u64| *mine = if workers { *mine + theirs } else { theirs };
        gauge(&mut self.connections, other.connections);
        gauge(&mut self.in_flight, other.in_flight);
        gauge(&mut self.backlog, other.backlog);
        self.busiest_permille = self.busiest_permille.max(other.busiest_permille);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_add_their_gauges_and_intervals_replace_them() {
        let mut sample = Sample::new(1);
        sample.connections = 3;
        sample.commands[0].add(Of::Responses, 5);
        let other = sample.clone();
        sample.merge(&other, true);
        assert_eq!((sample.connections, sample.sum(Of::Responses)), (6, 10));
        sample.merge(&other, false);
        assert_eq!((sample.connections, sample.sum(Of::Responses)), (3, 15));
    }

    #[test]
    fn refusals_that_differ_in_a_key_share_a_line() {
        let mut sample = Sample::new(1);
        sample.error(b"ERR no such thing: 'k01'");
        sample.error(b"ERR no such thing: 'k02'");
        assert_eq!(
            sample.error_words.into_iter().collect::<Vec<_>>(),
            [("ERR no such thing: …".into(), 2)]
        );
    }

    #[test]
    fn a_server_with_endless_words_fills_no_memory() {
        let mut sample = Sample::new(1);
        for n in 0..1000usize {
            sample.error(format!("ERR {} {}", "y".repeat(n % 70), "x".repeat(500)).as_bytes());
        }
        assert!(sample.error_words.len() <= ERROR_WORDS_MAX + 1);
        assert!(sample.error_words.keys().all(|k| k.len() <= ERROR_LEN_BYTES_MAX));
        assert_eq!(sample.error_words.values().sum::<u64>(), 1000);
    }
}
