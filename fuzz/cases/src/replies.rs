//! N commands are N replies, in order, whatever their arguments are and wherever the stream is cut.
//!
//! Every command is well framed, so that none may close the connection; after the last one stands one
//! whose reply is known, and nothing may come behind it.

use crate::sessions::TINY;
use arbitrary::{Arbitrary, Unstructured};
use crucible_memcache::Memcache;
use crucible_plugin_api::Protocol;
use crucible_plugin_testkit::TestHost;
use crucible_resp::Resp;
use crucible_segcache::Segcache;

/// Sends the commands cut as told; gives everything that came back.
fn replies<P: Protocol>(commands: &[Vec<u8>], cuts: &[u8]) -> Vec<u8> {
    let host = TestHost::new();
    let store = host.backend::<Segcache>(TINY);
    let conn = host.connect(host.protocol::<P>("", store));
    let stream = commands.concat();
    let mut rest = stream.as_slice();
    for cut in cuts.iter().take(64) {
        let (now, later) = rest.split_at(usize::from(*cut).min(rest.len()));
        conn.queue(now);
        if cut % 3 != 0 {
            host.sweep();
        }
        rest = later;
    }
    conn.send(rest);
    for _ in 0..commands.len() {
        // Replies may wait for the next sweep when there are many.
        host.sweep();
    }
    let out = conn.take_output();
    assert!(!conn.is_closed(), "closed after {commands:?}");
    conn.close();
    drop(conn);
    host.finish();
    out
}

// ---- RESP ----

/// Commands that answer once, whatever they are given, and wait for nothing.
const RESP_NAMES: [&str; 44] = [
    "GET",
    "SET",
    "GETSET",
    "GETDEL",
    "GETEX",
    "SETEX",
    "PSETEX",
    "SETNX",
    "MGET",
    "MSET",
    "MSETNX",
    "INCR",
    "DECR",
    "INCRBY",
    "DECRBY",
    "INCRBYFLOAT",
    "APPEND",
    "STRLEN",
    "GETRANGE",
    "SETRANGE",
    "DEL",
    "UNLINK",
    "EXISTS",
    "TYPE",
    "TTL",
    "PTTL",
    "EXPIRE",
    "PEXPIRE",
    "EXPIREAT",
    "PERSIST",
    "EXPIRETIME",
    "RENAME",
    "COPY",
    "TOUCH",
    "SCAN",
    "KEYS",
    "RANDOMKEY",
    "DBSIZE",
    "OBJECT",
    "GETBIT",
    "SETBIT",
    "BITCOUNT",
    "HGET",
    "nosuchcommand",
];

#[derive(Arbitrary, Debug)]
enum Word {
    Key(u8),
    Number(i64),
    Small(i8),
    Option(u8),
    Text(Vec<u8>),
    Long(u16),
}

impl Word {
    fn bytes(&self) -> Vec<u8> {
        const OPTIONS: [&str; 14] = [
            "EX", "PX", "NX", "XX", "GET", "KEEPTTL", "EXAT", "MATCH", "COUNT", "*", "REPLACE",
            "DB", "ENCODING", "PERSIST",
        ];
        match self {
            Self::Key(i) => format!("key{}", i % 8).into_bytes(),
            Self::Number(n) => n.to_string().into_bytes(),
            Self::Small(n) => n.to_string().into_bytes(),
            Self::Option(i) => OPTIONS[usize::from(*i) % OPTIONS.len()].as_bytes().to_vec(),
            Self::Text(bytes) => bytes.clone(),
            Self::Long(len) => vec![b'l'; usize::from(*len)],
        }
    }
}

#[derive(Arbitrary, Debug)]
struct RespCommand {
    name: u8,
    words: Vec<Word>,
}

impl RespCommand {
    fn bytes(&self) -> Vec<u8> {
        let name = RESP_NAMES[usize::from(self.name) % RESP_NAMES.len()];
        let mut out = format!("*{}\r\n", 1 + self.words.len().min(8)).into_bytes();
        let words = self.words.iter().take(8).map(Word::bytes);
        for word in std::iter::once(name.as_bytes().to_vec()).chain(words) {
            out.extend(format!("${}\r\n", word.len()).into_bytes());
            out.extend(word);
            out.extend(b"\r\n");
        }
        out
    }
}

pub(crate) fn resp(bytes: &[u8]) {
    let Ok((given, cuts)) =
        <(Vec<RespCommand>, Vec<u8>)>::arbitrary_take_rest(Unstructured::new(bytes))
    else {
        return;
    };
    let mut commands: Vec<Vec<u8>> = given.iter().take(40).map(RespCommand::bytes).collect();
    commands.push(b"*2\r\n$4\r\nECHO\r\n$8\r\nthe last\r\n".to_vec());
    let out = replies::<Resp>(&commands, &cuts);
    let mut rest = out.as_slice();
    for at in 1..commands.len() {
        rest = resp_reply(rest).unwrap_or_else(|| {
            panic!("reply {at} of {} to {given:?} is missing in {out:?}", commands.len())
        });
    }
    assert_eq!(rest, b"$8\r\nthe last\r\n", "after the replies to {given:?}");
}

/// What follows one RESP2 reply.
fn resp_reply(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(2).position(|w| w == b"\r\n")?;
    let (line, rest) = (&bytes[1..end], &bytes[end + 2..]);
    let number = || std::str::from_utf8(line).ok()?.parse::<i64>().ok();
    match bytes[0] {
        b'+' | b'-' | b':' => Some(rest),
        b'$' => match number()? {
            -1 => Some(rest),
            n => rest.get(usize::try_from(n).ok()?..)?.strip_prefix(b"\r\n"),
        },
        b'*' => (0..number()?.max(0)).try_fold(rest, |rest, _| resp_reply(rest)),
        _ => None,
    }
}

// ---- memcache ----

#[derive(Arbitrary, Debug)]
enum Line {
    /// Verb, key, flags, exptime, value.
    Store(u8, u8, u32, i32, Vec<u8>),
    Cas(u8, u64, Vec<u8>),
    Get(u8, u8),
    Touch(u8, i32),
    Gat(i32, u8),
    Arith(bool, u8, u64),
    Delete(u8),
    MetaGet(u8, Vec<u8>),
    MetaSet(u8, Vec<u8>, Vec<u8>),
    MetaDelete(u8, Vec<u8>),
    MetaArith(u8, Vec<u8>),
    Version,
    FlushAll(Option<u8>),
    /// A name that no command has.
    Unknown(u8),
}

/// Flags of meta commands that keep the reply: no `q`.
fn flags(bytes: &[u8], of: &[&str]) -> String {
    let mut seen = Vec::new();
    for byte in bytes.iter().take(6) {
        let flag = of[usize::from(*byte) % of.len()];
        // The same flag twice is an error of its own, also answered.
        if !seen.contains(&flag) || byte % 7 == 0 {
            seen.push(flag);
        }
    }
    seen.iter().map(|flag| format!(" {flag}")).collect()
}

fn block(value: &[u8]) -> Vec<u8> {
    [value, b"\r\n"].concat()
}

impl Line {
    fn bytes(&self) -> Vec<u8> {
        let key = |i: &u8| format!("key{}", i % 8);
        let text = |line: String| format!("{line}\r\n").into_bytes();
        match self {
            Self::Store(verb, k, flags, exptime, value) => {
                let verb = ["set", "add", "replace", "append", "prepend"][usize::from(*verb) % 5];
                let head = format!("{verb} {} {flags} {exptime} {}", key(k), value.len());
                [text(head), block(value)].concat()
            }
            Self::Cas(k, token, value) => {
                [text(format!("cas {} 0 0 {} {token}", key(k), value.len())), block(value)].concat()
            }
            Self::Get(k, n) => {
                let keys: Vec<String> = (0..=n % 4).map(|i| key(&k.wrapping_add(i))).collect();
                text(format!("{} {}", ["get", "gets"][usize::from(*n) % 2], keys.join(" ")))
            }
            Self::Touch(k, exptime) => text(format!("touch {} {exptime}", key(k))),
            Self::Gat(exptime, k) => text(format!("gat {exptime} {}", key(k))),
            Self::Arith(up, k, n) => {
                text(format!("{} {} {n}", if *up { "incr" } else { "decr" }, key(k)))
            }
            Self::Delete(k) => text(format!("delete {}", key(k))),
            Self::MetaGet(k, f) => {
                let f =
                    flags(f, &["v", "f", "c", "t", "s", "k", "h", "l", "N30", "T60", "O12", "R5"]);
                text(format!("mg {}{f}", key(k)))
            }
            Self::MetaSet(k, f, value) => {
                let f = flags(f, &["T30", "F7", "c", "k", "MS", "MA", "ME", "MR", "C5", "I", "O9"]);
                [text(format!("ms {} {}{f}", key(k), value.len())), block(value)].concat()
            }
            Self::MetaDelete(k, f) => {
                text(format!("md {}{}", key(k), flags(f, &["k", "I", "T30", "C5", "x", "O3"])))
            }
            Self::MetaArith(k, f) => {
                let f = flags(f, &["N0", "J5", "D3", "MD", "MI", "v", "t", "c", "k", "T10"]);
                text(format!("ma {}{f}", key(k)))
            }
            Self::Version => text("version".into()),
            Self::FlushAll(delay) => {
                text(delay.map_or("flush_all".into(), |delay| format!("flush_all {delay}")))
            }
            Self::Unknown(n) => text(format!("bogus{n}")),
        }
    }
}

pub(crate) fn memcache(bytes: &[u8]) {
    let Ok((given, cuts)) = <(Vec<Line>, Vec<u8>)>::arbitrary_take_rest(Unstructured::new(bytes))
    else {
        return;
    };
    let mut commands: Vec<Vec<u8>> = given.iter().take(40).map(Line::bytes).collect();
    commands.push(b"mn\r\n".to_vec());
    let out = replies::<Memcache>(&commands, &cuts);
    let mut rest = out.as_slice();
    for at in 1..commands.len() {
        rest = memcache_reply(rest).unwrap_or_else(|| {
            panic!("reply {at} of {} to {given:?} is missing in {out:?}", commands.len())
        });
    }
    assert_eq!(rest, b"MN\r\n", "after the replies to {given:?}");
}

/// What follows one text or meta reply.
fn memcache_reply(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(2).position(|w| w == b"\r\n")?;
    let (line, rest) = (std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 2..]);
    let mut words = line.split(' ');
    let skip = |len: &str| rest.get(len.parse().ok()?..)?.strip_prefix(b"\r\n");
    match words.next()? {
        // A text get goes on until END.
        "VALUE" => memcache_reply(skip(words.nth(2)?)?),
        "VA" => skip(words.next()?),
        "MN" => None,
        _ => Some(rest),
    }
}
