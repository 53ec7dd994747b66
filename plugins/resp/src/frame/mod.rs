//! Requests from bytes: RESP arrays of bulk strings, and inline lines.
//!
//! The parser is fed the unconsumed input of a connection, always beginning at the first byte of a
//! command, and remembers how far it came: feeding it a longer input costs only the new bytes. It
//! allocates for arguments that have arrived, never for what a header announces. Arguments are
//! [`Span`]s of the input; only a quoted inline line is rewritten, into the parser's own memory.
//! The `exec` rooms call it; it knows no command.
//!
//! ```text
//!             '*'               count > 0            '$' length           length + 2 bytes
//!  start ───────────> count ───────────────> header ───────────> body ───────────┐
//!    │ other           │ count <= 0            ^                                 │
//!    │                 v                       └──────── more bulks ─────────────┤
//!    └──> line ──> Empty or Command <────────────────────────────────────────────┘
//! ```

mod inline;
pub mod plain;
pub mod short;
mod words;

use crate::number;

/// Longest header line (`*` or `$`) and longest inline request without a line end, in bytes.
pub const LINE_LEN_BYTES_MAX: usize = 64 * 1024;

/// Largest array length a header may announce before a client has authenticated.
pub const UNAUTHENTICATED_ARRAY_LEN_MAX: i64 = 10;

/// Largest bulk a header may announce before a client has authenticated, in bytes.
pub const UNAUTHENTICATED_BULK_LEN_BYTES_MAX: i64 = 16 * 1024;

/// Arguments whose capacity an idle parser keeps; above it the memory is given back.
const SPANS_KEPT: usize = 64;

/// One argument: a range of the input (or of the parser's line memory for a quoted inline line).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

/// What the parser refuses, besides the texts that clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most elements of a request array.
    pub array_len_max: i64,
    /// Longest bulk, in bytes (`proto-max-bulk-len`).
    pub bulk_len_bytes_max: i64,
    /// The client has yet to authenticate: the two small limits above apply.
    pub unauthenticated: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            array_len_max: 1024 * 1024,
            bulk_len_bytes_max: 512 * 1024 * 1024,
            unauthenticated: false,
        }
    }
}

/// A request that cannot be followed: its text is sent, then the connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The array header is no number or over the limit.
    #[error("Protocol error: invalid multibulk length")]
    ArrayLen,
    /// A bulk header is no number, negative or over the limit.
    #[error("Protocol error: invalid bulk length")]
    BulkLen,
    /// Something else stands where a bulk must begin.
    #[error("Protocol error: expected '$', got '{}'", char::from(*.0))]
    NotABulk(u8),
    /// The array header never ends.
    #[error("Protocol error: too big mbulk count string")]
    ArrayHeaderTooLong,
    /// The bulk header never ends.
    #[error("Protocol error: too big bulk count string")]
    BulkHeaderTooLong,
    /// The inline line never ends.
    #[error("Protocol error: too big inline request")]
    InlineTooLong,
    /// An inline line opens a quote and does not close it.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// A long array from a client that has not authenticated.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedArray,
    /// A long bulk from a client that has not authenticated.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulk,
}

/// The bulk whose header was read while its bytes are still arriving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Which argument it is (0 is the command name).
    pub index: usize,
    /// Where its bytes begin in the input.
    pub start: usize,
    /// How many bytes it has, without the line end.
    pub len_bytes: usize,
    /// How many bulks follow it.
    pub more: usize,
}

/// What the input holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A whole command of `consumed` bytes; its arguments are the parser's spans.
    Command {
        /// Bytes of the command, from the beginning of the input.
        consumed: usize,
    },
    /// Nothing to answer (an empty line, an array of no elements): skip `consumed` bytes.
    Empty {
        /// Bytes to skip.
        consumed: usize,
    },
    /// The command is not all here.
    Partial {
        /// The input length below which parsing again brings nothing.
        need_bytes: usize,
        /// Set while the bytes of a bulk are awaited.
        pending: Option<Pending>,
    },
}

/// Where a command stopped for want of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Start,
    /// Reading the header of the next bulk.
    Header,
    /// Waiting for the bytes of a bulk that starts at `at`.
    Body {
        len: usize,
    },
    /// The bulk's bytes went elsewhere: only its line end is awaited.
    LineEnd,
}

/// The resumable parser of one connection (or of one worker, while nothing is partial).
#[derive(Debug)]
pub struct Parser {
    spans: Vec<Span>,
    line: Vec<u8>,
    in_line: bool,
    stage: Stage,
    /// Bulks still to come, the pending one included.
    left: usize,
    /// Where the next header or body starts.
    at: usize,
    /// The line end was not found before this position.
    searched: usize,
}

impl Default for Parser {
    fn default() -> Self {
        Parser {
            spans: Vec::new(),
            line: Vec::new(),
            in_line: false,
            stage: Stage::Start,
            left: 0,
            at: 0,
            searched: 0,
        }
    }
}

/// The arguments of a command: `'a` is the life of its bytes, `'s` that of the spans.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a, 's> {
    bytes: &'a [u8],
    spans: &'s [Span],
}

impl<'a, 's> Args<'a, 's> {
    /// Arguments over `bytes`, as `spans` cut them.
    #[inline]
    pub fn new(bytes: &'a [u8], spans: &'s [Span]) -> Self {
        Args { bytes, spans }
    }

    /// Number of arguments, the command name included.
    #[inline]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// No arguments at all (never so for a parsed command).
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Argument `i`; panics when out of range, which the arity check rules out.
    #[inline]
    pub fn at(&self, i: usize) -> &'a [u8] {
        let span = self.spans[i];
        &self.bytes[span.start as usize..span.start as usize + span.len as usize]
    }

    /// Argument `i`, when there is one.
    #[inline]
    pub fn get(&self, i: usize) -> Option<&'a [u8]> {
        (i < self.spans.len()).then(|| self.at(i))
    }

    /// The arguments from `first` on.
    #[inline]
    pub fn from(&self, first: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a, 's> {
        let (bytes, spans) = (self.bytes, &self.spans[first.min(self.spans.len())..]);
        spans.iter().map(move |s| &bytes[s.start as usize..s.start as usize + s.len as usize])
    }

    /// The first `n` arguments alone.
    pub fn first(&self, n: usize) -> Self {
        Args { bytes: self.bytes, spans: &self.spans[..n] }
    }
}

impl Parser {
    /// Reads the command at the start of `input`. After [`Next::Partial`] the caller comes again
    /// with the same bytes and more behind them; after anything else the parser starts afresh.
    #[inline]
    pub fn next(&mut self, input: &[u8], limits: &Limits) -> Result<Next, FrameError> {
        if self.stage == Stage::Start {
            self.in_line = false;
            if self.searched == 0
                && let Some(consumed) = words::cut(input, &mut self.spans, limits)
            {
                return Ok(Next::Command { consumed });
            }
        }
        self.stages(input, limits)
    }

    /// Reads whatever is not whole, long or odd, and remembers where it stopped.
    fn stages(&mut self, input: &[u8], limits: &Limits) -> Result<Next, FrameError> {
        if self.stage == Stage::Start {
            self.spans.clear();
            match input.first() {
                None => return Ok(Next::Partial { need_bytes: 1, pending: None }),
                Some(b'*') => {}
                Some(_) => return self.inline(input),
            }
            match self.array_header(input, limits) {
                Ok(None) => {}
                Ok(Some(next)) => return Ok(next),
                Err(error) => return Err(self.fail(error)),
            }
        }
        if self.stage == Stage::LineEnd {
            if input.len() < 2 {
                return Ok(Next::Partial { need_bytes: 2, pending: None });
            }
            (self.at, self.stage) = (2, Stage::Header);
            if self.left == 0 {
                self.restart();
                return Ok(Next::Command { consumed: 2 });
            }
        }
        self.bulks(input, limits)
    }

    /// The arguments of the command that [`Parser::next`] just returned, or those already whole
    /// of a partial one. They cut the input, unless [`Parser::line`] has text of its own.
    #[inline]
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The rewritten text of a quoted inline line, which the spans cut then.
    #[inline]
    pub fn line(&self) -> Option<&[u8]> {
        self.in_line.then_some(self.line.as_slice())
    }

    /// Whether a command has been begun and not finished.
    pub fn is_partial(&self) -> bool {
        self.stage != Stage::Start || self.searched != 0
    }

    /// Forgets a partial command: it will be read from its start again.
    pub fn forget(&mut self) {
        self.restart();
    }

    /// Goes on after the body of the pending bulk went elsewhere: the next input begins at that
    /// bulk's line end, and `more` bulks follow. Their spans start again from zero, and a command
    /// of no arguments means that none followed.
    pub fn after_body(&mut self, more: usize) {
        self.spans.clear();
        self.in_line = false;
        self.stage = Stage::LineEnd;
        self.left = more;
        self.at = 0;
        self.searched = 0;
    }

    /// What a fresh parser says without the short cut.
    #[cfg(test)]
    fn next_by_stages(mut self, input: &[u8], limits: &Limits) -> (Self, Result<Next, FrameError>) {
        let next = self.stages(input, limits);
        (self, next)
    }

    fn fail(&mut self, error: FrameError) -> FrameError {
        self.restart();
        error
    }

    fn restart(&mut self) {
        self.stage = Stage::Start;
        self.at = 0;
        self.searched = 0;
        self.left = 0;
    }

    /// Gives back the memory that an unusually long command took.
    pub fn shrink(&mut self) {
        if self.spans.capacity() > SPANS_KEPT {
            self.spans = Vec::new();
        }
        if self.line.capacity() > 0 {
            self.line = Vec::new();
        }
    }

    /// Reads `*count`; `None` when bulks follow.
    #[inline]
    fn array_header(&mut self, input: &[u8], limits: &Limits) -> Result<Option<Next>, FrameError> {
        let Some((value, after)) = self.header(input, 0, FrameError::ArrayHeaderTooLong)? else {
            return Ok(Some(Next::Partial { need_bytes: input.len() + 1, pending: None }));
        };
        match value {
            Some(n) if n <= 0 => {
                self.restart();
                return Ok(Some(Next::Empty { consumed: after }));
            }
            Some(n) if n > limits.array_len_max => return Err(FrameError::ArrayLen),
            Some(n) if limits.unauthenticated && n > UNAUTHENTICATED_ARRAY_LEN_MAX => {
                return Err(FrameError::UnauthenticatedArray);
            }
            Some(n) => self.left = n as usize,
            None => return Err(FrameError::ArrayLen),
        }
        self.at = after;
        self.stage = Stage::Header;
        Ok(None)
    }

    /// Reads bulks until the command is whole or the input ends.
    #[inline]
    fn bulks(&mut self, input: &[u8], limits: &Limits) -> Result<Next, FrameError> {
        loop {
            let (start, len) = match self.stage {
                Stage::Body { len } => (self.at, len),
                _ => {
                    if self.at >= input.len() {
                        return Ok(Next::Partial { need_bytes: self.at + 4, pending: None });
                    }
                    if input[self.at] != b'$' {
                        let got = input[self.at];
                        return Err(self.fail(FrameError::NotABulk(got)));
                    }
                    let read = self.header(input, self.at, FrameError::BulkHeaderTooLong);
                    let (value, after) = match read {
                        Ok(Some(read)) => read,
                        Ok(None) => {
                            return Ok(Next::Partial {
                                need_bytes: input.len() + 1,
                                pending: None,
                            });
                        }
                        Err(error) => return Err(self.fail(error)),
                    };
                    match value {
                        Some(n) if n < 0 || n > limits.bulk_len_bytes_max => {
                            return Err(self.fail(FrameError::BulkLen));
                        }
                        Some(n)
                            if limits.unauthenticated && n > UNAUTHENTICATED_BULK_LEN_BYTES_MAX =>
                        {
                            return Err(self.fail(FrameError::UnauthenticatedBulk));
                        }
                        Some(n) => (after, n as usize),
                        None => return Err(self.fail(FrameError::BulkLen)),
                    }
                }
            };
            let end = start + len + 2;
            if end > input.len() {
                self.stage = Stage::Body { len };
                self.at = start;
                let pending =
                    Pending { index: self.spans.len(), start, len_bytes: len, more: self.left - 1 };
                return Ok(Next::Partial { need_bytes: end, pending: Some(pending) });
            }
            debug_assert!(end <= u32::MAX as usize, "the query buffer limit is below 4 GiB");
            self.spans.push(Span { start: start as u32, len: len as u32 });
            self.left -= 1;
            self.at = end;
            self.stage = Stage::Header;
            if self.left == 0 {
                self.restart();
                return Ok(Next::Command { consumed: end });
            }
        }
    }

    /// Reads the number behind the type byte at `from`, up to `\r` and one byte more. The outer
    /// `None`: the line is not all here. The inner `None`: it is no number.
    #[inline]
    #[allow(clippy::type_complexity)]
    fn header(
        &mut self,
        input: &[u8],
        from: usize,
        too_long: FrameError,
    ) -> Result<Option<(Option<i64>, usize)>, FrameError> {
        let digits = &input[from + 1..];
        // One or two digits are nearly all headers of small commands.
        if let [a @ b'0'..=b'9', b'\r', _, ..] = digits {
            self.searched = 0;
            return Ok(Some((Some(i64::from(a - b'0')), from + 4)));
        }
        if let [a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', _, ..] = digits {
            self.searched = 0;
            return Ok(Some((Some(i64::from(a - b'0') * 10 + i64::from(b - b'0')), from + 5)));
        }
        let begin = self.searched.max(from + 1);
        match memchr::memchr(b'\r', &input[begin..]) {
            Some(found) => {
                let end = begin + found;
                if end + 2 > input.len() {
                    self.searched = end;
                    return Ok(None);
                }
                self.searched = 0;
                Ok(Some((number::parse_i64(&input[from + 1..end]), end + 2)))
            }
            None if input.len() - from > LINE_LEN_BYTES_MAX => Err(too_long),
            None => {
                self.searched = input.len();
                Ok(None)
            }
        }
    }

    #[cold]
    fn inline(&mut self, input: &[u8]) -> Result<Next, FrameError> {
        let Some(found) = memchr::memchr(b'\n', &input[self.searched..]) else {
            if input.len() > LINE_LEN_BYTES_MAX {
                return Err(self.fail(FrameError::InlineTooLong));
            }
            self.searched = input.len();
            return Ok(Next::Partial { need_bytes: input.len() + 1, pending: None });
        };
        let end = self.searched + found;
        self.restart();
        let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
        if line.len() > LINE_LEN_BYTES_MAX {
            return Err(FrameError::InlineTooLong);
        }
        self.line.clear();
        self.in_line = inline::is_quoted(line);
        if self.in_line {
            inline::split_quoted(line, &mut self.line, &mut self.spans)?;
        } else {
            inline::split_plain(line, &mut self.spans);
        }
        let consumed = end + 1;
        Ok(if self.spans.is_empty() {
            Next::Empty { consumed }
        } else {
            Next::Command { consumed }
        })
    }
}

#[cfg(test)]
mod tests;
