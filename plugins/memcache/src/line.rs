//! Finding one command line, and the words in it.
//!
//! Must hold: a byte is searched for its line end once, however many receives a line takes; a
//! line that never ends is not waited for beyond its limit. A line ends at `\n`; one `\r` before it
//! is dropped, unless it is the whole line; a NUL ends the command early, as it does in memcached.
//! Called by the session for the text encoding.

use crate::limits::{LINE_LEADING_SPACES_MAX, LINE_LEN_BYTES_MAX};

/// What the start of the input holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A whole line, without its end, and how many bytes of input it took.
    Whole {
        /// The command.
        line: &'a [u8],
        /// Bytes of input to consume.
        used: usize,
    },
    /// No end yet: wait for more, and search only from here on.
    Partial {
        /// Bytes already searched.
        scanned: usize,
    },
    /// No end within the limit: close the connection.
    Endless,
}

/// Looks for a line at the start of `input`, of which `scanned` bytes are known to hold no `\n`.
pub fn find(input: &[u8], scanned: usize, multiget_len_max: usize) -> Line<'_> {
    let from = scanned.min(input.len());
    let Some(at) = memchr::memchr(b'\n', &input[from..]) else {
        return if endless(input, multiget_len_max) {
            Line::Endless
        } else {
            Line::Partial { scanned: input.len() }
        };
    };
    let newline = from + at;
    let mut end = newline;
    if end > 1 && input[end - 1] == b'\r' {
        end -= 1;
    }
    let line = &input[..end];
    let line = memchr::memchr(0, line).map_or(line, |nul| &line[..nul]);
    Line::Whole { line, used: newline + 1 }
}

fn endless(input: &[u8], multiget_len_max: usize) -> bool {
    if input.len() <= LINE_LEN_BYTES_MAX {
        return false;
    }
    let command = input.trim_ascii_start_spaces();
    let multiget = command.starts_with(b"get ") || command.starts_with(b"gets ");
    input.len() - command.len() > LINE_LEADING_SPACES_MAX
        || !multiget
        || input.len() > multiget_len_max
}

trait TrimSpaces {
    fn trim_ascii_start_spaces(&self) -> &[u8];
}

impl TrimSpaces for [u8] {
    fn trim_ascii_start_spaces(&self) -> &[u8] {
        &self[self.iter().take_while(|b| **b == b' ').count()..]
    }
}

/// The words of a line, separated by runs of spaces only: a tab or a `\r` is part of a word.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    /// The words of `line`.
    pub const fn new(line: &'a [u8]) -> Self {
        Self { rest: line }
    }

    /// What has not been read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let from = self.rest.iter().position(|b| *b != b' ')?;
        let rest = &self.rest[from..];
        let len = rest.iter().position(|b| *b == b' ').unwrap_or(rest.len());
        let (word, rest) = rest.split_at(len);
        self.rest = rest;
        Some(word)
    }
}

/// The first words of a line, at most `N`, and whether there were more.
pub struct Split<'a, const N: usize> {
    words: [&'a [u8]; N],
    len: usize,
    /// Words beyond `N` exist.
    pub more: bool,
}

impl<'a, const N: usize> Split<'a, N> {
    /// Splits `line`.
    pub fn new(line: &'a [u8]) -> Self {
        let mut it = Words::new(line);
        let mut words: [&'a [u8]; N] = [&[]; N];
        let mut len = 0;
        while len < N {
            let Some(word) = it.next() else { return Self { words, len, more: false } };
            words[len] = word;
            len += 1;
        }
        Self { words, len, more: it.next().is_some() }
    }

    /// The words.
    pub fn get(&self) -> &[&'a [u8]] {
        &self.words[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(line: &[u8], used: usize) -> Line<'_> {
        Line::Whole { line, used }
    }

    #[test]
    fn a_line_ends_at_newline_and_drops_one_cr() {
        assert_eq!(find(b"get a\r\nrest", 0, 9), whole(b"get a", 7));
        assert_eq!(find(b"get a\n", 0, 9), whole(b"get a", 6));
        assert_eq!(find(b"get a\r\r\n", 0, 9), whole(b"get a\r", 8));
        assert_eq!(find(b"\r\n", 0, 9), whole(b"\r", 2));
        assert_eq!(find(b"\n", 0, 9), whole(b"", 1));
        assert_eq!(find(b"get a\0b\r\n", 0, 9), whole(b"get a", 9));
    }

    #[test]
    fn a_partial_line_is_not_searched_twice() {
        assert_eq!(find(b"get a", 0, 9), Line::Partial { scanned: 5 });
        // A newline below `scanned` would be found if it were looked at again.
        assert_eq!(find(b"ge\n a", 5, 9), Line::Partial { scanned: 5 });
        assert_eq!(find(b"get a\r\n", 5, 9), whole(b"get a", 7));
    }

    #[test]
    fn an_endless_line_is_not_waited_for_unless_it_is_a_multiget() {
        let long = |start: &str, len: usize| {
            let mut v = start.as_bytes().to_vec();
            v.resize(len, b'x');
            v
        };
        assert_eq!(find(&long("set ", 2048), 0, 9999), Line::Partial { scanned: 2048 });
        assert_eq!(find(&long("set ", 2049), 0, 9999), Line::Endless);
        assert_eq!(find(&long("get ", 9999), 0, 9999), Line::Partial { scanned: 9999 });
        assert_eq!(find(&long("gets ", 10_000), 0, 9999), Line::Endless);
        assert_eq!(find(&long("gat 1 ", 3000), 0, 9999), Line::Endless);
        assert_eq!(find(&long(&" ".repeat(100), 3000), 0, 9999), Line::Endless);
        assert_eq!(
            find(&long(&(" ".repeat(100) + "get "), 3000), 0, 9999),
            Line::Partial { scanned: 3000 }
        );
    }

    #[test]
    fn words_are_split_at_spaces_alone() {
        let words: Vec<_> = Words::new(b"  a  b\tc \rd ").collect();
        assert_eq!(words, [&b"a"[..], b"b\tc", b"\rd"]);
        let s = Split::<2>::new(b"a b c");
        assert_eq!((s.get(), s.more), (&[&b"a"[..], b"b"][..], true));
        assert!(!Split::<2>::new(b"a b ").more);
    }
}
