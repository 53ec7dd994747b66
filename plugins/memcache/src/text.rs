//! Text commands as values: one line in, one [`Command`] out.
//!
//! Must hold: every line gives a command or a refusal with memcached's own line; a refusal knows
//! whether it is silent (`noreply`) and how long the data block is that follows it, so that a value
//! is never read as commands. Parsing never touches the store. Called by the session.

use crate::limits::{KEY_LEN_BYTES_MAX, VALUE_LEN_BYTES_WIRE_MAX};
use crate::line::{Split, Words};
use crate::meta::{self, ErrorLine, Meta};
use crate::number::{parse_i32, parse_i64, parse_u32, parse_u64};

/// How a classic storage command stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `set`
    Set,
    /// `add`
    Add,
    /// `replace`
    Replace,
    /// `append`
    Append,
    /// `prepend`
    Prepend,
    /// `cas` and its token
    Cas(u64),
}

/// A classic storage command's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store<'a> {
    /// What to do.
    pub verb: Verb,
    /// The key.
    pub key: &'a [u8],
    /// Client flags.
    pub flags: u32,
    /// Expiry as written.
    pub exptime_s: i64,
    /// Length of the data block without its `\r\n`.
    pub len: u32,
    /// No reply wanted.
    pub noreply: bool,
}

/// Why a line is not obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What to answer.
    pub line: ErrorLine,
    /// Answer nothing.
    pub noreply: bool,
    /// Length of a data block to discard, without its `\r\n`.
    pub body_len: Option<u32>,
}

/// A text command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `get`, `gets` (and the ancient `bget`): the words are the keys, all of them short enough.
    Get {
        /// The rest of the line.
        keys: &'a [u8],
        /// Print CAS tokens.
        with_cas: bool,
    },
    /// `gat`, `gats`.
    GetAndTouch {
        /// The rest of the line.
        keys: &'a [u8],
        /// Print CAS tokens.
        with_cas: bool,
        /// The new expiry as written.
        exptime_s: i64,
    },
    /// `set add replace append prepend cas`.
    Store(Store<'a>),
    /// `delete`.
    Delete {
        /// The key.
        key: &'a [u8],
        /// No reply wanted.
        noreply: bool,
    },
    /// `incr`, `decr`.
    Arithmetic {
        /// The key.
        key: &'a [u8],
        /// By how much.
        delta: u64,
        /// Downwards.
        decrement: bool,
        /// No reply wanted.
        noreply: bool,
    },
    /// `touch`.
    Touch {
        /// The key.
        key: &'a [u8],
        /// The new expiry as written.
        exptime_s: i64,
        /// No reply wanted.
        noreply: bool,
    },
    /// `mg ms md ma me`.
    Meta(Meta<'a>),
    /// `mn`.
    MetaNoop,
    /// `flush_all`.
    FlushAll {
        /// When, as written; 0 or less is now.
        delay_s: i64,
        /// No reply wanted.
        noreply: bool,
    },
    /// `verbosity`.
    Verbosity {
        /// The level asked for.
        level: u32,
        /// No reply wanted.
        noreply: bool,
    },
    /// `version`.
    Version,
    /// `quit`.
    Quit,
    /// `shutdown`, if the mode is one there is.
    Shutdown {
        /// `None`: an unknown mode.
        graceful: Option<bool>,
    },
    /// `stats` and its arguments.
    Stats(&'a [u8]),
    /// `watch` and its arguments.
    Watch(&'a [u8]),
    /// `lru_crawler` and its arguments.
    LruCrawler(&'a [u8]),
    /// `cache_memlimit`, in mebibytes.
    CacheMemlimit {
        /// The new limit.
        mib: u32,
        /// No reply wanted.
        noreply: bool,
    },
    /// Refused.
    Refused(Refused),
}

const ERROR: Command<'_> = refused("ERROR");
const BAD_LINE: ErrorLine = "CLIENT_ERROR bad command line format";

const fn refused(line: ErrorLine) -> Command<'static> {
    Command::Refused(Refused { line, noreply: false, body_len: None })
}

const fn refused_quietly(line: ErrorLine, noreply: bool) -> Command<'static> {
    Command::Refused(Refused { line, noreply, body_len: None })
}

/// Words a command without a list can have; one more is an error for all of them.
const WORDS_MAX: usize = 8;

/// Parses one line without its end.
pub fn parse(line: &[u8]) -> Command<'_> {
    let mut words = Words::new(line);
    let Some(command) = words.next() else { return ERROR };
    let rest = words.rest();
    match command {
        b"get" | b"bget" => get(rest, false),
        b"gets" => get(rest, true),
        [b'm', letter] => match meta::parse(*letter, rest) {
            Some(Ok(meta)) => Command::Meta(meta),
            Some(Err(r)) => {
                Command::Refused(Refused { line: r.line, noreply: false, body_len: r.body_len })
            }
            None if *letter == b'n' => Command::MetaNoop,
            None => ERROR,
        },
        b"set" => store(Verb::Set, line),
        b"add" => store(Verb::Add, line),
        b"replace" => store(Verb::Replace, line),
        b"append" => store(Verb::Append, line),
        b"prepend" => store(Verb::Prepend, line),
        b"cas" => store(Verb::Cas(0), line),
        b"delete" => delete(line),
        b"incr" => arithmetic(line, false),
        b"decr" => arithmetic(line, true),
        b"touch" => touch(line),
        b"gat" => get_and_touch(words, false),
        b"gats" => get_and_touch(words, true),
        b"flush_all" => flush_all(line),
        b"verbosity" => verbosity(line),
        b"version" => Command::Version,
        b"quit" => Command::Quit,
        b"shutdown" => shutdown(rest),
        b"stats" => Command::Stats(rest),
        b"watch" => Command::Watch(rest),
        b"lru_crawler" => Command::LruCrawler(rest),
        b"cache_memlimit" => cache_memlimit(line),
        b"slabs" => slabs(line),
        _ => ERROR,
    }
}

/// Whether every word is a key short enough, and there is one.
fn keys_fit(keys: &[u8]) -> Option<bool> {
    let mut any = false;
    for key in Words::new(keys) {
        if key.len() > KEY_LEN_BYTES_MAX {
            return Some(false);
        }
        any = true;
    }
    any.then_some(true)
}

fn get(keys: &[u8], with_cas: bool) -> Command<'_> {
    match keys_fit(keys) {
        None => ERROR,
        Some(false) => refused(BAD_LINE),
        Some(true) => Command::Get { keys, with_cas },
    }
}

fn get_and_touch(mut words: Words<'_>, with_cas: bool) -> Command<'_> {
    let Some(exptime) = words.next() else { return ERROR };
    let Some(exptime_s) = parse_i64(exptime) else {
        return refused("CLIENT_ERROR invalid exptime argument");
    };
    let keys = words.rest();
    match keys_fit(keys) {
        Some(false) => refused(BAD_LINE),
        // Without a key memcached answers an empty list.
        None | Some(true) => Command::GetAndTouch { keys, with_cas, exptime_s },
    }
}

/// The words after the command, if their number is within the bounds, and whether the last is `noreply`.
fn args<'s, 'a>(
    split: &'s Split<'a, WORDS_MAX>,
    min: usize,
    max: usize,
) -> Option<(&'s [&'a [u8]], bool)> {
    let words = split.get().get(1..)?;
    let fits = !split.more && (min..=max).contains(&words.len());
    fits.then(|| (words, words.last().is_some_and(|w| *w == b"noreply")))
}

fn store(verb: Verb, line: &[u8]) -> Command<'_> {
    let split = Split::new(line);
    let least = if verb == Verb::Cas(0) { 5 } else { 4 };
    let Some((words, noreply)) = args(&split, least, least + 1) else { return ERROR };
    let len = parse_i32(words[3])
        .and_then(|n| u32::try_from(n).ok())
        .filter(|n| u64::from(*n) <= VALUE_LEN_BYTES_WIRE_MAX);
    let bad = Command::Refused(Refused { line: BAD_LINE, noreply, body_len: len });
    let (Some(flags), Some(exptime_s), Some(len)) = (parse_u32(words[1]), parse_i64(words[2]), len)
    else {
        return bad;
    };
    let verb = match verb {
        Verb::Cas(_) => match parse_u64(words[4]) {
            Some(token) => Verb::Cas(token),
            None => return bad,
        },
        verb => verb,
    };
    if words[0].len() > KEY_LEN_BYTES_MAX {
        return bad;
    }
    Command::Store(Store { verb, key: words[0], flags, exptime_s, len, noreply })
}

fn delete(line: &[u8]) -> Command<'_> {
    let split = Split::new(line);
    let Some((words, noreply)) = args(&split, 1, 3) else { return ERROR };
    // An old "time" argument is accepted if it is 0.
    let valid = match words {
        [_] => true,
        [_, last] => noreply || *last == b"0",
        [_, time, _] => noreply && *time == b"0",
        _ => false,
    };
    let noreply = noreply && words.len() > 1;
    if !valid {
        let line = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]";
        return refused_quietly(line, noreply);
    }
    if words[0].len() > KEY_LEN_BYTES_MAX {
        return refused_quietly(BAD_LINE, noreply);
    }
    Command::Delete { key: words[0], noreply }
}

fn arithmetic(line: &[u8], decrement: bool) -> Command<'_> {
    let split = Split::new(line);
    let Some((words, noreply)) = args(&split, 2, 3) else { return ERROR };
    if words[0].len() > KEY_LEN_BYTES_MAX {
        return refused_quietly(BAD_LINE, noreply);
    }
    let Some(delta) = parse_u64(words[1]) else {
        return refused_quietly("CLIENT_ERROR invalid numeric delta argument", noreply);
    };
    Command::Arithmetic { key: words[0], delta, decrement, noreply }
}

fn touch(line: &[u8]) -> Command<'_> {
    let split = Split::new(line);
    let Some((words, noreply)) = args(&split, 2, 3) else { return ERROR };
    if words[0].len() > KEY_LEN_BYTES_MAX {
        return refused_quietly(BAD_LINE, noreply);
    }
    let Some(exptime_s) = parse_i64(words[1]) else {
        return refused_quietly("CLIENT_ERROR invalid exptime argument", noreply);
    };
    Command::Touch { key: words[0], exptime_s, noreply }
}

fn flush_all(line: &[u8]) -> Command<'_> {
    let split = Split::new(line);
    let Some((words, noreply)) = args(&split, 0, 2) else { return ERROR };
    let delay_s = match words {
        [] => Some(0),
        [_] if noreply => Some(0),
        [delay, ..] => parse_i64(delay),
    };
    match delay_s {
        Some(delay_s) => Command::FlushAll { delay_s, noreply },
        None => refused_quietly("CLIENT_ERROR invalid exptime argument", noreply),
    }
}

fn verbosity(line: &[u8]) -> Command<'_> {
    let split = Split::new(line);
    let Some((words, noreply)) = args(&split, 1, 2) else { return ERROR };
    match parse_u32(words[0]) {
        Some(level) => Command::Verbosity { level, noreply },
        None => refused_quietly(BAD_LINE, noreply),
    }
}

fn cache_memlimit(line: &[u8]) -> Command<'_> {
    let split = Split::new(line);
    let Some((words, noreply)) = args(&split, 1, 2) else { return ERROR };
    match parse_u32(words[0]) {
        None => refused_quietly("ERROR", noreply),
        Some(0..8) => {
            refused_quietly("MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m", noreply)
        }
        Some(mib) if mib > 1_000_000_000 => {
            refused_quietly("MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes", noreply)
        }
        Some(mib) => Command::CacheMemlimit { mib, noreply },
    }
}

/// There are no slab classes a client could move pages between.
fn slabs(line: &[u8]) -> Command<'_> {
    match Split::<WORDS_MAX>::new(line).get() {
        [_, b"reassign", _, _] => refused("CLIENT_ERROR slab reassignment disabled"),
        _ => ERROR,
    }
}

fn shutdown(rest: &[u8]) -> Command<'_> {
    let graceful = match Split::<2>::new(rest).get() {
        [] => Some(false),
        [b"graceful"] => Some(true),
        _ => None,
    };
    Command::Shutdown { graceful }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(line: &[u8]) -> Store<'_> {
        match parse(line) {
            Command::Store(s) => s,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(line: &[u8]) -> Refused {
        match parse(line) {
            Command::Refused(r) => r,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn storage_lines() {
        let s = stored(b"set key 5 -1 10 noreply");
        assert_eq!(
            (s.verb, s.key, s.flags, s.exptime_s, s.len, s.noreply),
            (Verb::Set, &b"key"[..], 5, -1, 10, true)
        );
        assert_eq!(stored(b"cas k 0 0 1 77").verb, Verb::Cas(77));
        assert!(stored(b"cas k 0 0 1 77 noreply").noreply);
        assert!(!stored(b"  add  k 4294967295 0 0 junk ").noreply);
        assert_eq!(stored(b"replace k 0 0 1").verb, Verb::Replace);
        assert_eq!(stored(b"append k 0 0 1").verb, Verb::Append);
        assert_eq!(stored(b"prepend k 0 0 1").verb, Verb::Prepend);
    }

    #[test]
    fn a_refused_header_still_tells_the_length_of_its_body() {
        for (line, body_len, noreply) in [
            (&b"set k abc 0 7"[..], Some(7), false),
            (b"set k 0 abc 7 noreply", Some(7), true),
            (b"set k 4294967296 0 7", Some(7), false),
            (b"cas k 0 0 7 abc", Some(7), false),
            (b"set k 0 0 -7", None, false),
            (b"set k 0 0 abc", None, false),
            (b"set k 0 0 2147483647", None, false),
            (b"set k 0 0 99999999999", None, false),
        ] {
            assert_eq!(refusal(line), Refused { line: BAD_LINE, noreply, body_len }, "{line:?}");
        }
        let long = [b"set ", &[b'x'; 251][..], b" 0 0 7"].concat();
        assert_eq!(refusal(&long).body_len, Some(7));
        let fits = [b"set ", &[b'x'; 250][..], b" 0 0 7"].concat();
        assert_eq!(stored(&fits).key.len(), 250);
    }

    #[test]
    fn delete_takes_an_old_zero() {
        for (line, noreply) in [
            (&b"delete k"[..], false),
            (b"delete k 0", false),
            (b"delete k noreply", true),
            (b"delete k 0 noreply", true),
        ] {
            assert_eq!(parse(line), Command::Delete { key: b"k", noreply }, "{line:?}");
        }
        for (line, noreply) in
            [(&b"delete k 1"[..], false), (b"delete k 1 noreply", true), (b"delete k 0 1", false)]
        {
            assert_eq!(refusal(line).noreply, noreply, "{line:?}");
        }
        // A key of that name is a key.
        assert_eq!(parse(b"delete noreply"), Command::Delete { key: b"noreply", noreply: false });
    }

    #[test]
    fn what_is_no_command_is_an_error() {
        for line in [
            &b""[..],
            b" ",
            b"\r",
            b"x",
            b"GET a",
            b"get",
            b"get  ",
            b"gets",
            b"gat",
            b"set",
            b"set k 0 0",
            b"set k 0 0 1 2 3",
            b"cas k 0 0 1",
            b"incr k",
            b"incr k 1 2 3",
            b"touch k",
            b"delete",
            b"delete k 0 1 2",
            b"verbosity",
            b"verbosity 1 2 3",
            b"flush_all 0 0 0",
            b"mz",
            b"m",
            b"quitt",
            b"slabs",
            b"slabs automove 1",
            b"lru tune 1 2 3 4",
            b"get\ta",
        ] {
            assert_eq!(
                refusal(line),
                Refused { line: "ERROR", noreply: false, body_len: None },
                "{line:?}"
            );
        }
    }

    #[test]
    fn other_lines() {
        assert_eq!(
            parse(b"gat 10 a b"),
            Command::GetAndTouch { keys: b" a b", with_cas: false, exptime_s: 10 }
        );
        assert_eq!(refusal(b"gat x a").line, "CLIENT_ERROR invalid exptime argument");
        assert_eq!(parse(b"flush_all"), Command::FlushAll { delay_s: 0, noreply: false });
        assert_eq!(parse(b"flush_all noreply"), Command::FlushAll { delay_s: 0, noreply: true });
        assert_eq!(parse(b"flush_all 5 noreply"), Command::FlushAll { delay_s: 5, noreply: true });
        assert_eq!(parse(b"flush_all -1 x"), Command::FlushAll { delay_s: -1, noreply: false });
        assert_eq!(refusal(b"flush_all x").line, "CLIENT_ERROR invalid exptime argument");
        assert_eq!(
            parse(b"incr k 18446744073709551615 noreply"),
            Command::Arithmetic { key: b"k", delta: u64::MAX, decrement: false, noreply: true }
        );
        assert_eq!(refusal(b"decr k -1").line, "CLIENT_ERROR invalid numeric delta argument");
        assert_eq!(refusal(b"touch k x").line, "CLIENT_ERROR invalid exptime argument");
        assert_eq!(parse(b"mn"), Command::MetaNoop);
        assert_eq!(parse(b"shutdown graceful"), Command::Shutdown { graceful: Some(true) });
        assert_eq!(parse(b"shutdown x"), Command::Shutdown { graceful: None });
        assert_eq!(
            refusal(b"cache_memlimit 1").line,
            "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m"
        );
    }

    proptest! {
        #[test]
        fn random_lines_never_panic(line: Vec<u8>) {
            let _ = parse(&line);
        }

        #[test]
        fn random_words_never_panic(words in proptest::collection::vec("(get|set|cas|incr|ms|mg|delete|touch|gat|noreply|-?[0-9]{1,12}|[a-z]{0,4})", 0..9)) {
            let _ = parse(words.join(" ").as_bytes());
        }
    }
}
