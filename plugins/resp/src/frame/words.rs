//! A whole command of short arguments, cut in one pass.
//!
//! Nearly every command that is no plain GET or SET is an array of a few short bulks that has
//! arrived whole: each header is then one look, and nothing has to be remembered between them. What
//! must always be true: [`cut`] gives what [`Parser`](super::Parser) would give for the same bytes,
//! or nothing at all; a test holds the two against each other. Called at the start of a command.

use super::plain::{BULK_LEN_BYTES_MAX, bulk};
use super::{Limits, Span};

/// Cuts the command at the start of `input` into `spans`; returns its length, or `None` when it is
/// not whole or not of this shape.
#[inline]
pub(super) fn cut(input: &[u8], spans: &mut Vec<Span>, limits: &Limits) -> Option<usize> {
    let digit = |byte: u8| {
        let value = byte.wrapping_sub(b'0');
        (value < 10).then_some(usize::from(value))
    };
    let (count, mut at) = match *input.first_chunk::<5>()? {
        [b'*', a, b'\r', _, _] => (digit(a)?, 4),
        [b'*', a @ b'1'..=b'9', b, b'\r', _] => (digit(a)? * 10 + digit(b)?, 5),
        _ => return None,
    };
    if count == 0
        || count as i64 > limits.array_len_max
        || limits.unauthenticated
        || limits.bulk_len_bytes_max < BULK_LEN_BYTES_MAX as i64
    {
        return None;
    }
    spans.clear();
    for _ in 0..count {
        if *input.get(at)? != b'$' {
            return None;
        }
        let (body, end) = bulk(input, at + 1)?;
        spans.push(Span { start: (end - 2 - body.len()) as u32, len: body.len() as u32 });
        at = end;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::super::{Args, Next, Parser};
    use super::*;
    use proptest::prelude::*;

    /// What the parser says without this short cut.
    fn parsed(input: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
        match Parser::default().next_by_stages(input, &Limits::default()) {
            (parser, Ok(Next::Command { consumed })) => {
                Some((owned(input, parser.spans()), consumed))
            }
            _ => None,
        }
    }

    fn owned(input: &[u8], spans: &[Span]) -> Vec<Vec<u8>> {
        Args::new(input, spans).from(0).map(<[u8]>::to_vec).collect()
    }

    fn short(input: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
        let mut spans = vec![Span { start: 7, len: 7 }];
        let consumed = cut(input, &mut spans, &Limits::default())?;
        Some((owned(input, &spans), consumed))
    }

    fn request(args: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            bytes.extend(format!("${}\r\n", arg.len()).bytes());
            bytes.extend(arg);
            bytes.extend(b"\r\n");
        }
        bytes
    }

    #[test]
    fn limits_and_odd_shapes_are_left_to_the_parser() {
        let many = request(&vec![b"a".to_vec(); 17]);
        assert!(short(&many).is_some());
        for limits in [
            Limits { array_len_max: 16, ..Limits::default() },
            Limits { unauthenticated: true, ..Limits::default() },
            Limits { bulk_len_bytes_max: 512, ..Limits::default() },
        ] {
            assert_eq!(cut(&many, &mut Vec::new(), &limits), None, "{limits:?}");
        }
        for input in [
            &b"*0\r\n$1\r\na\r\n"[..],
            b"*01\r\n$1\r\na\r\n",
            b"*1\r\n$01\r\na\r\n",
            b"*1\r\n+a\r\n\r\n",
            b"*-1\r\n\r\n",
            b"PING\r\n",
        ] {
            assert_eq!(short(input), None, "{input:?}");
        }
        let long = request(&[vec![b'v'; BULK_LEN_BYTES_MAX + 1]]);
        assert_eq!(short(&long), None);
        let whole = request(&vec![b"word".to_vec(); 99]);
        for end in 0..whole.len() {
            assert_eq!(short(&whole[..end]), None, "not whole at {end}");
        }
    }

    proptest! {
        #[test]
        fn what_is_cut_here_is_what_the_parser_cuts(
            args in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..130), 1..30),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut input = request(&args);
            prop_assert_eq!(short(&input), parsed(&input));
            prop_assert!(short(&input).is_some());
            let at = at.index(input.len());
            for byte in [byte, b'\r', b'1', b'$'] {
                input[at] = byte;
                if let Some(found) = short(&input) {
                    prop_assert_eq!(Some(found), parsed(&input));
                }
            }
        }
    }
}
