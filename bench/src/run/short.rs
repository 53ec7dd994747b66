//! The short way of plain reads, the bulk of most runs: sent from a template, judged in one look.
//!
//! Always true: what goes this way is counted and judged exactly as the long way would; whatever is not
//! whole, not found or not plain is left to the long way. Called by the worker and its connections.

use super::conn::{Conn, State};
use super::work::Work;
use crate::config::choices::Verify;
use crate::hist::Latencies;
use crate::record::sample::{All, Of};
use crate::wire::Codec;
use crate::workload::mix::Verb;

/// Every two-digit number.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

/// The bytes of a read with a hole for the key's digits.
#[derive(Debug)]
pub(super) struct ReadTemplate {
    /// A read of the key whose number is 0.
    bytes: Vec<u8>,
    /// Where its digits end.
    digits_end: usize,
    digits_len: usize,
}

impl ReadTemplate {
    /// Of reads as `codec` writes them; keys are `key_len_bytes` long.
    pub(super) fn new<C: Codec>(codec: &mut C, key_len_bytes: usize) -> Option<Self> {
        if !C::READS_DIFFER_IN_KEY_ALONE {
            return None;
        }
        let mut key = Vec::new();
        super::shared::write_key(&mut key, 0, key_len_bytes, false);
        let mut bytes = Vec::new();
        codec.get(&mut bytes, &key, false);
        let start = memchr::memmem::find(&bytes, &key)?;
        Some(Self { bytes, digits_end: start + key.len(), digits_len: key.len() - 1 })
    }

    /// Bytes of one read.
    pub(super) fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the read of key `id`.
    #[inline]
    pub(super) fn write(&self, out: &mut Vec<u8>, id: u64) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let end = start + self.digits_end;
        let digits = &mut out[end - self.digits_len..end];
        let (mut at, mut n) = (digits.len(), id);
        while n >= 10 && at >= 2 {
            digits[at - 2..at].copy_from_slice(&PAIRS[(n % 100) as usize]);
            n /= 100;
            at -= 2;
        }
        if n > 0 && at > 0 {
            digits[at - 1] = b'0' + n as u8;
            n = 0;
        }
        // The plan sees to it that every number fits its key.
        debug_assert_eq!(n, 0);
    }
}

/// Equal latencies in a row, recorded at one go: replies that arrive together were often sent together.
#[derive(Debug, Default)]
struct Row {
    latency_ns: u64,
    count: u64,
}

impl Row {
    #[inline]
    fn add(&mut self, latency_ns: u64, into: &mut Latencies) {
        if latency_ns != self.latency_ns {
            self.end(into);
            self.latency_ns = latency_ns;
        }
        self.count += 1;
    }

    #[inline]
    fn end(&mut self, into: &mut Latencies) {
        if self.count > 0 {
            into.record_n(self.latency_ns, self.count);
            self.count = 0;
        }
    }
}

impl<C: Codec> Conn<C> {
    /// Takes the replies at the start of `data` that hold a value and answer plain reads, as long as
    /// they are whole; gives how many bytes they are. No reply may be in progress.
    pub(super) fn receive_whole(&mut self, data: &[u8], now_ns: u64, work: &mut Work) -> usize {
        let judged = work.shared.plan.verify != Verify::Off;
        let place = work.shared.roster.place(Verb::Get);
        let open = work.open_loop;
        let (mut latency, mut service, mut first_byte) =
            (Row::default(), Row::default(), Row::default());
        let (mut used, mut taken, mut measured) = (0, 0, 0);
        while let Some(read) = self.pending.peek().filter(|p| p.is_plain_read()).copied() {
            let rest = &data[used..];
            let Some(whole) = self.codec.whole_read(rest) else { break };
            self.pending.pop_read();
            if judged {
                let key = whole.key.map(|range| &rest[range]);
                let value = &rest[whole.value];
                work.judge_whole(read.id, key, whole.flags, value, read.floor());
            }
            used += whole.used;
            taken += 1;
            if read.measured() {
                measured += 1;
                let waited_ns = now_ns.saturating_sub(read.sent_ns);
                first_byte.add(waited_ns, &mut work.sample.first_byte);
                let command = &mut work.sample.commands[place];
                latency.add(now_ns.saturating_sub(read.intended_ns), &mut command.latency);
                if open {
                    service.add(waited_ns, &mut command.service);
                }
            }
        }
        if taken > 0 {
            work.in_flight -= taken;
            if judged {
                work.sample.add(All::Verified, taken);
            }
            first_byte.end(&mut work.sample.first_byte);
            let command = &mut work.sample.commands[place];
            command.add(Of::Responses, measured);
            command.add(Of::Hits, measured);
            latency.end(&mut command.latency);
            service.end(&mut command.service);
        }
        used
    }

    /// Whether the next byte begins a reply that may go the short way.
    #[inline]
    pub(super) fn between_replies(&self) -> bool {
        // What the kernel's clock measures is looked at one by one.
        let timed = self.stamps.is_some();
        self.state == State::Up && self.value.is_none() && self.first_byte_ns == 0 && !timed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{memcache_meta::McMeta, memcache_text::McText, resp::Resp};

    fn same<C: Codec>(key_len: usize, ids: &[u64]) {
        let mut codec = C::new();
        let template = ReadTemplate::new(&mut codec, key_len).expect("a template");
        for id in ids {
            let (mut long, mut short) = (vec![b'#'], vec![b'#']);
            let mut key = Vec::new();
            super::super::shared::write_key(&mut key, *id, key_len, false);
            codec.get(&mut long, &key, false);
            template.write(&mut short, *id);
            assert_eq!(short.escape_ascii().to_string(), long.escape_ascii().to_string());
        }
    }

    #[test]
    fn a_read_from_the_template_is_the_read_that_the_codec_writes() {
        let ids = [0, 1, 9, 10, 11, 99, 100, 101, 999, 1000, 9_999, 10_000, 99_999, 123_456];
        for len in [7, 8, 16, 250] {
            same::<Resp<false>>(len, &ids);
            same::<Resp<true>>(len, &ids);
            same::<McText>(len, &ids);
            same::<McMeta>(len, &ids);
        }
        same::<Resp<false>>(2, &[0, 5, 9]);
        same::<Resp<false>>(3, &[10, 99]);
        same::<Resp<false>>(21, &[u64::MAX, u64::MAX / 3]);
    }

    #[test]
    fn equal_latencies_in_a_row_are_recorded_like_single_ones() {
        let (mut once, mut each, mut row) = (Latencies::new(), Latencies::new(), Row::default());
        for ns in [5, 5, 5, 0, 0, 7, 5] {
            row.add(ns, &mut once);
            each.record(ns);
        }
        row.end(&mut once);
        assert_eq!(once, each);
    }
}
