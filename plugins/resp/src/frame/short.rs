//! The head of a short command in two looks, and its words in one more each.
//!
//! ```text
//!  *<argc>\r\n $<len>\r\n <name>\r\n $<len>\r\n <word>\r\n ..
//!   one digit   one digit  up to nine letters
//! ```
//! What must always be true: [`head`] and [`words`] give what [`Parser`](super::Parser) would give
//! for the same bytes, or nothing at all; a test holds the two against each other. Called for
//! connections in no mode, at the start of a command that is no plain GET or SET.

use super::plain::bulk;

/// A command's name, folded to lower case: its first eight letters, and the ninth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name(u64, u8);

impl Name {
    /// Folds a name of up to nine lower-case letters while compiling.
    #[must_use]
    pub const fn of(name: &str) -> Self {
        let bytes = name.as_bytes();
        assert!(!bytes.is_empty() && bytes.len() <= NAME_LEN_BYTES_MAX);
        let (mut first, mut i) = (0, 0);
        while i < bytes.len() && i < 8 {
            assert!(bytes[i].is_ascii_lowercase());
            first |= (bytes[i] as u64) << (8 * i);
            i += 1;
        }
        Self(first, if bytes.len() > 8 { bytes[8] } else { 0 })
    }

    /// A number below `1 << bits` that differs for most names.
    #[inline]
    #[must_use]
    pub const fn mixed(self, bits: u32) -> usize {
        let word = self.0.wrapping_add(self.1 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (word >> (64 - bits)) as usize
    }
}

const NAME_LEN_BYTES_MAX: usize = 9;

/// What a command begins with.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// The name; of letters alone when it equals one made by [`Name::of`].
    pub name: Name,
    /// Words, the name included.
    pub argc: usize,
    /// Where the word behind the name begins.
    at: usize,
}

/// `*?\r\n$?\r\n` without the digits.
const FRAME: u64 = u64::from_le_bytes(*b"*\0\r\n$\0\r\n");
const FRAME_MASK: u64 = u64::from_le_bytes([0xff, 0, 0xff, 0xff, 0xff, 0, 0xff, 0xff]);
/// The bit that tells lower-case letters, in every byte.
const CASE: u64 = 0x2020_2020_2020_2020;

/// The head at the start of `input`; `None` when it is not whole, or of another shape.
#[inline]
#[must_use]
pub fn head(input: &[u8]) -> Option<Head> {
    // The shortest command of two words is longer.
    let start = input.first_chunk::<16>()?;
    let [a, b, c, d, e, f, g, h, ..] = *start;
    let frame = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let (argc, len) = (b.wrapping_sub(b'0'), f.wrapping_sub(b'0'));
    if frame & FRAME_MASK != FRAME || !(2..=9).contains(&argc) || !(1..=9).contains(&len) {
        return None;
    }
    let [.., a, b, c, d, e, f, g, h] = *start;
    let first = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let len = usize::from(len);
    let end = *input.get(8 + len..)?.first_chunk::<2>()?;
    if end != *b"\r\n" {
        return None;
    }
    let (first, ninth) = match len {
        9 => (first, input[16] | 0x20),
        _ => (first & (u64::MAX >> (64 - 8 * len)), 0),
    };
    // A byte that the bit turns into a letter is that letter, in either case.
    let name = Name(first | CASE & (u64::MAX >> (64 - 8 * len.min(8))), ninth);
    Some(Head { name, argc: usize::from(argc), at: 8 + len + 2 })
}

/// The `N` words behind a command's name, and the command's length.
#[inline]
#[must_use]
pub fn words<'a, const N: usize>(input: &'a [u8], head: &Head) -> Option<([&'a [u8]; N], usize)> {
    let (mut words, mut at) = ([&[][..]; N], head.at);
    for word in &mut words {
        if *input.get(at)? != b'$' {
            return None;
        }
        (*word, at) = bulk(input, at + 1)?;
    }
    Some((words, at))
}

#[cfg(test)]
mod tests {
    use super::super::{Args, Limits, Next, Parser};
    use super::*;
    use proptest::prelude::*;

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

    /// What this reads of a command of three words named `hget`.
    fn read(input: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
        let head = head(input).filter(|head| head.name == Name::of("hget") && head.argc == 3)?;
        let (words, len) = words::<2>(input, &head)?;
        Some((words.iter().map(|word| word.to_vec()).collect(), len))
    }

    #[test]
    fn names_fold_and_only_letters_do() {
        let named = |name: &str| {
            let command = format!("*2\r\n${}\r\n{name}\r\n$1\r\nk\r\n", name.len());
            head(command.as_bytes()).map(|head| head.name)
        };
        assert_eq!(named("HGET"), Some(Name::of("hget")));
        assert_eq!(named("hGeT"), Some(Name::of("hget")));
        assert_eq!(named("SISMEMBER"), Some(Name::of("sismember")));
        assert_eq!(named("HEXPIRES"), Some(Name::of("hexpires")));
        assert_ne!(named("sismembe"), Some(Name::of("sismember")));
        assert_ne!(named("SISMEMBEB"), Some(Name::of("sismember")));
        assert_ne!(named("\x08GET"), Some(Name::of("hget")));
        assert_ne!(named("HGE\x14"), Some(Name::of("hget")));
        assert_ne!(named("HGET\0"), Some(Name::of("hget")));
        assert_ne!(named("HGET "), Some(Name::of("hget")));
        assert_eq!(named("HRANDFIELD"), None);
    }

    proptest! {
        #[test]
        fn it_says_what_the_parser_says_or_nothing(
            a in proptest::collection::vec(any::<u8>(), 0..1100),
            b in proptest::collection::vec(any::<u8>(), 0..12),
            cut in any::<prop::sample::Index>(),
            other in any::<(prop::sample::Index, u8)>(),
            hurt in any::<bool>(),
        ) {
            let mut command = format!("*3\r\n$4\r\nhGet\r\n${}\r\n", a.len()).into_bytes();
            command.extend_from_slice(&a);
            command.extend_from_slice(format!("\r\n${}\r\n", b.len()).as_bytes());
            command.extend_from_slice(&b);
            command.extend_from_slice(b"\r\n*1\r\n$4\r\nPING\r\n");
            if hurt {
                let at = other.0.index(command.len());
                command[at] = other.1;
            }
            for input in [&command[..], &command[..cut.index(command.len())]] {
                if let Some((words, len)) = read(input) {
                    let (all, consumed) = parsed(input).expect("the parser takes it, too");
                    prop_assert_eq!(len, consumed);
                    prop_assert!(all[0].eq_ignore_ascii_case(b"hget"));
                    prop_assert_eq!(&words[..], &all[1..]);
                }
            }
            if !hurt && a.len() < 1000 {
                prop_assert!(read(&command).is_some(), "a whole command is read");
            }
        }
    }
}
