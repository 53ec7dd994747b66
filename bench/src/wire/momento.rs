//! Momento's protosocket protocol as a client speaks it: a varint length, then one protobuf message.
//!
//! Always true: every request carries a number that its reply must repeat. The protocol allows replies in
//! any order; one that overtakes another is refused in a sentence that says so. Message shapes: the published
//! `CacheCommand` and `CacheResponse`. Called through [`super::Codec`].

use std::ops::Range;
use std::sync::Arc;

use super::{Codec, Expect, Garbage, Keys, Login, Outcome, Step, Store, excerpt, unexpected};
use crate::config::plan::VALUE_LEN_BYTES_MAX;

/// What a value lives when no time to live is asked for: the protocol needs one.
pub(super) const TTL_MS_DEFAULT: u64 = 24 * 3_600_000;
/// `Status::NotFound`: with these words a get that misses, with others a cache that does not exist.
const NOT_FOUND: u64 = 5;
const MISS_WORDS: &[u8] = b"Key not found";

/// Field numbers of `CacheCommand`, `Unary` and the commands.
const COMMAND_ID: u8 = 2;
const COMMAND_UNARY: u8 = 10;
const UNARY_AUTH: u8 = 1;
const UNARY_GET: u8 = 2;
const UNARY_SET: u8 = 3;
const UNARY_DELETE: u8 = 4;
/// Field numbers of `CacheResponse`.
const RESPONSE_ID: u64 = 1;
const RESPONSE_ERROR: u64 = 9;
const RESPONSE_AUTH: u64 = 10;
const RESPONSE_GET: u64 = 11;
const RESPONSE_SET: u64 = 12;
const RESPONSE_DELETE: u64 = 13;

const VARINT: u64 = 0;
const BYTES: u64 = 2;

/// A field of a message.
pub(super) struct Field {
    pub(super) number: u64,
    /// The varint, or the length of the bytes.
    pub(super) n: u64,
    /// Where its bytes stand.
    pub(super) range: Range<usize>,
    /// Where the next field begins.
    pub(super) next: usize,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Momento {
    login: Arc<Login>,
    asked: u64,
    answered: u64,
    /// Bytes of the frame behind a value that was handed over.
    value_before: Option<usize>,
}

fn varint_len(n: u64) -> usize {
    (64 - (n | 1).leading_zeros() as usize).div_ceil(7)
}

pub(super) fn push_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// A varint: its value and length; `None` when it is cut.
fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, Garbage> {
    let mut n = 0u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        n |= u64::from(byte & 0x7f) << (7 * at).min(63);
        if byte & 0x80 == 0 {
            return Ok(Some((n, at + 1)));
        }
    }
    if bytes.len() >= 10 { Err(Garbage::Length { text: excerpt(bytes) }) } else { Ok(None) }
}

/// The length of a bytes field.
fn field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

pub(super) fn push_field(out: &mut Vec<u8>, number: u8, len: usize) {
    out.push(number << 3 | BYTES as u8);
    push_varint(out, len as u64);
}

pub(super) fn push_bytes(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    push_field(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

impl Momento {
    /// Writes the frame, the id and the way down to a command of `len` bytes.
    fn begin(&mut self, out: &mut Vec<u8>, command: u8, len: usize) {
        self.asked += 1;
        let unary = field_len(len);
        let frame = 1 + varint_len(self.asked) + field_len(unary);
        push_varint(out, frame as u64);
        out.push(COMMAND_ID << 3);
        push_varint(out, self.asked);
        push_field(out, COMMAND_UNARY, unary);
        push_field(out, command, len);
    }

    fn keyed(&mut self, out: &mut Vec<u8>, command: u8, key: &[u8]) {
        let login = self.login.clone();
        self.begin(out, command, field_len(login.cache.len()) + field_len(key.len()));
        push_bytes(out, 1, login.cache.as_bytes());
        push_bytes(out, 2, key);
    }
}

/// The field at `at`; `None` when its head is cut.
pub(super) fn field(bytes: &[u8], at: usize) -> Result<Option<Field>, Garbage> {
    let Some((tag, tag_len)) = varint(&bytes[at..])? else { return Ok(None) };
    let start = at + tag_len;
    let Some((n, n_len)) = varint(&bytes[start..])? else { return Ok(None) };
    match tag & 7 {
        VARINT => {
            let range = start..start + n_len;
            Ok(Some(Field { number: tag >> 3, n, next: range.end, range }))
        }
        BYTES if n <= VALUE_LEN_BYTES_MAX + 64 => {
            let range = start + n_len..start + n_len + n as usize;
            Ok(Some(Field { number: tag >> 3, n, next: range.end, range }))
        }
        _ => Err(Garbage::Length { text: excerpt(&bytes[at..]) }),
    }
}

impl Codec for Momento {
    fn new() -> Self {
        Self { login: Arc::default(), asked: 0, answered: 0, value_before: None }
    }

    fn login(&mut self, login: &Arc<Login>) {
        self.login = login.clone();
    }

    fn greet(&mut self, out: &mut Vec<u8>) -> Option<Expect> {
        let login = self.login.clone();
        self.begin(out, UNARY_AUTH, field_len(login.token.len()));
        push_bytes(out, 1, login.token.as_bytes());
        Some(Expect::Hello)
    }

    fn get(&mut self, out: &mut Vec<u8>, key: &[u8], _token: bool) {
        self.keyed(out, UNARY_GET, key);
    }

    fn get_many(&mut self, _: &mut Vec<u8>, _: &Keys) {
        unreachable!("the plan refuses mget for momento");
    }

    fn store(
        &mut self,
        out: &mut Vec<u8>,
        key: &[u8],
        store: Store,
        value: impl FnOnce(&mut Vec<u8>),
    ) {
        let login = self.login.clone();
        let ttl_ms = if store.ttl_s == 0 { TTL_MS_DEFAULT } else { u64::from(store.ttl_s) * 1000 };
        let ttl = 1 + varint_len(ttl_ms);
        let len = field_len(login.cache.len()) + field_len(key.len()) + field_len(store.len) + ttl;
        self.begin(out, UNARY_SET, len);
        push_bytes(out, 1, login.cache.as_bytes());
        push_bytes(out, 2, key);
        push_field(out, 3, store.len);
        value(out);
        out.push(4 << 3);
        push_varint(out, ttl_ms);
    }

    fn delete(&mut self, out: &mut Vec<u8>, key: &[u8]) {
        self.keyed(out, UNARY_DELETE, key);
    }

    fn incr(&mut self, _: &mut Vec<u8>, _: &[u8]) {
        unreachable!("the plan refuses incr for momento");
    }

    fn touch(&mut self, _: &mut Vec<u8>, _: &[u8], _: u32) {
        unreachable!("the plan refuses touch for momento");
    }

    fn ping(&mut self, _: &mut Vec<u8>) {
        unreachable!("the plan refuses ping for momento");
    }

    fn step(&mut self, bytes: &[u8], expect: Expect) -> Result<Step, Garbage> {
        if let Some(behind) = self.value_before {
            if bytes.len() < behind {
                return Ok(Step::More);
            }
            self.value_before = None;
            self.answered += 1;
            return Ok(Step::Done { used: behind, outcome: Outcome::Ok });
        }
        let Some((frame_len, head_len)) = varint(bytes)? else { return Ok(Step::More) };
        if frame_len > VALUE_LEN_BYTES_MAX + 128 {
            return Err(Garbage::Length { text: frame_len.to_string() });
        }
        let end = head_len + frame_len as usize;
        let (mut at, mut id) = (head_len, 0);
        while at < end {
            let Some(Field { number, n, range, next }) = field(bytes, at)? else {
                return Ok(Step::More);
            };
            if next > end {
                return Err(Garbage::Length { text: excerpt(&bytes[at..]) });
            }
            match (number, expect) {
                (RESPONSE_ID, _) => id = n,
                (
                    RESPONSE_GET | RESPONSE_AUTH | RESPONSE_SET | RESPONSE_DELETE | RESPONSE_ERROR,
                    _,
                ) if id != self.answered + 1 => {
                    let expected = self.answered + 1;
                    // A number that is not under way answers nothing.
                    return Err(if (expected..=self.asked).contains(&id) {
                        Garbage::Overtaken { got: id, expected }
                    } else {
                        Garbage::Opaque { got: id as u32, expected: expected as u32 }
                    });
                }
                (RESPONSE_GET, Expect::Get) => return self.value(bytes, &range, end, expect),
                (RESPONSE_AUTH, Expect::Hello)
                | (RESPONSE_SET, Expect::Store)
                | (RESPONSE_DELETE, Expect::Delete) => {
                    return Ok(self.done(bytes, end, Outcome::Ok));
                }
                (RESPONSE_ERROR, _) => return self.error(bytes, &range, end, expect),
                (0..=8, _) => {}
                _ => return Err(unexpected(bytes, expect)),
            }
            at = next;
        }
        if bytes.len() < end { Ok(Step::More) } else { Err(unexpected(bytes, expect)) }
    }
}

impl Momento {
    fn done(&mut self, bytes: &[u8], end: usize, outcome: Outcome) -> Step {
        if bytes.len() < end {
            return Step::More;
        }
        self.answered += 1;
        Step::Done { used: end, outcome }
    }

    /// `GetResponse`: the value's bytes are handed over as they arrive; an empty one has no field.
    fn value(
        &mut self,
        bytes: &[u8],
        response: &Range<usize>,
        end: usize,
        expect: Expect,
    ) -> Result<Step, Garbage> {
        let value =
            |skip, len| Step::Value { skip, len, key: None, place: Some(0), flags: None, token: 0 };
        if response.is_empty() {
            self.value_before = Some(end - response.start);
            return Ok(value(response.start, 0));
        }
        let Some(Field { number: 1, range, next, .. }) = field(bytes, response.start)? else {
            return if bytes.len() < end { Ok(Step::More) } else { Err(unexpected(bytes, expect)) };
        };
        if next > response.end {
            return Err(Garbage::Length { text: excerpt(&bytes[response.start..]) });
        }
        self.value_before = Some(end - range.end);
        Ok(value(range.start, range.len()))
    }

    /// `CommandError`: a code and words.
    fn error(
        &mut self,
        bytes: &[u8],
        error: &Range<usize>,
        end: usize,
        expect: Expect,
    ) -> Result<Step, Garbage> {
        if bytes.len() < end {
            return Ok(Step::More);
        }
        let (mut at, mut code, mut words) = (error.start, 0, error.start..error.start);
        while at < error.end {
            match field(bytes, at)? {
                Some(Field { number, n, range, next }) if next <= error.end => {
                    match number {
                        1 => code = n,
                        2 => words = range,
                        _ => {}
                    }
                    at = next;
                }
                _ => return Err(unexpected(bytes, expect)),
            }
        }
        let miss =
            code == NOT_FOUND && expect == Expect::Get && &bytes[words.clone()] == MISS_WORDS;
        let outcome = if miss { Outcome::Miss } else { Outcome::Error(words) };
        Ok(self.done(bytes, end, outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn response(id: u64, number: u8, body: &[u8]) -> Vec<u8> {
        let mut message = vec![1 << 3];
        push_varint(&mut message, id);
        push_bytes(&mut message, number, body);
        let mut out = Vec::new();
        push_varint(&mut out, message.len() as u64);
        [out, message].concat()
    }

    fn error(code: u8, words: &str) -> Vec<u8> {
        let mut body = vec![1 << 3, code];
        push_bytes(&mut body, 2, words.as_bytes());
        response(1, 9, &body)
    }

    fn get(value: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        push_bytes(&mut body, 1, value);
        response(1, 11, &body)
    }

    #[test]
    fn requests_are_length_prefixed_messages() {
        let mut codec = Momento::new();
        codec.login(&Arc::new(Login { cache: "c".into(), token: "t".into(), ..Login::default() }));
        let mut out = Vec::new();
        assert_eq!(codec.greet(&mut out), Some(Expect::Hello));
        assert_eq!(out, [9, 0x10, 1, 0x52, 5, 0x0a, 3, 0x0a, 1, b't']);
        out.clear();
        codec.get(&mut out, b"k", false);
        assert_eq!(out, [12, 0x10, 2, 0x52, 8, 0x12, 6, 0x0a, 1, b'c', 0x12, 1, b'k']);
        out.clear();
        let store =
            Store { len: 2, flags: 0, ttl_s: 1, condition: super::super::Condition::Always };
        codec.store(&mut out, b"k", store, |out| out.extend(b"vv"));
        assert_eq!(
            out,
            [
                19, 0x10, 3, 0x52, 15, 0x1a, 13, 0x0a, 1, b'c', 0x12, 1, b'k', 0x1a, 2, b'v', b'v',
                0x20, 0xe8, 0x07
            ]
        );
    }

    #[test]
    fn replies_split_at_every_byte_read_the_same() {
        assert_eq!(reply::<Momento>(&get(b"hello"), Expect::Get).values[0].0, b"hello");
        assert_eq!(reply::<Momento>(&get(&[7; 300]), Expect::Get).values[0].0, [7; 300]);
        assert_eq!(reply::<Momento>(&response(1, 11, b""), Expect::Get).values[0].0, b"");
        assert_eq!(
            reply::<Momento>(&response(1, 12, b""), Expect::Store).outcome,
            Some(Outcome::Ok)
        );
        assert_eq!(
            reply::<Momento>(&response(1, 10, b""), Expect::Hello).outcome,
            Some(Outcome::Ok)
        );
        assert_eq!(
            reply::<Momento>(&error(5, "Key not found"), Expect::Get).outcome,
            Some(Outcome::Miss)
        );
        let missing = reply::<Momento>(&error(5, "no such cache"), Expect::Get);
        assert_eq!(missing.words, b"no such cache");
        assert_eq!(reply::<Momento>(&error(8, "too much"), Expect::Store).words, b"too much");
    }

    #[test]
    fn a_reply_that_overtakes_another_is_told_from_one_that_answers_nothing() {
        let mut codec = Momento::new();
        let mut out = Vec::new();
        (0..3).for_each(|_| codec.get(&mut out, b"k", false));
        let overtaken = Garbage::Overtaken { got: 3, expected: 1 };
        assert_eq!(codec.step(&response(3, 11, b""), Expect::Get), Err(overtaken));
        let unknown = Garbage::Opaque { got: 4, expected: 1 };
        assert_eq!(codec.step(&response(4, 11, b""), Expect::Get), Err(unknown));
    }

    #[test]
    fn garbage_is_named() {
        assert!(garbage::<Momento>(&response(7, 12, b""), Expect::Store).contains('7'));
        garbage::<Momento>(&response(1, 12, b""), Expect::Get);
        garbage::<Momento>(&[0xff; 10], Expect::Get);
        garbage::<Momento>(b"\x02\x08\x01", Expect::Get);
        garbage::<Momento>(&[5, 0x08, 1, 0x5a, 9, 0x0a], Expect::Get);
    }
}
