//! memcached's binary protocol as a client speaks it.
//!
//! Always true: every request carries a number that its reply must repeat. Called through [`super::Codec`].
//!
//! ```text
//!  0     1      2       4      5    6       8          12     16        24
//!  ├magic┼opcode┼key len┼extras┼type┼status ┼body len ──┼opaque┼cas ─────┤ extras · key · value
//! ```

use std::sync::Arc;

use super::memcache_text::exptime;
use super::{Codec, Condition, Expect, Garbage, Keys, Login, Outcome, Step, Store, unexpected};
use crate::config::plan::VALUE_LEN_BYTES_MAX;

const HEADER_LEN_BYTES: usize = 24;
const REQUEST: u8 = 0x80;
const RESPONSE: u8 = 0x81;

const GET: u8 = 0x00;
const SET: u8 = 0x01;
const ADD: u8 = 0x02;
const DELETE: u8 = 0x04;
const INCREMENT: u8 = 0x05;
const NOOP: u8 = 0x0a;
const GETKQ: u8 = 0x0d;
const GETK: u8 = 0x0c;
const TOUCH: u8 = 0x1c;
const SASL_AUTH: u8 = 0x21;

const STATUS_OK: u16 = 0;
const STATUS_NOT_FOUND: u16 = 1;
const STATUS_EXISTS: u16 = 2;
const STATUS_NOT_STORED: u16 = 5;

/// The state of one connection.
#[derive(Debug)]
pub struct McBinary {
    asked: u32,
    answered: u32,
    value_before: bool,
    login: Arc<Login>,
}

struct Frame<'a> {
    opcode: u8,
    extras: &'a [u8],
    key: &'a [u8],
    value_len: usize,
    cas: u64,
}

impl McBinary {
    fn push(&self, out: &mut Vec<u8>, frame: &Frame<'_>) {
        let body = frame.extras.len() + frame.key.len() + frame.value_len;
        out.extend_from_slice(&[REQUEST, frame.opcode]);
        out.extend_from_slice(&(frame.key.len() as u16).to_be_bytes());
        out.extend_from_slice(&[frame.extras.len() as u8, 0, 0, 0]);
        out.extend_from_slice(&(body as u32).to_be_bytes());
        out.extend_from_slice(&self.asked.to_be_bytes());
        out.extend_from_slice(&frame.cas.to_be_bytes());
        out.extend_from_slice(frame.extras);
        out.extend_from_slice(frame.key);
    }

    fn ask(&mut self, out: &mut Vec<u8>, frame: &Frame<'_>) {
        self.push(out, frame);
        self.asked = self.asked.wrapping_add(1);
    }

    fn answer(&mut self, used: usize, outcome: Outcome) -> Step {
        self.answered = self.answered.wrapping_add(1);
        self.value_before = false;
        Step::Done { used, outcome }
    }
}

impl Codec for McBinary {
    fn new() -> Self {
        Self { asked: 0, answered: 0, value_before: false, login: Arc::default() }
    }

    fn login(&mut self, login: &Arc<Login>) {
        self.login = login.clone();
    }

    /// SASL's PLAIN: an empty identity, the name and the password, each behind a zero byte.
    fn greet(&mut self, out: &mut Vec<u8>) -> Option<Expect> {
        let login = self.login.clone();
        if login.password.is_empty() {
            return None;
        }
        let secret = format!("\0{}\0{}", login.username, login.password);
        let value_len = secret.len();
        self.ask(out, &Frame { opcode: SASL_AUTH, extras: &[], key: b"PLAIN", value_len, cas: 0 });
        out.extend_from_slice(secret.as_bytes());
        Some(Expect::Login)
    }

    fn get(&mut self, out: &mut Vec<u8>, key: &[u8], _token: bool) {
        self.ask(out, &Frame { opcode: GETK, extras: &[], key, value_len: 0, cas: 0 });
    }

    fn get_many(&mut self, out: &mut Vec<u8>, keys: &Keys) {
        for key in keys.iter() {
            self.push(out, &Frame { opcode: GETKQ, extras: &[], key, value_len: 0, cas: 0 });
        }
        self.ask(out, &Frame { opcode: NOOP, extras: &[], key: &[], value_len: 0, cas: 0 });
    }

    fn store(
        &mut self,
        out: &mut Vec<u8>,
        key: &[u8],
        store: Store,
        value: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut extras = [0; 8];
        extras[..4].copy_from_slice(&store.flags.to_be_bytes());
        extras[4..].copy_from_slice(&exptime(store.ttl_s).to_be_bytes());
        let (opcode, cas) = match store.condition {
            Condition::Always => (SET, 0),
            Condition::IfAbsent => (ADD, 0),
            Condition::Token(token) => (SET, token),
        };
        self.ask(out, &Frame { opcode, extras: &extras, key, value_len: store.len, cas });
        value(out);
    }

    fn delete(&mut self, out: &mut Vec<u8>, key: &[u8]) {
        self.ask(out, &Frame { opcode: DELETE, extras: &[], key, value_len: 0, cas: 0 });
    }

    fn incr(&mut self, out: &mut Vec<u8>, key: &[u8]) {
        // delta 1, initial 1, no expiry: created when absent.
        let mut extras = [0; 20];
        extras[7] = 1;
        extras[15] = 1;
        self.ask(out, &Frame { opcode: INCREMENT, extras: &extras, key, value_len: 0, cas: 0 });
    }

    fn touch(&mut self, out: &mut Vec<u8>, key: &[u8], ttl_s: u32) {
        let extras = exptime(ttl_s).to_be_bytes();
        self.ask(out, &Frame { opcode: TOUCH, extras: &extras, key, value_len: 0, cas: 0 });
    }

    fn ping(&mut self, _out: &mut Vec<u8>) {
        unreachable!("the plan refuses ping for memcache");
    }

    fn step(&mut self, bytes: &[u8], expect: Expect) -> Result<Step, Garbage> {
        if self.value_before && expect != Expect::GetMany {
            return Ok(self.answer(0, Outcome::Ok));
        }
        if bytes.first().is_some_and(|magic| *magic != RESPONSE) {
            return Err(unexpected(bytes, expect));
        }
        let Some(header) = bytes.get(..HEADER_LEN_BYTES) else { return Ok(Step::More) };
        let u16_at = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let u32_at =
            |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let (opcode, key_len, extras_len, status) =
            (header[1], usize::from(u16_at(2)), usize::from(header[4]), u16_at(6));
        let (body_len, opaque) = (u32_at(8) as usize, u32_at(12));
        if opaque != self.answered {
            return Err(Garbage::Opaque { got: opaque, expected: self.answered });
        }
        let fits = match expect {
            Expect::Get => opcode == GETK || opcode == GET,
            Expect::GetMany => opcode == GETKQ || opcode == NOOP,
            Expect::Store => opcode == SET || opcode == ADD,
            Expect::Delete => opcode == DELETE,
            Expect::Incr => opcode == INCREMENT,
            Expect::Touch => opcode == TOUCH,
            Expect::Login => opcode == SASL_AUTH,
            Expect::Ping | Expect::Any | Expect::Hello => false,
        };
        if !fits || body_len < key_len + extras_len {
            return Err(unexpected(bytes, expect));
        }
        if body_len as u64 > VALUE_LEN_BYTES_MAX + 512 {
            return Err(Garbage::Length { text: body_len.to_string() });
        }
        if status == STATUS_OK && matches!(opcode, GET | GETK | GETKQ) {
            if extras_len != 4 {
                return Err(unexpected(bytes, expect));
            }
            let key_at = HEADER_LEN_BYTES + extras_len;
            if bytes.len() < key_at + key_len {
                return Ok(Step::More);
            }
            let flags =
                u32::from_be_bytes(bytes[HEADER_LEN_BYTES..key_at].try_into().expect("four bytes"));
            let token = u64::from_be_bytes(header[16..].try_into().expect("eight bytes"));
            self.value_before = true;
            return Ok(Step::Value {
                skip: key_at + key_len,
                len: body_len - extras_len - key_len,
                key: (key_len > 0).then_some(key_at..key_at + key_len),
                place: None,
                flags: Some(flags),
                token,
            });
        }
        let used = HEADER_LEN_BYTES + body_len;
        if bytes.len() < used {
            return Ok(Step::More);
        }
        let outcome = match (status, expect) {
            (STATUS_OK, _) => Outcome::Ok,
            (STATUS_NOT_FOUND, Expect::Store) | (STATUS_EXISTS | STATUS_NOT_STORED, _) => {
                Outcome::NotStored
            }
            (STATUS_NOT_FOUND, _) => Outcome::Miss,
            _ => Outcome::Error(HEADER_LEN_BYTES + extras_len + key_len..used),
        };
        Ok(self.answer(used, outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn response(
        opcode: u8,
        status: u16,
        extras: &[u8],
        key: &[u8],
        value: &[u8],
        opaque: u32,
    ) -> Vec<u8> {
        let mut out = vec![RESPONSE, opcode];
        out.extend((key.len() as u16).to_be_bytes());
        out.extend([extras.len() as u8, 0]);
        out.extend(status.to_be_bytes());
        out.extend(((extras.len() + key.len() + value.len()) as u32).to_be_bytes());
        out.extend(opaque.to_be_bytes());
        out.extend(9u64.to_be_bytes());
        out.extend([extras, key, value].concat());
        out
    }

    #[test]
    fn a_login_is_plain_sasl() {
        let mut codec = McBinary::new();
        let (username, password) = ("me".into(), "pw".into());
        codec.login(&Arc::new(Login { username, password, ..Login::default() }));
        let mut out = Vec::new();
        assert_eq!(codec.greet(&mut out), Some(Expect::Login));
        assert_eq!((out[1], &out[HEADER_LEN_BYTES..]), (SASL_AUTH, &b"PLAIN\0me\0pw"[..]));
        let ok = response(SASL_AUTH, 0, b"", b"", b"Authenticated", 0);
        assert_eq!(reply::<McBinary>(&ok, Expect::Login).outcome, Some(Outcome::Ok));
        let refused = reply::<McBinary>(
            &response(SASL_AUTH, 0x20, b"", b"", b"Auth failure", 0),
            Expect::Login,
        );
        assert_eq!(refused.words, b"Auth failure");
    }

    #[test]
    fn a_store_is_header_extras_key_and_value() {
        let mut out = Vec::new();
        let store = Store { len: 2, flags: 5, ttl_s: 60, condition: Condition::Token(3) };
        McBinary::new().store(&mut out, b"k", store, |o| o.extend(b"vv"));
        assert_eq!(
            out,
            [
                0x80, 1, 0, 1, 8, 0, 0, 0, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0,
                0, 5, 0, 0, 0, 60, b'k', b'v', b'v'
            ]
        );
    }

    #[test]
    fn replies_split_at_every_byte_read_the_same() {
        let read =
            reply::<McBinary>(&response(GETK, 0, &[0, 0, 0, 5], b"key", b"abc", 0), Expect::Get);
        assert_eq!(read.values, [(b"abc".to_vec(), None, Some(b"key".to_vec()), Some(5), 9)]);
        let read = reply::<McBinary>(&response(GETK, 1, &[], b"", b"Not found", 0), Expect::Get);
        assert_eq!(read.outcome, Some(Outcome::Miss));
        let batch = [
            response(GETKQ, 0, &[0; 4], b"a", b"1", 0),
            response(GETKQ, 0, &[0; 4], b"c", b"", 0),
            response(NOOP, 0, &[], b"", b"", 0),
        ]
        .concat();
        let read = reply::<McBinary>(&batch, Expect::GetMany);
        assert_eq!(read.values.len(), 2);
        let read = reply::<McBinary>(&response(SET, 2, &[], b"", b"Data exists", 0), Expect::Store);
        assert_eq!(read.outcome, Some(Outcome::NotStored));
        let read =
            reply::<McBinary>(&response(SET, 0x82, &[], b"", b"Out of memory", 0), Expect::Store);
        assert_eq!(read.words, b"Out of memory");
    }

    #[test]
    fn a_reply_to_another_request_is_garbage() {
        let text = garbage::<McBinary>(&response(SET, 0, &[], b"", b"", 7), Expect::Store);
        assert!(text.contains('7'), "{text}");
        garbage::<McBinary>(&response(SET, 0, &[], b"", b"", 0), Expect::Get);
        garbage::<McBinary>(b"END\r\n", Expect::Get);
        garbage::<McBinary>(&response(GETK, 0, &[], b"", b"abc", 0), Expect::Get);
    }
}
