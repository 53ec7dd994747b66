//! A request before it is sent and while it waits for its reply.
//!
//! Always true: what is needed to judge the answer was noted when the request was sent; the queue of
//! requests in flight keeps 32 bytes of each, because thousands of them pass through the processor's
//! caches between send and reply. Called by the worker and its connections.

use std::collections::VecDeque;

use crate::workload::ledger::Floor;
use crate::workload::mix::Verb;

/// A request to be sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Request {
    pub(super) verb: Verb,
    pub(super) id: u64,
    /// When it should be sent, in ns of the run.
    pub(super) intended_ns: u64,
    /// Whether it lies in the measured time.
    pub(super) measured: bool,
    pub(super) extra: Extra,
}

/// What few requests have.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Extra {
    /// A trace's own lengths; 0 leaves them to the plan.
    pub(super) key_len: u32,
    pub(super) value_len: u32,
    pub(super) ttl_s: u32,
    /// For `cas`.
    pub(super) token: u64,
    /// How often a cluster sent it elsewhere.
    pub(super) redirects: u8,
}

/// A request in flight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pending {
    pub(super) request: Request,
    pub(super) sent_ns: u64,
    /// The oldest version a read may answer.
    pub(super) floor: Floor,
    /// Keys of an mget, which stand in the connection's queue.
    pub(super) keys: u8,
    /// Whether the ledger knows it as a write.
    pub(super) write: bool,
}

/// A request in flight as the queue keeps it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed {
    pub(super) id: u64,
    pub(super) intended_ns: u64,
    pub(super) sent_ns: u64,
    floor_version: u32,
    verb: Verb,
    keys: u8,
    bits: u8,
}

const _: () = assert!(size_of::<Packed>() == 32);

const MEASURED: u8 = 1;
const WRITE: u8 = 1 << 1;
const FLOOR_IS_DELETE: u8 = 1 << 2;
/// Its [`Extra`] stands in the other queue.
const EXTRA: u8 = 1 << 3;

impl Packed {
    /// A read of one key at the plan's lengths.
    #[inline]
    pub(super) fn read(id: u64, now_ns: u64, intended_ns: u64, measured: bool, f: Floor) -> Self {
        let bits =
            if measured { MEASURED } else { 0 } | if f.is_delete { FLOOR_IS_DELETE } else { 0 };
        let verb = Verb::Get;
        Self { id, intended_ns, sent_ns: now_ns, floor_version: f.version, verb, keys: 0, bits }
    }

    /// Whether [`Self::read`] could have made it.
    #[inline]
    pub(super) fn is_plain_read(&self) -> bool {
        self.verb == Verb::Get && self.bits & EXTRA == 0
    }

    #[inline]
    pub(super) fn measured(&self) -> bool {
        self.bits & MEASURED != 0
    }

    #[inline]
    pub(super) fn floor(&self) -> Floor {
        Floor { version: self.floor_version, is_delete: self.bits & FLOOR_IS_DELETE != 0 }
    }

    fn unpack(&self, extras: &VecDeque<Extra>) -> Pending {
        let extra = if self.bits & EXTRA == 0 { None } else { extras.front().copied() };
        Pending {
            request: Request {
                verb: self.verb,
                id: self.id,
                intended_ns: self.intended_ns,
                measured: self.measured(),
                extra: extra.unwrap_or_default(),
            },
            sent_ns: self.sent_ns,
            floor: self.floor(),
            keys: self.keys,
            write: self.bits & WRITE != 0,
        }
    }
}

/// Requests in flight on a connection, in the order of their sending.
#[derive(Debug, Default)]
pub(super) struct Flight {
    packed: VecDeque<Packed>,
    extras: VecDeque<Extra>,
}

impl Flight {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.packed.len()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    /// Appends a request of any kind.
    pub(super) fn push(&mut self, pending: Pending) {
        let Pending { request, sent_ns, floor, keys, write } = pending;
        let Request { verb, id, intended_ns, measured, extra } = request;
        let bit = |on, bit| if on { bit } else { 0 };
        let has_extra = extra != Extra::default();
        if has_extra {
            self.extras.push_back(extra);
        }
        let bits = bit(measured, MEASURED)
            | bit(write, WRITE)
            | bit(floor.is_delete, FLOOR_IS_DELETE)
            | bit(has_extra, EXTRA);
        let floor_version = floor.version;
        self.packed.push_back(Packed { id, intended_ns, sent_ns, floor_version, verb, keys, bits });
    }

    /// Appends a plain read.
    #[inline]
    pub(super) fn push_read(&mut self, read: Packed) {
        debug_assert!(read.is_plain_read());
        self.packed.push_back(read);
    }

    /// Appends plain reads.
    #[inline]
    pub(super) fn extend_reads(&mut self, reads: impl Iterator<Item = Packed>) {
        self.packed.extend(reads.inspect(|read| debug_assert!(read.is_plain_read())));
    }

    /// The oldest, as it is kept.
    #[inline]
    pub(super) fn peek(&self) -> Option<&Packed> {
        self.packed.front()
    }

    /// The oldest.
    pub(super) fn front(&self) -> Option<Pending> {
        self.packed.front().map(|packed| packed.unpack(&self.extras))
    }

    /// Forgets the oldest, which is a plain read.
    #[inline]
    pub(super) fn pop_read(&mut self) {
        debug_assert!(self.packed.front().is_some_and(Packed::is_plain_read));
        self.packed.pop_front();
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<Pending> {
        let packed = self.packed.pop_front()?;
        let pending = packed.unpack(&self.extras);
        if packed.bits & EXTRA != 0 {
            self.extras.pop_front();
        }
        Some(pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_into_the_queue_comes_out_in_order_and_whole() {
        let mut flight = Flight::default();
        let all: Vec<Pending> = (0..60u64)
            .map(|n| Pending {
                request: Request {
                    verb: [Verb::Get, Verb::Set, Verb::Template(7)][n as usize % 3],
                    id: n << 40,
                    intended_ns: u64::MAX - n,
                    measured: n % 2 == 0,
                    extra: if n % 5 == 0 {
                        Extra { key_len: 9, value_len: 1, ttl_s: 2, token: n + 1, redirects: 3 }
                    } else {
                        Extra::default()
                    },
                },
                sent_ns: n,
                floor: Floor { version: u32::MAX - n as u32, is_delete: n % 7 == 0 },
                keys: n as u8,
                write: n % 4 == 0,
            })
            .collect();
        all.iter().for_each(|pending| flight.push(*pending));
        for pending in &all {
            assert_eq!(flight.front().as_ref(), Some(pending));
            assert_eq!(flight.pop().as_ref(), Some(pending));
        }
        assert!(flight.is_empty() && flight.extras.is_empty());
    }

    #[test]
    fn a_plain_read_is_one_however_it_was_queued() {
        let mut flight = Flight::default();
        let floor = Floor { version: 4, is_delete: true };
        flight.push_read(Packed::read(5, 100, 90, true, floor));
        let pending = flight.front().unwrap();
        assert_eq!((pending.request.id, pending.sent_ns, pending.floor), (5, 100, floor));
        flight.push(pending);
        flight.pop_read();
        assert!(flight.peek().unwrap().is_plain_read());
        assert_eq!(flight.front(), Some(pending));
    }
}
