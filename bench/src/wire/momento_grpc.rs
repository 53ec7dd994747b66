//! Momento over gRPC as a client speaks it: the messages; the frames around them are the channel's.
//!
//! Always true: the channel hands replies over in the order of the requests. Message shapes:
//! the published `cache_client.Scs` service. Called through [`super::Codec`].
//!
//! ```text
//! request  │path number│length, 4 bytes, little-endian│message│
//! reply    │gRPC status│length, 4 bytes, little-endian│message, or the server's words│
//! ```

use super::momento::{TTL_MS_DEFAULT, field, push_bytes, push_field, push_varint};
use super::{Codec, Expect, Garbage, Keys, Outcome, Step, Store, unexpected};

/// The calls, by path number.
pub const PATHS: [&str; 3] =
    ["/cache_client.Scs/Get", "/cache_client.Scs/Set", "/cache_client.Scs/Delete"];
/// Path or status, and length.
pub const HEAD_LEN_BYTES: usize = 5;
/// What stands for the status of a call that got none: gRPC has 17.
pub const STATUS_NONE: u8 = 255;

const GET: u8 = 0;
const SET: u8 = 1;
const DELETE: u8 = 2;

/// `ECacheResult`.
const RESULT_OK: u64 = 1;
const RESULT_HIT: u64 = 2;
const RESULT_MISS: u64 = 3;

/// The state of one connection.
#[derive(Debug)]
pub struct MomentoGrpc {
    /// Bytes of the reply behind a value that was handed over.
    value_before: Option<usize>,
}

/// Writes a request: its head, then what `message` appends.
fn request(out: &mut Vec<u8>, path: u8, message: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[path, 0, 0, 0, 0]);
    message(out);
    let len = (out.len() - start - HEAD_LEN_BYTES) as u32;
    out[start + 1..start + HEAD_LEN_BYTES].copy_from_slice(&len.to_le_bytes());
}

impl Codec for MomentoGrpc {
    const OVER_GRPC: bool = true;

    fn new() -> Self {
        Self { value_before: None }
    }

    fn get(&mut self, out: &mut Vec<u8>, key: &[u8], _token: bool) {
        request(out, GET, |out| push_bytes(out, 1, key));
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
        let ttl_ms = if store.ttl_s == 0 { TTL_MS_DEFAULT } else { u64::from(store.ttl_s) * 1000 };
        request(out, SET, |out| {
            push_bytes(out, 1, key);
            push_field(out, 2, store.len);
            value(out);
            out.push(3 << 3);
            push_varint(out, ttl_ms);
        });
    }

    fn delete(&mut self, out: &mut Vec<u8>, key: &[u8]) {
        request(out, DELETE, |out| push_bytes(out, 1, key));
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
            return Ok(Step::Done { used: behind, outcome: Outcome::Ok });
        }
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD_LEN_BYTES>() else {
            return Ok(Step::More);
        };
        let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let Some(message) = rest.get(..len) else { return Ok(Step::More) };
        let used = HEAD_LEN_BYTES + len;
        if head[0] != 0 {
            return Ok(Step::Done { used, outcome: Outcome::Error(HEAD_LEN_BYTES..used) });
        }
        let (mut at, mut result, mut body) = (0, 0, 0..0);
        while at < len {
            match field(message, at)? {
                Some(field) if field.next <= len => {
                    match field.number {
                        1 => result = field.n,
                        2 => body = field.range,
                        _ => {}
                    }
                    at = field.next;
                }
                _ => return Err(unexpected(message, expect)),
            }
        }
        let done = |outcome| Ok(Step::Done { used, outcome });
        match (expect, result) {
            (Expect::Get, RESULT_HIT) => {
                let (skip, len) = (HEAD_LEN_BYTES + body.start, body.len());
                self.value_before = Some(used - skip - len);
                Ok(Step::Value { skip, len, key: None, place: Some(0), flags: None, token: 0 })
            }
            (Expect::Get, RESULT_MISS) => done(Outcome::Miss),
            (Expect::Store, RESULT_OK) => done(Outcome::Ok),
            // A deletion's answer is empty.
            (Expect::Delete, _) => done(Outcome::Ok),
            _ => Err(unexpected(message, expect)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn response(status: u8, message: &[u8]) -> Vec<u8> {
        [&[status][..], &(message.len() as u32).to_le_bytes(), message].concat()
    }

    fn hit(value: &[u8]) -> Vec<u8> {
        let mut message = vec![1 << 3, 2];
        push_bytes(&mut message, 2, value);
        push_bytes(&mut message, 3, b"words");
        response(0, &message)
    }

    #[test]
    fn requests_are_messages_behind_a_head() {
        let mut codec = MomentoGrpc::new();
        let mut out = Vec::new();
        codec.get(&mut out, b"k", false);
        assert_eq!(out, [0, 3, 0, 0, 0, 0x0a, 1, b'k']);
        out.clear();
        let store =
            Store { len: 2, flags: 0, ttl_s: 1, condition: super::super::Condition::Always };
        codec.store(&mut out, b"k", store, |out| out.extend(b"vv"));
        assert_eq!(out, [1, 10, 0, 0, 0, 0x0a, 1, b'k', 0x12, 2, b'v', b'v', 0x18, 0xe8, 0x07]);
    }

    #[test]
    fn replies_split_at_every_byte_read_the_same() {
        for value in [&b"hello"[..], &[7; 300], b""] {
            assert_eq!(reply::<MomentoGrpc>(&hit(value), Expect::Get).values[0].0, value);
        }
        let outcome = |bytes: &[u8], expect| reply::<MomentoGrpc>(bytes, expect).outcome;
        assert_eq!(outcome(&response(0, &[8, 3]), Expect::Get), Some(Outcome::Miss));
        assert_eq!(outcome(&response(0, &[8, 1]), Expect::Store), Some(Outcome::Ok));
        assert_eq!(outcome(&response(0, &[]), Expect::Delete), Some(Outcome::Ok));
        let refused = reply::<MomentoGrpc>(&response(16, b"who are you"), Expect::Get);
        assert_eq!(refused.words, b"who are you");
    }

    #[test]
    fn garbage_is_named() {
        garbage::<MomentoGrpc>(&response(0, &[8, 1]), Expect::Get);
        garbage::<MomentoGrpc>(&response(0, &[0x12, 9, 1]), Expect::Get);
        garbage::<MomentoGrpc>(&response(0, &[]), Expect::Store);
    }
}
