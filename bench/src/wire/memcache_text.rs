//! memcached's classic text protocol as a client speaks it.
//!
//! Always true: a value's key is handed over with it, so that an answer to another key is noticed even
//! where its content would pass. Called through [`super::Codec`].

use std::sync::Arc;

use super::{
    Codec, Condition, Expect, Garbage, Keys, Login, Outcome, Step, Store, Whole, leading_number,
    length, line, number, push_number, unexpected, value_end,
};

/// The state of one connection.
#[derive(Debug)]
pub struct McText {
    value_before: bool,
    login: Arc<Login>,
}

fn words<'a>(out: &mut Vec<u8>, parts: impl IntoIterator<Item = &'a [u8]>) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

impl Codec for McText {
    const READS_DIFFER_IN_KEY_ALONE: bool = true;

    #[inline]
    fn whole_read(&mut self, bytes: &[u8]) -> Option<Whole> {
        debug_assert!(!self.value_before);
        let head = bytes.strip_prefix(b"VALUE ")?;
        let key_len = memchr::memchr(b' ', head)?;
        let (flags, rest) = leading_number(&head[key_len + 1..])?;
        let (len, rest) = leading_number(rest.strip_prefix(b" ")?)?;
        let value = rest.strip_prefix(b"\r\n")?;
        value.get(len..)?.strip_prefix(b"\r\nEND\r\n")?;
        let start = bytes.len() - value.len();
        Some(Whole {
            value: start..start + len,
            key: Some(6..6 + key_len),
            flags: Some(u32::try_from(flags).ok()?),
            used: start + len + 7,
        })
    }

    fn new() -> Self {
        Self { value_before: false, login: Arc::default() }
    }

    fn login(&mut self, login: &Arc<Login>) {
        self.login = login.clone();
    }

    fn greet(&mut self, out: &mut Vec<u8>) -> Option<Expect> {
        greet(&self.login, out)
    }

    fn get(&mut self, out: &mut Vec<u8>, key: &[u8], token: bool) {
        words(out, [if token { &b"gets "[..] } else { b"get " }, key, b"\r\n"]);
    }

    fn get_many(&mut self, out: &mut Vec<u8>, keys: &Keys) {
        out.extend_from_slice(b"get");
        for key in keys.iter() {
            words(out, [&b" "[..], key]);
        }
        out.extend_from_slice(b"\r\n");
    }

    fn store(
        &mut self,
        out: &mut Vec<u8>,
        key: &[u8],
        store: Store,
        value: impl FnOnce(&mut Vec<u8>),
    ) {
        let name: &[u8] = match store.condition {
            Condition::Always => b"set ",
            Condition::IfAbsent => b"add ",
            Condition::Token(_) => b"cas ",
        };
        words(out, [name, key, b" "]);
        push_number(out, u64::from(store.flags));
        out.push(b' ');
        push_number(out, u64::from(exptime(store.ttl_s)));
        out.push(b' ');
        push_number(out, store.len as u64);
        if let Condition::Token(token) = store.condition {
            out.push(b' ');
            push_number(out, token);
        }
        out.extend_from_slice(b"\r\n");
        value(out);
        out.extend_from_slice(b"\r\n");
    }

    fn delete(&mut self, out: &mut Vec<u8>, key: &[u8]) {
        words(out, [&b"delete "[..], key, b"\r\n"]);
    }

    fn incr(&mut self, out: &mut Vec<u8>, key: &[u8]) {
        words(out, [&b"incr "[..], key, b" 1\r\n"]);
    }

    fn touch(&mut self, out: &mut Vec<u8>, key: &[u8], ttl_s: u32) {
        words(out, [&b"touch "[..], key, b" "]);
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
        }
        let Some((text, used)) = line(&bytes[skip..])? else { return Ok(Step::More) };
        let reading = matches!(expect, Expect::Get | Expect::GetMany);
        if reading && text.starts_with(b"VALUE ") {
            let step = value(text, skip, used).ok_or_else(|| unexpected(text, expect))??;
            self.value_before = true;
            return Ok(step);
        }
        let outcome = match (text, expect) {
            (b"END", _) if reading => {
                if expect == Expect::Get && !self.value_before {
                    Outcome::Miss
                } else {
                    Outcome::Ok
                }
            }
            (b"STORED", Expect::Store | Expect::Login)
            | (b"DELETED", Expect::Delete)
            | (b"TOUCHED", Expect::Touch) => Outcome::Ok,
            (b"NOT_STORED" | b"EXISTS" | b"NOT_FOUND", Expect::Store) => Outcome::NotStored,
            (b"NOT_FOUND", Expect::Delete | Expect::Touch | Expect::Incr) => Outcome::Miss,
            // memcached pads a decremented number with spaces; an incremented one never has any.
            (digits, Expect::Incr) if number(digits).is_some() => Outcome::Ok,
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

/// A login in the text protocols is a store, under any key, of the name and the password.
pub(super) fn greet(login: &Login, out: &mut Vec<u8>) -> Option<Expect> {
    let Login { username, password, .. } = login;
    if password.is_empty() {
        return None;
    }
    words(out, [&b"set login 0 0 "[..]]);
    push_number(out, (username.len() + 1 + password.len()) as u64);
    words(out, [&b"\r\n"[..], username.as_bytes(), b" ", password.as_bytes(), b"\r\n"]);
    Some(Expect::Login)
}

/// Seconds as memcached reads them: above 30 days a number is a date, so such a TTL is sent as one.
pub(super) fn exptime(ttl_s: u32) -> u32 {
    const RELATIVE_S_MAX: u32 = 60 * 60 * 24 * 30;
    if ttl_s <= RELATIVE_S_MAX {
        return ttl_s;
    }
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    u32::try_from(now + u64::from(ttl_s)).unwrap_or(0)
}

/// `VALUE key flags len [token]`; `None` when it is not of that form.
fn value(text: &[u8], skip: usize, used: usize) -> Option<Result<Step, Garbage>> {
    let mut parts = text[6..].split(|b| *b == b' ');
    let key_len = parts.next()?.len();
    let flags = u32::try_from(number(parts.next()?)?).ok()?;
    let len = match length(parts.next()?) {
        Ok(len) => len,
        Err(garbage) => return Some(Err(garbage)),
    };
    let token = match parts.next() {
        Some(token) => number(token)?,
        None => 0,
    };
    let key = skip + 6..skip + 6 + key_len;
    Some(Ok(Step::Value {
        skip: skip + used,
        len,
        key: Some(key),
        place: None,
        flags: Some(flags),
        token,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn requests_are_lines() {
        let mut codec = McText::new();
        let mut out = Vec::new();
        codec.get(&mut out, b"k", false);
        codec.get(&mut out, b"k", true);
        codec.get_many(&mut out, &keys(&[b"a", b"b"]));
        for condition in [Condition::Always, Condition::IfAbsent, Condition::Token(77)] {
            codec.store(&mut out, b"k", Store { len: 2, flags: 5, ttl_s: 60, condition }, |o| {
                o.extend(b"vv")
            });
        }
        codec.touch(&mut out, b"k", 9);
        assert_eq!(
            out.escape_ascii().to_string().replace("\\r\\n", "|"),
            "get k|gets k|get a b|set k 5 60 2|vv|add k 5 60 2|vv|cas k 5 60 2 77|vv|touch k 9|"
        );
    }

    #[test]
    fn a_login_is_a_store_of_name_and_password() {
        let mut codec = McText::new();
        let (username, password) = ("me".into(), "secret".into());
        codec.login(&Arc::new(Login { username, password, ..Login::default() }));
        let mut out = Vec::new();
        assert_eq!(codec.greet(&mut out), Some(Expect::Login));
        assert_eq!(out, b"set login 0 0 9\r\nme secret\r\n");
        assert_eq!(reply::<McText>(b"STORED\r\n", Expect::Login).outcome, Some(Outcome::Ok));
        let refused = reply::<McText>(b"CLIENT_ERROR authentication failure\r\n", Expect::Login);
        assert_eq!(refused.words, b"CLIENT_ERROR authentication failure");
    }

    #[test]
    fn a_ttl_above_thirty_days_is_sent_as_a_date() {
        assert_eq!(exptime(2_592_000), 2_592_000);
        assert!(exptime(2_592_001) > 1_700_000_000);
    }

    #[test]
    fn replies_split_at_every_byte_read_the_same() {
        let read = reply::<McText>(b"VALUE key 5 3\r\nabc\r\nEND\r\n", Expect::Get);
        assert_eq!(read.values, [(b"abc".to_vec(), None, Some(b"key".to_vec()), Some(5), 0)]);
        assert_eq!(reply::<McText>(b"END\r\n", Expect::Get).outcome, Some(Outcome::Miss));
        let read = reply::<McText>(
            b"VALUE a 0 2 9\r\n\r\n\r\nVALUE b 1 0\r\n\r\nEND\r\n",
            Expect::GetMany,
        );
        assert_eq!(read.values.len(), 2);
        assert_eq!((read.values[0].0.as_slice(), read.values[0].4), (&b"\r\n"[..], 9));
        assert_eq!(reply::<McText>(b"EXISTS\r\n", Expect::Store).outcome, Some(Outcome::NotStored));
        assert_eq!(reply::<McText>(b"42\r\n", Expect::Incr).outcome, Some(Outcome::Ok));
        let error = reply::<McText>(b"SERVER_ERROR out of memory\r\n", Expect::Store);
        assert_eq!(error.words, b"SERVER_ERROR out of memory");
    }

    #[test]
    fn garbage_is_named() {
        for (bytes, expect) in [
            (&b"VALUE k x 3\r\n"[..], Expect::Get),
            (b"VALUE k 0\r\n", Expect::Get),
            (b"STORED\r\n", Expect::Get),
            (b"VALUE k 0 3\r\nabcdEND\r\n", Expect::Get),
            (b"END\n", Expect::Get),
            (b"-1\r\n", Expect::Incr),
            (b"OK\r\n", Expect::Store),
            (b"VALUE k 0 99999999999\r\n", Expect::Get),
        ] {
            garbage::<McText>(bytes, expect);
        }
    }
}
