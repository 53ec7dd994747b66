//! Requests rendered ahead of the measurement, and what the right replies are, byte for byte.
//! A tape is a long row of requests in random key order; a batch is a slice of it, so the
//! generator only sends and compares memory and every answer is verified.

use super::resp;

/// Entries on a tape of small values: enough that repeats do not help a cache by accident.
const ENTRIES_SMALL: usize = 1 << 16;
/// Bytes of replies on a tape of large values.
const REPLY_BYTES_LARGE_MAX: usize = 16 << 20;

/// The protocol a tape speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// RESP2 arrays of bulk strings.
    Resp,
    /// memcache classic text.
    Memcache,
}

/// What is asked of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Read a key that is there.
    Get,
    /// Store a value.
    Set,
}

/// The keys and values a workload uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    /// Opens each key name; workloads with other values use another prefix.
    pub(crate) prefix: &'static str,
    /// How many keys.
    pub(crate) count: usize,
    /// Bytes of each value.
    pub(crate) value_len_bytes: usize,
}

impl Keys {
    fn name(&self, index: usize) -> String {
        format!("{}{index:012}", self.prefix)
    }

    /// A value that differs from key to key in its first and last bytes.
    fn value(&self, index: usize) -> Vec<u8> {
        let pattern = format!("{index:08x}.");
        pattern.bytes().cycle().take(self.value_len_bytes).collect()
    }
}

/// What must come back.
pub(crate) enum Replies {
    /// Exactly these bytes, entry by entry; `at` has one more entry than the tape.
    Exact {
        /// All replies in tape order.
        bytes: Vec<u8>,
        /// Where each reply starts, and where the last one ends.
        at: Vec<usize>,
    },
    /// One RESP reply to each request that is no error.
    Frames,
}

/// A row of requests with their replies.
pub(crate) struct Tape {
    /// The protocol of the requests.
    pub(crate) wire: Wire,
    /// All requests in order.
    pub(crate) requests: Vec<u8>,
    /// Where each request starts, and where the last one ends.
    pub(crate) at: Vec<usize>,
    /// What must come back.
    pub(crate) replies: Replies,
}

impl Tape {
    /// How many requests stand on the tape.
    pub(crate) fn len(&self) -> usize {
        self.at.len() - 1
    }

    /// Every key once, in order, stored: run once before reading.
    pub(crate) fn preload(wire: Wire, keys: Keys) -> Self {
        Self::exact(wire, Op::Set, keys, 0..keys.count)
    }

    /// Keys at random, each reply known.
    pub(crate) fn random(wire: Wire, op: Op, keys: Keys) -> Self {
        let large = REPLY_BYTES_LARGE_MAX / keys.value_len_bytes.max(1);
        let entries = ENTRIES_SMALL.min(large.max(keys.count.min(16)));
        let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
        Self::exact(wire, op, keys, (0..entries).map(|_| random.below(keys.count)))
    }

    /// GETs of random keys that are all answered by `reply`, as a fixed-reply server does.
    pub(crate) fn fixed_reply(op: Op, keys: Keys, reply: &[u8]) -> Self {
        let mut tape = Self::random(Wire::Resp, op, keys);
        let count = tape.len();
        let at = (0..=count).map(|index| index * reply.len()).collect();
        tape.replies = Replies::Exact { bytes: reply.repeat(count), at };
        tape
    }

    /// Requests made by `words`, answered by any reply that is no error.
    pub(crate) fn commands(entries: usize, mut words: impl FnMut(usize) -> Vec<Vec<u8>>) -> Self {
        let mut tape =
            Self { wire: Wire::Resp, requests: Vec::new(), at: vec![0], replies: Replies::Frames };
        for entry in 0..entries {
            resp::push_command(&mut tape.requests, &words(entry));
            tape.at.push(tape.requests.len());
        }
        tape
    }

    fn exact(wire: Wire, op: Op, keys: Keys, order: impl Iterator<Item = usize>) -> Self {
        let (mut requests, mut at) = (Vec::new(), vec![0]);
        let (mut replies, mut replies_at) = (Vec::new(), vec![0]);
        for index in order {
            let (name, value) = (keys.name(index), keys.value(index));
            push_request(&mut requests, wire, op, &name, &value);
            push_reply(&mut replies, wire, op, &name, &value);
            at.push(requests.len());
            replies_at.push(replies.len());
        }
        Self { wire, requests, at, replies: Replies::Exact { bytes: replies, at: replies_at } }
    }
}

fn push_request(out: &mut Vec<u8>, wire: Wire, op: Op, name: &str, value: &[u8]) {
    match (wire, op) {
        (Wire::Resp, Op::Get) => resp::push_command(out, &[b"GET", name.as_bytes()]),
        (Wire::Resp, Op::Set) => resp::push_command(out, &[b"SET", name.as_bytes(), value]),
        (Wire::Memcache, Op::Get) => out.extend_from_slice(format!("get {name}\r\n").as_bytes()),
        (Wire::Memcache, Op::Set) => {
            out.extend_from_slice(format!("set {name} 0 0 {}\r\n", value.len()).as_bytes());
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn push_reply(out: &mut Vec<u8>, wire: Wire, op: Op, name: &str, value: &[u8]) {
    match (wire, op) {
        (Wire::Resp, Op::Set) => out.extend_from_slice(b"+OK\r\n"),
        (Wire::Memcache, Op::Set) => out.extend_from_slice(b"STORED\r\n"),
        (Wire::Resp, Op::Get) => resp::push_bulk(out, value),
        (Wire::Memcache, Op::Get) => {
            out.extend_from_slice(format!("VALUE {name} 0 {}\r\n", value.len()).as_bytes());
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\nEND\r\n");
        }
    }
}

/// xorshift64*: small, the same on every machine.
pub(crate) struct Random(u64);

impl Random {
    /// A generator from a seed that is not zero.
    pub(crate) fn new(seed: u64) -> Self {
        debug_assert!(seed != 0, "zero stays zero");
        Self(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((high * bound as u64) >> 32) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: Keys = Keys { prefix: "key:", count: 3, value_len_bytes: 4 };

    #[test]
    fn requests_and_replies_stand_side_by_side() {
        let tape = Tape::preload(Wire::Resp, KEYS);
        assert_eq!(tape.len(), 3);
        let second = &tape.requests[tape.at[1]..tape.at[2]];
        assert_eq!(second, b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$4\r\n0000\r\n");
        let Replies::Exact { bytes, at } = &tape.replies else { panic!("replies are known") };
        assert_eq!(&bytes[at[1]..at[2]], b"+OK\r\n");
    }

    #[test]
    fn a_memcache_get_is_answered_with_its_key_and_value() {
        let keys = Keys { value_len_bytes: 10, ..KEYS };
        let tape = Tape::random(Wire::Memcache, Op::Get, keys);
        let Replies::Exact { bytes, at } = &tape.replies else { panic!("replies are known") };
        let (request, reply) = (&tape.requests[..tape.at[1]], &bytes[..at[1]]);
        let request = String::from_utf8_lossy(request);
        let name = request.strip_prefix("get ").and_then(|rest| rest.strip_suffix("\r\n"));
        let name = name.expect("a get line");
        let value = format!("{}.0", &name[name.len() - 8..]);
        let expected = format!("VALUE {name} 0 10\r\n{value}\r\nEND\r\n");
        assert_eq!(String::from_utf8_lossy(reply), expected);
    }

    #[test]
    fn random_numbers_stay_below_their_bound_and_reach_all_of_it() {
        let mut random = Random::new(7);
        let mut seen = [false; 10];
        for _ in 0..1000 {
            seen[random.below(10)] = true;
        }
        assert_eq!(seen, [true; 10]);
    }
}
