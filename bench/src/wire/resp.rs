//! RESP2 and RESP3 as a client speaks them.
//!
//! Always true: the two differ in the greeting and in which forms of null are read; both refuse replies
//! of a type that the command never has. Called through [`super::Codec`].

use std::sync::Arc;

use super::{
    Codec, Condition, Expect, Garbage, Keys, Login, Outcome, Step, Store, Whole, excerpt,
    leading_number, length, line, number, push_number, unexpected, value_end,
};

/// Deepest nesting of a reply to a template.
const DEPTH_MAX: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    /// Behind a value's bytes; then on with the elements, or the reply is complete.
    ValueEnd {
        place: usize,
        count: usize,
    },
}

/// RESP; `THREE` greets with `HELLO 3`.
#[derive(Debug)]
pub struct Resp<const THREE: bool> {
    at: At,
    login: Arc<Login>,
}

/// A command of these words.
pub(crate) fn push_command<'a>(out: &mut Vec<u8>, words: impl ExactSizeIterator<Item = &'a [u8]>) {
    out.push(b'*');
    push_number(out, words.len() as u64);
    out.extend_from_slice(b"\r\n");
    words.for_each(|word| push_bulk(out, word));
}

fn push_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'$');
    push_number(out, bytes.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

impl<const THREE: bool> Codec for Resp<THREE> {
    const READS_DIFFER_IN_KEY_ALONE: bool = true;

    #[inline]
    fn whole_read(&mut self, bytes: &[u8]) -> Option<Whole> {
        debug_assert_eq!(self.at, At::Start);
        let [b'$', rest @ ..] = bytes else { return None };
        let (len, rest) = leading_number(rest)?;
        let value = rest.strip_prefix(b"\r\n")?;
        let [b'\r', b'\n', ..] = value.get(len..)? else { return None };
        let start = bytes.len() - value.len();
        let used = start + len + 2;
        Some(Whole { value: start..start + len, key: None, flags: None, used })
    }

    fn new() -> Self {
        Self { at: At::Start, login: Arc::default() }
    }

    fn login(&mut self, login: &Arc<Login>) {
        self.login = login.clone();
    }

    fn greet(&mut self, out: &mut Vec<u8>) -> Option<Expect> {
        let Login { username, password, .. } = &*self.login;
        let mut words: Vec<&[u8]> = Vec::new();
        if THREE {
            words.extend([&b"HELLO"[..], b"3"]);
        }
        if !password.is_empty() {
            words.push(b"AUTH");
            // HELLO takes no password without a name; `default` is who has none.
            match &username[..] {
                "" if THREE => words.push(b"default"),
                "" => {}
                name => words.push(name.as_bytes()),
            }
            words.push(password.as_bytes());
        }
        if words.is_empty() {
            return None;
        }
        push_command(out, words.into_iter());
        Some(if THREE { Expect::Hello } else { Expect::Login })
    }

    fn get(&mut self, out: &mut Vec<u8>, key: &[u8], _token: bool) {
        out.extend_from_slice(b"*2\r\n$3\r\nGET\r\n");
        push_bulk(out, key);
    }

    fn get_many(&mut self, out: &mut Vec<u8>, keys: &Keys) {
        out.push(b'*');
        push_number(out, keys.len() as u64 + 1);
        out.extend_from_slice(b"\r\n$4\r\nMGET\r\n");
        keys.iter().for_each(|key| push_bulk(out, key));
    }

    fn store(
        &mut self,
        out: &mut Vec<u8>,
        key: &[u8],
        store: Store,
        value: impl FnOnce(&mut Vec<u8>),
    ) {
        let absent = store.condition == Condition::IfAbsent;
        debug_assert!(
            !matches!(store.condition, Condition::Token(_)),
            "the plan refuses cas for RESP"
        );
        let arguments = 3 + if store.ttl_s > 0 { 2 } else { 0 } + u64::from(absent);
        out.push(b'*');
        push_number(out, arguments);
        out.extend_from_slice(b"\r\n$3\r\nSET\r\n");
        push_bulk(out, key);
        out.push(b'$');
        push_number(out, store.len as u64);
        out.extend_from_slice(b"\r\n");
        value(out);
        out.extend_from_slice(b"\r\n");
        if store.ttl_s > 0 {
            out.extend_from_slice(b"$2\r\nEX\r\n");
            push_bulk(out, itoa::Buffer::new().format(store.ttl_s).as_bytes());
        }
        if absent {
            out.extend_from_slice(b"$2\r\nNX\r\n");
        }
    }

    fn delete(&mut self, out: &mut Vec<u8>, key: &[u8]) {
        out.extend_from_slice(b"*2\r\n$3\r\nDEL\r\n");
        push_bulk(out, key);
    }

    fn incr(&mut self, out: &mut Vec<u8>, key: &[u8]) {
        out.extend_from_slice(b"*2\r\n$4\r\nINCR\r\n");
        push_bulk(out, key);
    }

    fn touch(&mut self, out: &mut Vec<u8>, key: &[u8], ttl_s: u32) {
        out.extend_from_slice(b"*3\r\n$6\r\nEXPIRE\r\n");
        push_bulk(out, key);
        push_bulk(out, itoa::Buffer::new().format(ttl_s).as_bytes());
    }

    fn ping(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
    }

    fn command(&mut self, out: &mut Vec<u8>, arguments: &Keys) {
        out.push(b'*');
        push_number(out, arguments.len() as u64);
        out.extend_from_slice(b"\r\n");
        arguments.iter().for_each(|argument| push_bulk(out, argument));
    }

    fn step(&mut self, bytes: &[u8], expect: Expect) -> Result<Step, Garbage> {
        match self.at {
            At::ValueEnd { place, count } => {
                let Some(used) = value_end(bytes)? else { return Ok(Step::More) };
                if place == count {
                    self.at = At::Start;
                    return Ok(Step::Done { used, outcome: Outcome::Ok });
                }
                self.elements(bytes, used, place, count)
            }
            At::Start => self.start(bytes, expect),
        }
    }
}

impl<const THREE: bool> Resp<THREE> {
    fn start(&mut self, bytes: &[u8], expect: Expect) -> Result<Step, Garbage> {
        let Some(&kind) = bytes.first() else { return Ok(Step::More) };
        if matches!(expect, Expect::Any | Expect::Hello) && kind != b'-' {
            return any(bytes, expect);
        }
        let Some((text, used)) = line(bytes)? else { return Ok(Step::More) };
        let rest = &text[1..];
        let done = |outcome| Ok(Step::Done { used, outcome });
        match (kind, expect) {
            (b'-', _) => done(Outcome::Error(1..text.len())),
            (b'$', Expect::Get) if rest == b"-1" => done(Outcome::Miss),
            (b'_', Expect::Get) if THREE && rest.is_empty() => done(Outcome::Miss),
            (b'$', Expect::Get) => {
                self.at = At::ValueEnd { place: 1, count: 1 };
                Ok(value(used, length(rest)?, 0))
            }
            (b'+', Expect::Store | Expect::Login) if rest == b"OK" => done(Outcome::Ok),
            // SET with NX whose condition failed.
            (b'$', Expect::Store) if rest == b"-1" => done(Outcome::NotStored),
            (b'_', Expect::Store) if THREE && rest.is_empty() => done(Outcome::NotStored),
            (b'+', Expect::Ping) if rest == b"PONG" => done(Outcome::Ok),
            (b':', Expect::Delete | Expect::Touch) if rest == b"1" => done(Outcome::Ok),
            (b':', Expect::Delete | Expect::Touch) if rest == b"0" => done(Outcome::Miss),
            (b':', Expect::Incr) if number(rest).is_some_and(|n| n > 0) => done(Outcome::Ok),
            (b'*', Expect::GetMany) => {
                let count = length(rest)?;
                if count == 0 {
                    return Err(unexpected(bytes, expect));
                }
                self.elements(bytes, used, 0, count)
            }
            _ => Err(unexpected(bytes, expect)),
        }
    }

    /// The elements behind `skip` from `place` on: absent ones are passed over until a value begins or the
    /// array ends. Until then nothing was consumed and the state stays.
    fn elements(
        &mut self,
        bytes: &[u8],
        mut skip: usize,
        mut place: usize,
        count: usize,
    ) -> Result<Step, Garbage> {
        while place < count {
            let Some((text, used)) = line(&bytes[skip..])? else { return Ok(Step::More) };
            skip += used;
            match text {
                b"$-1" => place += 1,
                b"_" if THREE => place += 1,
                [b'$', rest @ ..] => {
                    let len = length(rest)?;
                    self.at = At::ValueEnd { place: place + 1, count };
                    return Ok(value(skip, len, place));
                }
                _ => return Err(unexpected(text, Expect::GetMany)),
            }
        }
        self.at = At::Start;
        Ok(Step::Done { used: skip, outcome: Outcome::Ok })
    }
}

fn value(skip: usize, len: usize, place: usize) -> Step {
    Step::Value { skip, len, key: None, place: Some(place), flags: None, token: 0 }
}

/// A whole reply of any type, read over without keeping it.
fn any(bytes: &[u8], expect: Expect) -> Result<Step, Garbage> {
    let mut used = 0;
    // Replies still to be read over at each level.
    let mut open = vec![1u64];
    while let Some(left) = open.last_mut() {
        if *left == 0 {
            open.pop();
            continue;
        }
        *left -= 1;
        let Some((text, taken)) = line(&bytes[used..])? else { return Ok(Step::More) };
        used += taken;
        let (kind, rest) = text.split_first().ok_or_else(|| unexpected(bytes, expect))?;
        let nested = match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => 0,
            _ if rest == b"-1" => 0,
            b'$' | b'=' | b'!' => {
                let end = used + length(rest)?;
                let Some(tail) = bytes.get(end..) else { return Ok(Step::More) };
                let Some(taken) = value_end(tail)? else { return Ok(Step::More) };
                used = end + taken;
                0
            }
            b'*' | b'~' | b'>' => length(rest)? as u64,
            b'%' => 2 * length(rest)? as u64,
            _ => return Err(unexpected(text, expect)),
        };
        if nested > 0 {
            if open.len() == DEPTH_MAX {
                return Err(Garbage::Length { text: format!("nesting of more than {DEPTH_MAX}") });
            }
            open.push(nested);
        }
    }
    let reply = &bytes[..used];
    if expect == Expect::Hello && !announces_three(reply) {
        return Err(Garbage::Unexpected { text: excerpt(reply), expect });
    }
    let null = matches!(reply, b"$-1\r\n" | b"*-1\r\n" | b"_\r\n");
    Ok(Step::Done { used, outcome: if null { Outcome::Miss } else { Outcome::Ok } })
}

/// Whether a reply to `HELLO 3` says that RESP3 is spoken from now on.
fn announces_three(reply: &[u8]) -> bool {
    const PROTO: &[u8] = b"\r\nproto\r\n:3\r\n";
    reply[0] == b'%' && memchr::memmem::find(reply, PROTO).is_some()
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    type Two = Resp<false>;
    type Three = Resp<true>;

    #[test]
    fn requests_are_arrays_of_bulk_strings() {
        let mut codec = Two::new();
        let mut out = Vec::new();
        codec.get(&mut out, b"k1", false);
        let store = |condition, ttl_s| Store { len: 2, flags: 0, ttl_s, condition };
        codec.store(&mut out, b"k", store(Condition::Always, 0), |o| o.extend(b"vv"));
        codec.store(&mut out, b"k", store(Condition::IfAbsent, 60), |o| o.extend(b"vv"));
        codec.get_many(&mut out, &keys(&[b"a", b"bb"]));
        codec.touch(&mut out, b"k", 9);
        assert_eq!(
            out.escape_ascii().to_string().replace("\\r\\n", " "),
            "*2 $3 GET $2 k1 *3 $3 SET $1 k $2 vv *6 $3 SET $1 k $2 vv $2 EX $2 60 $2 NX \
             *3 $4 MGET $1 a $2 bb *3 $6 EXPIRE $1 k $1 9 "
        );
    }

    #[test]
    fn replies_split_at_every_byte_read_the_same() {
        assert_eq!(reply::<Two>(b"$5\r\nhello\r\n", Expect::Get).values[0].0, b"hello");
        assert_eq!(reply::<Two>(b"$0\r\n\r\n", Expect::Get).values[0].0, b"");
        assert_eq!(reply::<Two>(b"$-1\r\n", Expect::Get).outcome, Some(Outcome::Miss));
        assert_eq!(reply::<Three>(b"_\r\n", Expect::Get).outcome, Some(Outcome::Miss));
        assert_eq!(reply::<Two>(b"+OK\r\n", Expect::Store).outcome, Some(Outcome::Ok));
        assert_eq!(reply::<Two>(b":0\r\n", Expect::Delete).outcome, Some(Outcome::Miss));
        assert_eq!(reply::<Two>(b":17\r\n", Expect::Incr).outcome, Some(Outcome::Ok));
        let error = reply::<Two>(b"-OOM command not allowed\r\n", Expect::Store);
        assert_eq!(error.words, b"OOM command not allowed");
    }

    #[test]
    fn the_places_of_an_mget_are_kept_over_absent_keys() {
        let read =
            reply::<Two>(b"*5\r\n$-1\r\n$1\r\na\r\n$-1\r\n$2\r\nbb\r\n$-1\r\n", Expect::GetMany);
        let places: Vec<_> = read.values.iter().map(|v| (v.0.clone(), v.1)).collect();
        assert_eq!(places, [(b"a".to_vec(), Some(1)), (b"bb".to_vec(), Some(3))]);
        let read = reply::<Three>(b"*3\r\n_\r\n_\r\n_\r\n", Expect::GetMany);
        assert!(read.values.is_empty() && read.outcome == Some(Outcome::Ok));
    }

    #[test]
    fn templates_take_any_reply_whole() {
        for bytes in [
            &b"*2\r\n*1\r\n:1\r\n$3\r\nabc\r\n"[..],
            b"+x\r\n",
            b":-5\r\n",
            b"*0\r\n",
            b"%1\r\n+a\r\n,1.5\r\n",
            b"#t\r\n",
            b"=5\r\ntxt:a\r\n",
            b"*-1\r\n",
        ] {
            let read = reply::<Three>(bytes, Expect::Any);
            assert!(matches!(read.outcome, Some(Outcome::Ok | Outcome::Miss)));
        }
    }

    #[test]
    fn a_login_is_auth_or_a_part_of_hello() {
        let greeting = |three: bool, username: &str, password: &str| {
            let (username, password) = (username.to_owned(), password.to_owned());
            let login = Arc::new(Login { username, password, ..Login::default() });
            let mut out = Vec::new();
            let expect = if three {
                let mut codec = Three::new();
                codec.login(&login);
                codec.greet(&mut out)
            } else {
                let mut codec = Two::new();
                codec.login(&login);
                codec.greet(&mut out)
            };
            (out.escape_ascii().to_string().replace("\\r\\n", " "), expect)
        };
        assert_eq!(greeting(false, "", ""), (String::new(), None));
        assert_eq!(greeting(false, "", "pw").0, "*2 $4 AUTH $2 pw ");
        assert_eq!(
            greeting(false, "me", "pw"),
            ("*3 $4 AUTH $2 me $2 pw ".into(), Some(Expect::Login))
        );
        let three = greeting(true, "", "pw");
        assert_eq!(
            three,
            ("*5 $5 HELLO $1 3 $4 AUTH $7 default $2 pw ".into(), Some(Expect::Hello))
        );
        assert_eq!(reply::<Two>(b"+OK\r\n", Expect::Login).outcome, Some(Outcome::Ok));
        let refused = reply::<Two>(b"-WRONGPASS no\r\n", Expect::Login);
        assert_eq!(refused.words, b"WRONGPASS no");
    }

    #[test]
    fn hello_is_believed_only_when_it_says_three() {
        let three = b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n";
        assert_eq!(reply::<Three>(three, Expect::Hello).outcome, Some(Outcome::Ok));
        garbage::<Three>(b"%1\r\n$5\r\nproto\r\n:2\r\n", Expect::Hello);
        garbage::<Three>(b"+OK\r\n", Expect::Hello);
    }

    #[test]
    fn garbage_is_named() {
        assert!(garbage::<Two>(b"HTTP/1.1 400 Bad Request\r\n", Expect::Get).contains("HTTP/1.1"));
        assert!(garbage::<Two>(b"$5\r\nhelloXX", Expect::Get).contains("XX"));
        garbage::<Two>(b"$99999999999\r\n", Expect::Get);
        garbage::<Two>(b"$-2\r\n", Expect::Get);
        garbage::<Two>(b"_\r\n", Expect::Get);
        garbage::<Two>(b"+OK\r\n", Expect::Get);
        garbage::<Two>(b":0\r\n", Expect::Incr);
        garbage::<Two>(b"$1\r\na\r\n", Expect::Store);
        garbage::<Two>(b"*1\r\n:5\r\n", Expect::GetMany);
        garbage::<Two>(&vec![b'+'; 70_000], Expect::Get);
        let deep = b"*1\r\n".repeat(50);
        garbage::<Two>(&deep, Expect::Any);
    }
}
