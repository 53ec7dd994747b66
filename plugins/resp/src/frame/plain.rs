//! GET and SET as every client library writes them, read in one look.
//!
//! Nearly all requests of a cache have one of two shapes, byte for byte:
//!
//! ```text
//!  *2\r\n $3\r\n GET\r\n $<len>\r\n <key>\r\n
//!  *3\r\n $3\r\n SET\r\n $<len>\r\n <key>\r\n $<len>\r\n <value>\r\n
//! ```
//! What must always be true: [`read`] gives what [`Parser`](super::Parser) would give for the same
//! bytes, or nothing at all; a test holds the two against each other. Called for connections in no
//! mode, at the start of a command.

/// Longest bulk that is read here, in bytes: three digits.
pub const BULK_LEN_BYTES_MAX: usize = 999;

/// A request of one of the two shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain<'a> {
    /// GET.
    Get {
        /// The key.
        key: &'a [u8],
    },
    /// SET without options.
    Set {
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
}

/// Up to the digits of the key's length.
const HEAD_LEN_BYTES: usize = 14;

const GET_START: u64 = u64::from_le_bytes(*b"*2\r\n$3\r\n");
const SET_START: u64 = u64::from_le_bytes(*b"*3\r\n$3\r\n");
/// The last eight bytes of the head; two of them are the first word's last.
const GET_NAME: u64 = u64::from_le_bytes(*b"\r\nGET\r\n$");
const SET_NAME: u64 = u64::from_le_bytes(*b"\r\nSET\r\n$");
/// The bit that tells lower-case letters, in the three bytes of the name.
const CASE: u64 = u64::from_le_bytes(*b"\0\0   \0\0\0");

/// The request at the start of `input` and its length; `None` when it is not whole, or of another
/// shape.
#[inline]
#[must_use]
pub fn read(input: &[u8]) -> Option<(Plain<'_>, usize)> {
    let head = input.first_chunk::<HEAD_LEN_BYTES>()?;
    let word = |at: usize| head[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let (start, name) = (word(0), word(HEAD_LEN_BYTES - 8) & !CASE);
    match (start, name) {
        (GET_START, GET_NAME) => {
            let (key, end) = bulk(input, HEAD_LEN_BYTES)?;
            Some((Plain::Get { key }, end))
        }
        (SET_START, SET_NAME) => {
            let (key, end) = bulk(input, HEAD_LEN_BYTES)?;
            if *input.get(end)? != b'$' {
                return None;
            }
            let (value, end) = bulk(input, end + 1)?;
            Some((Plain::Set { key, value }, end))
        }
        _ => None,
    }
}

/// The bulk whose length begins at `at`, and where the next thing begins.
#[inline]
pub(super) fn bulk(input: &[u8], at: usize) -> Option<(&[u8], usize)> {
    // The shortest rest: a digit and two line ends.
    let rest = input.get(at..)?;
    let [a, b, c, d, ..] = *rest.first_chunk::<5>()?;
    let digit = |byte: u8| {
        let value = byte.wrapping_sub(b'0');
        (value < 10).then_some(usize::from(value))
    };
    let first = digit(a)?;
    let (len, start) = if b == b'\r' {
        (first, 3)
    } else if first == 0 {
        // Leading zeros are refused, by who knows the words for it.
        return None;
    } else if c == b'\r' {
        (first * 10 + digit(b)?, 4)
    } else if d == b'\r' {
        (first * 100 + digit(b)? * 10 + digit(c)?, 5)
    } else {
        return None;
    };
    let end = start + len;
    let body = rest.get(start..end)?;
    (rest.len() >= end + 2).then_some((body, at + end + 2))
}

#[cfg(test)]
mod tests {
    use super::super::{Args, Limits, Next, Parser};
    use super::*;
    use proptest::prelude::*;

    /// What the whole parser says to the same bytes.
    fn parsed(input: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
        let mut parser = Parser::default();
        match parser.next(input, &Limits::default()) {
            Ok(Next::Command { consumed }) => {
                let args = Args::new(input, parser.spans());
                Some((args.from(0).map(<[u8]>::to_vec).collect(), consumed))
            }
            _ => None,
        }
    }

    fn agrees(input: &[u8]) {
        let Some((plain, len)) = read(input) else { return };
        let (args, consumed) = parsed(input).expect("the parser takes it, too");
        assert_eq!(len, consumed);
        let same: &[&[u8]] = match &plain {
            Plain::Get { key } => &[b"GET", key],
            Plain::Set { key, value } => &[b"SET", key, value],
        };
        assert!(args[0].eq_ignore_ascii_case(same[0]));
        assert_eq!(args[1..], same[1..]);
    }

    fn request(args: &[&[u8]]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            bytes.extend(format!("${}\r\n", arg.len()).bytes());
            bytes.extend(*arg);
            bytes.extend(b"\r\n");
        }
        bytes
    }

    #[test]
    fn both_shapes_are_read_at_every_number_of_digits() {
        for len in [0, 1, 9, 10, 99, 100, BULK_LEN_BYTES_MAX] {
            let text = vec![b'k'; len];
            for name in [b"GET", b"get", b"gEt"] {
                let input = request(&[name, &text]);
                assert_eq!(read(&input), Some((Plain::Get { key: &text }, input.len())));
            }
            let input = request(&[b"set", &text, &text]);
            let all = Plain::Set { key: &text, value: &text };
            assert_eq!(read(&input), Some((all, input.len())));
            for cut in 0..input.len() {
                assert_eq!(read(&input[..cut]), None, "not whole at {cut}");
            }
        }
    }

    #[test]
    fn everything_else_is_left_to_the_parser() {
        let long = [b'k'; BULK_LEN_BYTES_MAX + 1];
        for args in [
            &[&b"GET"[..]][..],
            &[b"GET", b"a", b"b"],
            &[b"SET", b"a"],
            &[b"SET", b"a", b"b", b"NX"],
            &[b"GEX", b"a"],
            &[b"TTL", b"a"],
            &[b"GET", &long],
            &[b"SET", b"a", &long],
        ] {
            assert_eq!(read(&request(args)), None, "{args:?}");
        }
        for input in [
            &b"*2\r\n$3\r\nGET\r\n$01\r\nkk\r\n"[..],
            b"*2\r\n$3\r\nGET\r\n$-1\r\nkk\r\n",
            b"*2\r\n$3\r\nGET\r\n$1x\r\nkk\r\n",
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n*1\r\nkk\r\n",
            b"*2\r\n$3\r\nSET\r\n$1\r\nk\r\n",
        ] {
            assert_eq!(read(input), None, "{input:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_here_is_what_the_parser_reads(
            key in proptest::collection::vec(any::<u8>(), 0..120),
            value in proptest::collection::vec(any::<u8>(), 0..120),
            set in any::<bool>(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut input =
                if set { request(&[b"SET", &key, &value]) } else { request(&[b"GET", &key]) };
            prop_assert!(read(&input).is_some());
            agrees(&input);
            let at = at.index(input.len());
            input[at] = byte;
            agrees(&input);
            // Line ends and digits are where it matters.
            input[at] = b'\r';
            agrees(&input);
            input[at] = b'1';
            agrees(&input);
        }
    }
}
