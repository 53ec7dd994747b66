//! Meta commands as values: `mg ms md ma me` and their flags.
//!
//! Must hold: a flag is one character with an optional token and appears once; what a reply returns
//! keeps the order of the request; an error line is memcached's own. Parsing never touches the
//! store. Called by [`crate::text`]; obeyed by the session, answered by [`crate::meta_reply`].

use crate::limits::{
    KEY_LEN_BYTES_MAX, META_WORDS_MAX, OPAQUE_LEN_BYTES_MAX, VALUE_LEN_BYTES_WIRE_MAX,
};
use crate::line::Words;
use crate::number::{parse_i32, parse_i64, parse_u32, parse_u64};

/// One thing a reply can return for a flag of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Return {
    /// `s`: the value's length.
    Size = 1,
    /// `t`, seen before any flag that sets the expiry: what was left before this command.
    TtlBefore,
    /// `t`, seen after: what is left now.
    TtlAfter,
    /// `c`: the CAS token.
    Cas,
    /// `f`: the client flags.
    ClientFlags,
    /// `l`: seconds since the last access.
    LastAccess,
    /// `h`: fetched before.
    Hit,
    /// `O`: the opaque token.
    Opaque,
    /// `k`: the key.
    Key,
}

const RETURNS: [Return; 9] = [
    Return::Size,
    Return::TtlBefore,
    Return::TtlAfter,
    Return::Cas,
    Return::ClientFlags,
    Return::LastAccess,
    Return::Hit,
    Return::Opaque,
    Return::Key,
];

/// What to return, in order: a nibble each, first one lowest. At most 8, as each flag comes once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Returns(u32);

impl Returns {
    fn push(&mut self, r: Return, count: &mut u32) {
        debug_assert!(*count < 8, "flags that return something come once each");
        self.0 |= (r as u32) << (4 * *count);
        *count += 1;
    }

    /// In the order of the request.
    pub fn iter(self) -> impl Iterator<Item = Return> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let code = rest & 15;
            rest >>= 4;
            RETURNS.get((code as usize).wrapping_sub(1)).copied()
        })
    }

    /// Whether nothing is returned.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The flags of one meta command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags<'a> {
    /// `b`: the key is base64.
    pub base64: bool,
    /// `q`: leave the ordinary reply out.
    pub quiet: bool,
    /// `u`: do not count as an access.
    pub no_bump: bool,
    /// `v`: return the value.
    pub value: bool,
    /// `I`: mark stale (md), or accept an older CAS as stale (ms).
    pub invalidate: bool,
    /// `x`: drop the value and the client flags, keep the item (md).
    pub remove_value: bool,
    /// `h` or `l` was asked: needs what the item was before this access.
    pub wants_history: bool,
    /// `N`: create on a miss, with this time to live.
    pub vivify_s: Option<i64>,
    /// `T`: the new time to live.
    pub ttl_s: Option<i64>,
    /// `T` comes after `N`: on a created item it has the last word.
    pub ttl_after_vivify: bool,
    /// `R`: win when less than this is left.
    pub recache_s: Option<i64>,
    /// `F`: client flags.
    pub client_flags: u32,
    /// `C`: the CAS token to compare.
    pub cas: Option<u64>,
    /// `E`: the CAS token to leave.
    pub new_cas: Option<u64>,
    /// `M`: the mode, if given.
    pub mode: Option<u8>,
    /// `J`: the value of a created counter.
    pub initial: u64,
    /// `D`: the delta of a counter.
    pub delta: Option<u64>,
    /// The opaque token with its `O`, if given.
    pub opaque: Option<&'a [u8]>,
    /// What to return, in order.
    pub returns: Returns,
}

/// Why a meta command is refused: the line to answer.
pub type ErrorLine = &'static str;

const BAD_LINE: ErrorLine = "CLIENT_ERROR bad command line format";
const BAD_TOKEN: ErrorLine = "CLIENT_ERROR bad token in command line format";
const TOO_MANY_MG: ErrorLine = "CLIENT_ERROR options flags are too long";
const TOO_MANY: ErrorLine = "CLIENT_ERROR options flags too long";
const OPAQUE_TOO_LONG: ErrorLine = "CLIENT_ERROR opaque token too long";
const INVALID_OR_DUPLICATE: ErrorLine = "CLIENT_ERROR invalid or duplicate flag";

impl<'a> Flags<'a> {
    /// Parses the words behind the key, of which there may be `words_max`.
    fn parse(words: Words<'a>, words_max: usize, too_many: ErrorLine) -> Result<Self, ErrorLine> {
        let parsed = Self::parse_any(words);
        // Too many words are told before anything else. A line that long is rare, and long.
        if words.rest().len() >= 2 * words_max && words.count() > words_max {
            return Err(too_many);
        }
        parsed
    }

    #[inline]
    fn parse_any(words: Words<'a>) -> Result<Self, ErrorLine> {
        let mut f = Self::default();
        let mut seen = 0u128;
        let mut returns = 0;
        // A bad token does not end the loop in memcached: a later unknown flag has the last word.
        let mut error = None;
        for word in words {
            let (flag, token) = (word[0], &word[1..]);
            if flag >= 127 || seen >> flag & 1 == 1 {
                return Err("CLIENT_ERROR duplicate flag");
            }
            seen |= 1 << flag;
            let sets_ttl = f.ttl_s.is_some() || f.vivify_s.is_some();
            let mut give = |r| f.returns.push(r, &mut returns);
            match flag {
                b'b' => f.base64 = true,
                b'q' => f.quiet = true,
                b'u' => f.no_bump = true,
                b'v' => f.value = true,
                b'I' => f.invalidate = true,
                b'x' => f.remove_value = true,
                b'P' | b'L' => {} // hints for proxies
                b's' => give(Return::Size),
                b't' => give(if sets_ttl { Return::TtlAfter } else { Return::TtlBefore }),
                b'c' => give(Return::Cas),
                b'f' => give(Return::ClientFlags),
                b'k' => give(Return::Key),
                b'l' | b'h' => {
                    give(if flag == b'l' { Return::LastAccess } else { Return::Hit });
                    f.wants_history = true;
                }
                b'O' => {
                    if word.len() > OPAQUE_LEN_BYTES_MAX {
                        error = error.or(Some(OPAQUE_TOO_LONG));
                    } else {
                        give(Return::Opaque);
                        f.opaque = Some(word);
                    }
                }
                b'N' => f.vivify_s = number(parse_i64(token), BAD_TOKEN, &mut error),
                b'T' => {
                    f.ttl_after_vivify = f.vivify_s.is_some();
                    f.ttl_s = number(parse_i64(token), BAD_TOKEN, &mut error);
                }
                b'R' => f.recache_s = number(parse_i64(token), BAD_TOKEN, &mut error),
                b'C' => f.cas = number(parse_u64(token), BAD_TOKEN, &mut error),
                b'E' => f.new_cas = number(parse_u64(token), BAD_TOKEN, &mut error),
                b'F' => {
                    f.client_flags = number(parse_u32(token), BAD_LINE, &mut error).unwrap_or(0)
                }
                b'J' => {
                    let line = "CLIENT_ERROR invalid numeric initial value";
                    f.initial = number(parse_u64(token), line, &mut error).unwrap_or(0);
                }
                b'D' => {
                    f.delta = number(
                        parse_u64(token),
                        "CLIENT_ERROR invalid numeric delta value",
                        &mut error,
                    )
                }
                b'M' => match token {
                    [mode] => f.mode = Some(*mode),
                    _ => error = Some("CLIENT_ERROR incorrect length for M token"),
                },
                _ => return Err("CLIENT_ERROR invalid flag"),
            }
        }
        error.map_or(Ok(f), Err)
    }
}

fn number<T>(n: Option<T>, line: ErrorLine, error: &mut Option<ErrorLine>) -> Option<T> {
    if n.is_none() {
        *error = Some(line);
    }
    n
}

/// How `ms` stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Always.
    #[default]
    Set,
    /// Only over nothing.
    Add,
    /// Only over something.
    Replace,
    /// After the old value.
    Append,
    /// Before the old value.
    Prepend,
}

/// A meta command, its key still as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meta<'a> {
    /// `mg`.
    Get(&'a [u8], Flags<'a>),
    /// `ms`, with the length of the data block.
    Set(&'a [u8], Flags<'a>, Mode, u32),
    /// `md`.
    Delete(&'a [u8], Flags<'a>),
    /// `ma`; `true` decrements.
    Arithmetic(&'a [u8], Flags<'a>, bool),
    /// `me`; `true` if the key is base64.
    Debug(&'a [u8], bool),
}

/// A refusal, and how long the data block is that comes after it all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What to answer.
    pub line: ErrorLine,
    /// Length of a data block to discard, without its `\r\n`.
    pub body_len: Option<u32>,
}

impl From<ErrorLine> for Refusal {
    fn from(line: ErrorLine) -> Self {
        Self { line, body_len: None }
    }
}

/// Parses a command of `m` and this letter; `rest` is the line behind it. `None`: there is no such
/// command.
pub fn parse(letter: u8, rest: &[u8]) -> Option<Result<Meta<'_>, Refusal>> {
    let words = Words::new(rest);
    Some(match letter {
        b'g' => get(words),
        b's' => set(words),
        b'd' => keyed(words).map(|(key, flags)| Meta::Delete(key, flags)),
        b'a' => arithmetic(words),
        b'e' => debug(words),
        _ => return None,
    })
}

/// A key as written fits if it is not longer than the limit; base64 only ever shrinks it.
const fn fits(key: &[u8]) -> bool {
    key.len() <= KEY_LEN_BYTES_MAX
}

/// Words behind the key of `mg`, `md` and `ma`.
const FLAGS_MAX: usize = META_WORDS_MAX - 2;

fn get(mut words: Words<'_>) -> Result<Meta<'_>, Refusal> {
    let Some(key) = words.next() else { return Err("ERROR".into()) };
    if !fits(key) {
        return Err(BAD_LINE.into());
    }
    Ok(Meta::Get(key, Flags::parse(words, FLAGS_MAX, TOO_MANY_MG)?))
}

/// `md` and `ma` share their checks; every flag error is one line.
fn keyed(mut words: Words<'_>) -> Result<(&[u8], Flags<'_>), Refusal> {
    let Some(key) = words.next() else { return Err("ERROR".into()) };
    if !fits(key) {
        return Err(BAD_LINE.into());
    }
    let flags = Flags::parse(words, FLAGS_MAX, TOO_MANY).map_err(|e| match e {
        OPAQUE_TOO_LONG | TOO_MANY => e,
        _ => INVALID_OR_DUPLICATE,
    })?;
    Ok((key, flags))
}

fn arithmetic(words: Words<'_>) -> Result<Meta<'_>, Refusal> {
    let (key, flags) = keyed(words)?;
    let decrement = match flags.mode {
        None | Some(b'I' | b'+') => false,
        Some(b'D' | b'-') => true,
        Some(_) => return Err("CLIENT_ERROR invalid mode for ma M token".into()),
    };
    Ok(Meta::Arithmetic(key, flags, decrement))
}

fn set(mut words: Words<'_>) -> Result<Meta<'_>, Refusal> {
    let Some(key) = words.next() else { return Err("ERROR".into()) };
    let Some(len) = words.next() else { return Err(BAD_LINE.into()) };
    let len = parse_i32(len).and_then(|n| u32::try_from(n).ok());
    let body_len = len.filter(|n| u64::from(*n) <= VALUE_LEN_BYTES_WIRE_MAX);
    let refuse = |line| Refusal { line, body_len };
    if !fits(key) {
        return Err(refuse(BAD_LINE));
    }
    let Some(len) = body_len else { return Err(BAD_LINE.into()) };
    let flags = Flags::parse(words, FLAGS_MAX - 1, TOO_MANY).map_err(refuse)?;
    let mode = match flags.mode {
        None | Some(b'S') => Mode::Set,
        Some(b'E') => Mode::Add,
        Some(b'A') => Mode::Append,
        Some(b'P') => Mode::Prepend,
        Some(b'R') => Mode::Replace,
        Some(_) => return Err(refuse("CLIENT_ERROR invalid mode for ms M token")),
    };
    Ok(Meta::Set(key, flags, mode, len))
}

fn debug(mut words: Words<'_>) -> Result<Meta<'_>, Refusal> {
    match words.next() {
        Some(key) if fits(key) => Ok(Meta::Debug(key, words.next() == Some(b"b"))),
        _ => Err(BAD_LINE.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(line: &[u8]) -> Result<Meta<'_>, Refusal> {
        parse(line[1], &line[2..]).unwrap()
    }

    fn flags(line: &[u8]) -> Flags<'_> {
        match parsed(line).unwrap() {
            Meta::Get(_, f)
            | Meta::Set(_, f, ..)
            | Meta::Delete(_, f)
            | Meta::Arithmetic(_, f, _) => f,
            Meta::Debug(..) => panic!("me has no flags"),
        }
    }

    #[test]
    fn returns_keep_the_order_of_the_request() {
        let f = flags(b"mg key t k T30 O12 s c f h l v");
        let order: Vec<_> = f.returns.iter().collect();
        use Return::*;
        assert_eq!(order, [TtlBefore, Key, Opaque, Size, Cas, ClientFlags, Hit, LastAccess]);
        assert_eq!(f.opaque, Some(&b"O12"[..]));
        assert_eq!(flags(b"mg key T30 t").returns.iter().next(), Some(TtlAfter));
        assert!(flags(b"mg key v").returns.is_empty());
    }

    #[test]
    fn every_flag_is_understood() {
        let f = flags(b"mg a b q u v I x N30 T-1 R5 F7 C8 E9 J10 D11 M+ Pp Ll");
        assert!(f.base64 && f.quiet && f.no_bump && f.value && f.invalidate && f.remove_value);
        assert_eq!((f.vivify_s, f.ttl_s, f.recache_s), (Some(30), Some(-1), Some(5)));
        assert_eq!((f.client_flags, f.cas, f.new_cas), (7, Some(8), Some(9)));
        assert_eq!((f.initial, f.delta, f.mode), (10, Some(11), Some(b'+')));
        assert!(f.ttl_after_vivify);
    }

    #[test]
    fn errors_are_memcacheds_lines() {
        for (line, want) in [
            (&b"mg"[..], "ERROR"),
            (b"mg k Z", "CLIENT_ERROR invalid flag"),
            (b"mg k v v", "CLIENT_ERROR duplicate flag"),
            (b"mg k \xff", "CLIENT_ERROR duplicate flag"),
            (b"mg k Tabc", BAD_TOKEN),
            (b"mg k T", BAD_TOKEN),
            (b"mg k Oaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", OPAQUE_TOO_LONG),
            (b"mg k a b c d e f g h i j k l m n o p q r", TOO_MANY_MG),
            (b"md k Z", INVALID_OR_DUPLICATE),
            (b"md k a b c d e f g h i j k l m n o p q r", TOO_MANY),
            (b"ma k MX", "CLIENT_ERROR invalid mode for ma M token"),
            (b"ma k M", INVALID_OR_DUPLICATE),
            (b"me", BAD_LINE),
            (b"ms", "ERROR"),
            (b"ms k", BAD_LINE),
            (b"ms k abc", BAD_LINE),
            (b"ms k -1", BAD_LINE),
            (b"ms k 2147483647", BAD_LINE),
        ] {
            assert_eq!(
                parsed(line).unwrap_err(),
                Refusal { line: want, body_len: None },
                "{line:?}"
            );
        }
    }

    #[test]
    fn a_refused_set_says_how_much_to_discard() {
        for (line, want) in [
            (&b"ms k 2 Z"[..], "CLIENT_ERROR invalid flag"),
            (b"ms k 2 MZ", "CLIENT_ERROR invalid mode for ms M token"),
            (b"ms k 2 MEE", "CLIENT_ERROR incorrect length for M token"),
            (b"ms k 2 Cabc", BAD_TOKEN),
            (b"ms k 2 Fabc", BAD_LINE),
            (b"ms k 2 a b c d e f g h i j k l m n o p q", TOO_MANY),
        ] {
            assert_eq!(
                parsed(line).unwrap_err(),
                Refusal { line: want, body_len: Some(2) },
                "{line:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn random_lines_never_panic(mut line in proptest::collection::vec(any::<u8>(), 2..200), letter in 0..6usize) {
            line[0] = b'm';
            line[1] = b"gsdaez"[letter];
            let _ = parse(line[1], &line[2..]);
        }

        #[test]
        fn random_flags_never_panic(words in proptest::collection::vec("[a-zA-Z][0-9a-z+-]{0,12}", 0..22)) {
            let line = format!("ms key 5 {}", words.join(" "));
            let _ = parse(b's', &line.as_bytes()[2..]);
        }
    }
}
