//! The generator's own codecs: requests to bytes, bytes to replies. Nothing is shared with any server.
//!
//! Always true: a codec consumes only whole steps, so a reply may arrive split at any byte; what it
//! cannot read is [`Garbage`] with a reason, never skipped. Called by connections.
//!
//! A reply is a sequence of steps; a value's bytes are not gathered but handed over as they arrive:
//! ```text
//!   step → Value{skip, len} → (len bytes go to the check) → step → Value … → step → Done{used}
//! ```

pub mod memcache_binary;
pub mod memcache_meta;
pub mod memcache_text;
pub mod momento;
pub mod momento_grpc;
pub mod ping;
pub mod resp;

use std::ops::Range;

use crate::config::plan::VALUE_LEN_BYTES_MAX;

/// Longest line of a reply that is not a value.
pub const LINE_LEN_BYTES_MAX: usize = 64 << 10;

/// What the next reply on a connection answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// One key's value.
    Get,
    /// Several keys' values.
    GetMany,
    /// A store, conditional or not.
    Store,
    /// A removal.
    Delete,
    /// A counter's new number.
    Incr,
    /// A new time to live.
    Touch,
    /// A liveness check.
    Ping,
    /// Any reply (RESP templates).
    Any,
    /// RESP3's greeting.
    Hello,
    /// A login.
    Login,
}

/// How a store is conditioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    Always,
    /// If the key is absent.
    IfAbsent,
    /// If the key still has this token.
    Token(u64),
}

/// A store's options.
#[derive(Debug, Clone, Copy)]
pub struct Store {
    /// Length of the value.
    pub len: usize,
    /// Client flags (memcache).
    pub flags: u32,
    /// Time to live; 0 is none.
    pub ttl_s: u32,
    /// When it takes place.
    pub condition: Condition,
}

/// Several keys in one allocation.
#[derive(Debug, Default, Clone)]
pub struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    /// Forgets all keys, keeping the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Appends a key written by `write`.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// Every key, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    /// How many keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// How a reply ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As asked; for reads, the values came before.
    Ok,
    /// The key is not there.
    Miss,
    /// A condition did not hold.
    NotStored,
    /// The server refused; the range of its words in the given bytes.
    Error(Range<usize>),
}

/// One step through a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing can be read until more bytes arrive.
    More,
    /// After `skip` bytes, `len` bytes of a value follow.
    Value {
        /// Bytes before the value.
        skip: usize,
        /// Bytes of the value.
        len: usize,
        /// Where the value's key stands in the given bytes, when the protocol repeats it.
        key: Option<Range<usize>>,
        /// Its place among the asked keys, when the protocol answers by place.
        place: Option<usize>,
        /// Client flags, when the protocol has them.
        flags: Option<u32>,
        /// The token, when asked for.
        token: u64,
    },
    /// The reply is complete.
    Done {
        /// Bytes it took.
        used: usize,
        /// How it ended.
        outcome: Outcome,
    },
}

/// Why bytes are no reply: the connection cannot be trusted any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Garbage {
    /// The first bytes fit no reply to what was asked.
    #[error("`{text}` is no answer to {expect:?}")]
    Unexpected {
        /// The start of the bytes, escaped.
        text: String,
        /// What was asked.
        expect: Expect,
    },
    /// A line without an end.
    #[error("a line of more than {LINE_LEN_BYTES_MAX} bytes")]
    EndlessLine,
    /// A length that is no number or beyond any limit.
    #[error("`{text}` is no length")]
    Length {
        /// As received.
        text: String,
    },
    /// A value is not followed by what ends it.
    #[error("a value is followed by `{text}` where its end should be")]
    Trailer {
        /// As received, escaped.
        text: String,
    },
    /// A binary reply answers another request.
    #[error("reply to request {got} where {expected} is next")]
    Opaque {
        /// As received.
        got: u32,
        /// As sent.
        expected: u32,
    },
    /// A reply came before that to an earlier request, which this protocol allows.
    #[error(
        "the reply to request {got} overtook that to request {expected}, as the protocol allows: \
         use a pipeline_depth of 1 with this server"
    )]
    Overtaken {
        /// As received.
        got: u64,
        /// As sent.
        expected: u64,
    },
    /// The greeting was answered by an error.
    #[error("the login was refused: {words}")]
    Refused {
        /// The server's words.
        words: String,
    },
    /// Bytes although nothing was asked.
    #[error("`{text}` although nothing was asked")]
    Unasked {
        /// As received, escaped.
        text: String,
    },
}

/// The start of some bytes, printable, for error messages.
#[must_use]
pub fn excerpt(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(40)].escape_ascii().to_string()
}

/// What a protocol with accounts is told first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// The cache's name.
    pub cache: String,
    /// The secret that opens it.
    pub token: String,
    /// Who asks; empty where a password is enough or none is needed.
    pub username: String,
    /// Its secret; empty where none is needed.
    pub password: String,
}

/// A whole reply to the read of one key, with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// Where the value stands.
    pub value: Range<usize>,
    /// Where its key stands, when the protocol repeats it.
    pub key: Option<Range<usize>>,
    /// Client flags, when the protocol has them.
    pub flags: Option<u32>,
    /// Bytes of the reply.
    pub used: usize,
}

/// A protocol: one value a connection.
pub trait Codec: Send + 'static {
    /// Whether two reads of keys of one length differ in nothing but the key.
    const READS_DIFFER_IN_KEY_ALONE: bool = false;
    /// Whether its messages travel in gRPC calls.
    const OVER_GRPC: bool = false;
    /// A fresh connection.
    fn new() -> Self
    where
        Self: Sized;
    /// Hands over what the greeting and the requests need.
    fn login(&mut self, _login: &std::sync::Arc<Login>) {}
    /// Writes what has to be said first; gives what its reply is, or `None` when nothing is said.
    fn greet(&mut self, _out: &mut Vec<u8>) -> Option<Expect> {
        None
    }
    /// Reads one key; with `token` set also its token.
    fn get(&mut self, out: &mut Vec<u8>, key: &[u8], token: bool);
    /// Reads several keys.
    fn get_many(&mut self, out: &mut Vec<u8>, keys: &Keys);
    /// Stores what `value` appends (exactly `store.len` bytes).
    fn store(
        &mut self,
        out: &mut Vec<u8>,
        key: &[u8],
        store: Store,
        value: impl FnOnce(&mut Vec<u8>),
    );
    /// Removes a key.
    fn delete(&mut self, out: &mut Vec<u8>, key: &[u8]);
    /// Adds one to a counter.
    fn incr(&mut self, out: &mut Vec<u8>, key: &[u8]);
    /// Sets a time to live.
    fn touch(&mut self, out: &mut Vec<u8>, key: &[u8], ttl_s: u32);
    /// Checks liveness.
    fn ping(&mut self, out: &mut Vec<u8>);
    /// A command of these arguments; only RESP has it, and the plan asks no other protocol.
    fn command(&mut self, _out: &mut Vec<u8>, _arguments: &Keys) {
        unreachable!("the plan refuses templates for other protocols than RESP");
    }
    /// The reply to a read (without its token) when all of it has arrived and holds a value; `None` in any
    /// other case, which is left to [`Codec::step`]. No reply may be in progress.
    fn whole_read(&mut self, _bytes: &[u8]) -> Option<Whole> {
        None
    }
    /// Reads on in the reply to what was asked first and not answered yet.
    ///
    /// # Errors
    /// [`Garbage`] when the bytes cannot be that reply.
    fn step(&mut self, bytes: &[u8], expect: Expect) -> Result<Step, Garbage>;
}

/// The line at the start of `bytes` without its CRLF, and the bytes it took; `None` when its end has
/// not arrived.
#[inline]
fn line(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Garbage> {
    match memchr::memchr(b'\n', &bytes[..bytes.len().min(LINE_LEN_BYTES_MAX)]) {
        Some(end) if end > 0 && bytes[end - 1] == b'\r' => Ok(Some((&bytes[..end - 1], end + 1))),
        Some(end) => Err(Garbage::Trailer { text: excerpt(&bytes[..=end]) }),
        None if bytes.len() >= LINE_LEN_BYTES_MAX => Err(Garbage::EndlessLine),
        None => Ok(None),
    }
}

/// A decimal length within the limit of values.
#[inline]
fn length(text: &[u8]) -> Result<usize, Garbage> {
    number(text)
        .filter(|n| *n <= VALUE_LEN_BYTES_MAX)
        .map(|n| n as usize)
        .ok_or_else(|| Garbage::Length { text: excerpt(text) })
}

/// Digits alone.
#[inline]
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0u64, |n, b| {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 { None } else { n.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

/// The digits at the start of `bytes` as a length, and what follows them; no digits are no number.
#[inline]
fn leading_number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    // Nine digits hold every length and cannot overflow.
    const DIGITS_MAX: usize = 9;
    let (mut n, mut at) = (0, 0);
    while let Some(digit) = bytes.get(at).map(|b| b.wrapping_sub(b'0')).filter(|d| *d <= 9) {
        if at == DIGITS_MAX {
            return None;
        }
        n = n * 10 + usize::from(digit);
        at += 1;
    }
    (at > 0).then(|| (n, &bytes[at..]))
}

#[inline]
fn push_number(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Checks the CRLF behind a value: `Ok(None)` when it has not arrived.
#[inline]
fn value_end(bytes: &[u8]) -> Result<Option<usize>, Garbage> {
    match bytes {
        [b'\r', b'\n', ..] => Ok(Some(2)),
        [] | [b'\r'] => Ok(None),
        _ => Err(Garbage::Trailer { text: excerpt(bytes) }),
    }
}

fn unexpected(bytes: &[u8], expect: Expect) -> Garbage {
    Garbage::Unexpected { text: excerpt(bytes), expect }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Tables of bytes in, replies out, each split at every byte.
    use super::*;

    /// A value: bytes, place, key, flags, token.
    type ReadValue = (Vec<u8>, Option<usize>, Option<Vec<u8>>, Option<u32>, u64);

    /// What was read of one reply, values gathered.
    #[derive(Debug, PartialEq, Eq, Default)]
    pub(crate) struct Read {
        pub(crate) values: Vec<ReadValue>,
        pub(crate) outcome: Option<Outcome>,
        pub(crate) words: Vec<u8>,
    }

    pub(crate) fn read<C: Codec>(
        codec: &mut C,
        chunks: &[&[u8]],
        expect: Expect,
    ) -> Result<(Read, Vec<u8>), Garbage> {
        let mut read = Read::default();
        let mut held: Vec<u8> = Vec::new();
        let mut left = 0;
        for chunk in chunks {
            held.extend_from_slice(chunk);
            loop {
                if read.outcome.is_some() {
                    break;
                }
                if left > 0 {
                    let take = left.min(held.len());
                    let value = &mut read.values.last_mut().unwrap().0;
                    value.extend(held.drain(..take));
                    left -= take;
                    if left > 0 {
                        break;
                    }
                }
                match codec.step(&held, expect)? {
                    Step::More => break,
                    Step::Value { skip, len, key, place, flags, token } => {
                        let key = key.map(|range| held[range].to_vec());
                        held.drain(..skip);
                        read.values.push((Vec::new(), place, key, flags, token));
                        left = len;
                    }
                    Step::Done { used, outcome } => {
                        if let Outcome::Error(range) = &outcome {
                            read.words = held[range.clone()].to_vec();
                        }
                        held.drain(..used);
                        read.outcome = Some(match outcome {
                            Outcome::Error(_) => Outcome::Error(0..0),
                            o => o,
                        });
                    }
                }
            }
        }
        Ok((read, held))
    }

    /// What the short way sees of a reply must be what the long way reads.
    fn short_way<C: Codec>(bytes: &[u8], long: &Read) {
        let Some(whole) = C::new().whole_read(bytes) else { return };
        assert_eq!(whole.used, bytes.len());
        let [(value, _, key, flags, _)] = &long.values[..] else { panic!("one value: {long:?}") };
        assert_eq!((&bytes[whole.value], whole.flags), (&value[..], *flags));
        assert_eq!(whole.key.map(|range| bytes[range].to_vec()), *key);
        assert_eq!(long.outcome, Some(Outcome::Ok));
        for end in 0..bytes.len() {
            assert_eq!(C::new().whole_read(&bytes[..end]), None, "cut at {end}");
        }
    }

    /// Reads `bytes` whole and split at every byte; all must agree and leave nothing behind.
    pub(crate) fn reply<C: Codec>(bytes: &[u8], expect: Expect) -> Read {
        let (whole, rest) = read(&mut C::new(), &[bytes], expect).unwrap();
        assert!(rest.is_empty(), "left {rest:?} of {}", excerpt(bytes));
        assert!(whole.outcome.is_some(), "incomplete: {}", excerpt(bytes));
        if expect == Expect::Get {
            short_way::<C>(bytes, &whole);
        }
        for at in 0..bytes.len() {
            let (split, rest) = read(&mut C::new(), &[&bytes[..at], &bytes[at..]], expect).unwrap();
            assert_eq!(split, whole, "split at {at}");
            assert!(rest.is_empty());
            let (part, _) = read(&mut C::new(), &[&bytes[..at]], expect).unwrap();
            assert_eq!(part.outcome, None, "{} is no whole reply", excerpt(&bytes[..at]));
        }
        whole
    }

    pub(crate) fn garbage<C: Codec>(bytes: &[u8], expect: Expect) -> String {
        read(&mut C::new(), &[bytes], expect).expect_err(&excerpt(bytes)).to_string()
    }

    pub(crate) fn keys(list: &[&[u8]]) -> Keys {
        let mut keys = Keys::default();
        for key in list {
            keys.push_with(|out| out.extend_from_slice(key));
        }
        keys
    }
}
