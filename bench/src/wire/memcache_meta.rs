//! memcached's meta commands as a client speaks them.
//!
//! Always true: every read asks for the key back (`k`), so an answer names what it answers. Called
//! through [`super::Codec`].

use std::sync::Arc;

use super::memcache_text::exptime;
use super::{
    Codec, Condition, Expect, Garbage, Keys, Login, Outcome, Step, Store, Whole, leading_number,
    length, line, number, push_number, unexpected, value_end,
};

/// The state of one connection.
#[derive(Debug)]
pub struct McMeta {
    value_before: bool,
    login: Arc<Login>,
}

impl Codec for McMeta {
    const READS_DIFFER_IN_KEY_ALONE: bool = true;

    /// Flags come in the order in which they were asked for: `VA len f… k…`.
    #[inline]
    fn whole_read(&mut self, bytes: &[u8]) -> Option<Whole> {
        debug_assert!(!self.value_before);
        let (len, rest) = leading_number(bytes.strip_prefix(b"VA ")?)?;
        let (flags, rest) = leading_number(rest.strip_prefix(b" f")?)?;
        let key = rest.strip_prefix(b" k")?;
        let key_start = bytes.len() - key.len();
        let key_len = memchr::memchr2(b' ', b'\r', key)?;
        let value = key[key_len..].strip_prefix(b"\r\n")?;
        value.get(len..)?.strip_prefix(b"\r\n")?;
        let start = bytes.len() - value.len();
        Some(Whole {
            value: start..start + len,
            key: Some(key_start..key_start + key_len),
            flags: Some(u32::try_from(flags).ok()?),
            used: start + len + 2,
        })
    }

    fn new() -> Self {
        Self { value_before: false, login: Arc::default() }
    }

    fn login(&mut self, login: &Arc<Login>) {
        self.login = login.clone();
    }

    fn greet(&mut self, out: &mut Vec<u8>) -> Option<Expect> {
        super::memcache_text::greet(&self.login, out)
    }

    fn get(&mut self, out: &mut Vec<u8>, key: &[u8], token: bool) {
        out.extend_from_slice(b"mg ");
        out.extend_from_slice(key);
        out.extend_from_slice(if token { b" v f k c\r\n" } else { b" v f k\r\n" });
    }

    fn get_many(&mut self, out: &mut Vec<u8>, keys: &Keys) {
        for key in keys.iter() {
            out.extend_from_slice(b"mg ");
            out.extend_from_slice(key);
            out.extend_from_slice(b" v f k q\r\n");
        }
        out.extend_from_slice(b"mn\r\n");
    }

    fn store(
        &mut self,
        out: &mut Vec<u8>,
        key: &[u8],
        store: Store,
        value: impl FnOnce(&mut Vec<u8>),
    ) {
        out.extend_from_slice(b"ms ");
        out.extend_from_slice(key);
        out.push(b' ');
        push_number(out, store.len as u64);
        out.extend_from_slice(b" F");
        push_number(out, u64::from(store.flags));
        if store.ttl_s > 0 {
            out.extend_from_slice(b" T");
            push_number(out, u64::from(exptime(store.ttl_s)));
        }
        match store.condition {
            Condition::Always => {}
            Condition::IfAbsent => out.extend_from_slice(b" ME"),
            Condition::Token(token) => {
                out.extend_from_slice(b" C");
                push_number(out, token);
            }
        }
        out.extend_from_slice(b"\r\n");
        value(out);
        out.extend_from_slice(b"\r\n");
    }

    fn delete(&mut self, out: &mut Vec<u8>, key: &[u8]) {
        out.extend_from_slice(b"md ");
        out.extend_from_slice(key);
        out.extend_from_slice(b"\r\n");
    }

    fn incr(&mut self, out: &mut Vec<u8>, key: &[u8]) {
        // N and J: created with 1 when absent.
        out.extend_from_slice(b"ma ");
        out.extend_from_slice(key);
        out.extend_from_slice(b" N0 J1 v\r\n");
    }

    fn touch(&mut self, out: &mut Vec<u8>, key: &[u8], ttl_s: u32) {
        out.extend_from_slice(b"mg ");
        out.extend_from_slice(key);
        out.extend_from_slice(b" T");
        push_number(out, u64::from(exptime(ttl_s)));
        out.extend_from_slice(b"\r\n");
    }

    fn ping(&mut self, _out: &mut Vec<u8>) {
        unreachable!("the plan refuses ping for memcache");
    }

    fn step(&mut self, bytes: &[u8], expect: Expect) -> Result<Step, Garbage> {
        let mut skip = 0;
        if self.value_before {
            let Some(end) = value_end(bytes)? else { return Ok(Step::More) };
            skip = end;
            // A single read ends with its value; a batch ends with MN.
            if expect != Expect::GetMany {
                self.value_before = false;
                return Ok(Step::Done { used: skip, outcome: Outcome::Ok });
            }
        }
        let Some((text, used)) = line(&bytes[skip..])? else { return Ok(Step::More) };
        if text.starts_with(b"VA ")
            && matches!(expect, Expect::Get | Expect::GetMany | Expect::Incr)
        {
            let step = value(text, skip, used, expect)?;
            self.value_before = true;
            return Ok(step);
        }
        let code = &text[..text.len().min(2)];
        let outcome = match (code, expect) {
            (b"EN", Expect::Get | Expect::Touch) => Outcome::Miss,
            (b"MN", Expect::GetMany) => Outcome::Ok,
            _ if text == b"STORED" && expect == Expect::Login => Outcome::Ok,
            (b"HD", Expect::Store | Expect::Delete | Expect::Touch) => Outcome::Ok,
            (b"NS" | b"EX" | b"NF", Expect::Store) => Outcome::NotStored,
            (b"NF", Expect::Delete | Expect::Incr | Expect::Touch) => Outcome::Miss,
            _ if text == b"ERROR"
                || text.starts_with(b"CLIENT_ERROR ")
                || text.starts_with(b"SERVER_ERROR ") =>
            {
                Outcome::Error(skip..skip + text.len())
            }
            _ => return Err(unexpected(text, expect)),
        };
        self.value_before = false;
        Ok(Step::Done { used: skip + used, outcome })
    }
}

/// `VA len flag…`: `f` client flags, `k` the key, `c` the token.
fn value(text: &[u8], skip: usize, used: usize, expect: Expect) -> Result<Step, Garbage> {
    let mut at = 3;
    let mut parts = text[3..].split(|b| *b == b' ');
    let first = parts.next().unwrap_or_default();
    let len = length(first)?;
    at += first.len() + 1;
    let (mut key, mut flags, mut token) = (None, None, 0);
    for part in parts {
        let bad = || unexpected(text, expect);
        match part.split_first() {
            Some((b'f', rest)) => {
                flags = Some(number(rest).and_then(|n| u32::try_from(n).ok()).ok_or_else(bad)?)
            }
            Some((b'c', rest)) => token = number(rest).ok_or_else(bad)?,
            Some((b'k', _)) => key = Some(skip + at + 1..skip + at + part.len()),
            _ => {}
        }
        at += part.len() + 1;
    }
    Ok(Step::Value { skip: skip + used, len, key, place: None, flags, token })
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn requests_are_meta_lines() {
        let mut codec = McMeta::new();
        let mut out = Vec::new();
        codec.get(&mut out, b"k", false);
        codec.get(&mut out, b"k", true);
        codec.get_many(&mut out, &keys(&[b"a", b"b"]));
        for condition in [Condition::Always, Condition::IfAbsent, Condition::Token(7)] {
            codec.store(&mut out, b"k", Store { len: 2, flags: 5, ttl_s: 60, condition }, |o| {
                o.extend(b"vv")
            });
        }
        codec.incr(&mut out, b"c");
        codec.delete(&mut out, b"k");
        codec.touch(&mut out, b"k", 8);
        assert_eq!(
            out.escape_ascii().to_string().replace("\\r\\n", "|"),
            "mg k v f k|mg k v f k c|mg a v f k q|mg b v f k q|mn|ms k 2 F5 T60|vv|ms k 2 F5 T60 ME|vv|\
             ms k 2 F5 T60 C7|vv|ma c N0 J1 v|md k|mg k T8|"
        );
    }

    #[test]
    fn replies_split_at_every_byte_read_the_same() {
        let read = reply::<McMeta>(b"VA 3 f5 kkey c9\r\nabc\r\n", Expect::Get);
        assert_eq!(read.values, [(b"abc".to_vec(), None, Some(b"key".to_vec()), Some(5), 9)]);
        assert_eq!(reply::<McMeta>(b"EN\r\n", Expect::Get).outcome, Some(Outcome::Miss));
        let read = reply::<McMeta>(b"VA 1 f0 ka\r\nx\r\nVA 0 f0 kb\r\n\r\nMN\r\n", Expect::GetMany);
        assert_eq!(read.values.len(), 2);
        assert_eq!(read.values[1].2.as_deref(), Some(&b"b"[..]));
        assert_eq!(reply::<McMeta>(b"MN\r\n", Expect::GetMany).values.len(), 0);
        assert_eq!(reply::<McMeta>(b"HD\r\n", Expect::Store).outcome, Some(Outcome::Ok));
        assert_eq!(reply::<McMeta>(b"EX\r\n", Expect::Store).outcome, Some(Outcome::NotStored));
        assert_eq!(reply::<McMeta>(b"VA 2\r\n41\r\n", Expect::Incr).values[0].0, b"41");
        assert_eq!(
            reply::<McMeta>(b"CLIENT_ERROR bad\r\n", Expect::Get).words,
            b"CLIENT_ERROR bad"
        );
    }

    #[test]
    fn garbage_is_named() {
        for (bytes, expect) in [
            (&b"VA x f5\r\n"[..], Expect::Get),
            (b"VA 3 fx\r\nabc\r\n", Expect::Get),
            (b"HD\r\n", Expect::Get),
            (b"VA 1 f0\r\nabc", Expect::Get),
            (b"EN\r\n", Expect::Store),
            (b"OK\r\n", Expect::Delete),
        ] {
            garbage::<McMeta>(bytes, expect);
        }
    }
}
