//! Inline requests: a line of words, with quotes and escapes as redis-cli and telnet users write
//! them. Called by the frame parser with a line whose end has been cut off.
//!
//! A word may be plain, `"double quoted"` with `\n \r \t \b \a \\ \" \xHH`, or `'single quoted'`
//! with `\'`. A closing quote must end the word. A NUL byte ends the line.

use super::{FrameError, Span};

/// Blanks between words (what C calls space).
fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn until_nul(line: &[u8]) -> &[u8] {
    &line[..memchr::memchr(0, line).unwrap_or(line.len())]
}

/// Whether any word has to be rewritten.
pub(super) fn is_quoted(line: &[u8]) -> bool {
    memchr::memchr2(b'"', b'\'', until_nul(line)).is_some()
}

/// Cuts a line without quotes; the spans are of the line itself.
pub(super) fn split_plain(line: &[u8], spans: &mut Vec<Span>) {
    let line = until_nul(line);
    let mut at = 0;
    while at < line.len() {
        if is_blank(line[at]) {
            at += 1;
            continue;
        }
        let len = line[at..].iter().position(|b| is_blank(*b)).unwrap_or(line.len() - at);
        spans.push(Span { start: at as u32, len: len as u32 });
        at += len;
    }
}

/// Cuts a line with quotes; the words are written to `out`, and the spans are of `out`.
pub(super) fn split_quoted(
    line: &[u8],
    out: &mut Vec<u8>,
    spans: &mut Vec<Span>,
) -> Result<(), FrameError> {
    let line = until_nul(line);
    let mut at = 0;
    loop {
        while at < line.len() && is_blank(line[at]) {
            at += 1;
        }
        if at == line.len() {
            return Ok(());
        }
        let start = out.len();
        at = word(line, at, out).inspect_err(|_| spans.clear())?;
        spans.push(Span { start: start as u32, len: (out.len() - start) as u32 });
    }
}

/// Writes the word that begins at `at` to `out`; returns where it ends.
fn word(line: &[u8], mut at: usize, out: &mut Vec<u8>) -> Result<usize, FrameError> {
    while at < line.len() && !is_blank(line[at]) {
        match line[at] {
            quote @ (b'"' | b'\'') => {
                at = quoted(line, at + 1, quote, out)?;
                return match line.get(at) {
                    Some(b) if !is_blank(*b) => Err(FrameError::UnbalancedQuotes),
                    _ => Ok(at),
                };
            }
            b => {
                out.push(b);
                at += 1;
            }
        }
    }
    Ok(at)
}

/// Writes the inside of a quoted part; returns the position behind the closing quote.
fn quoted(line: &[u8], mut at: usize, quote: u8, out: &mut Vec<u8>) -> Result<usize, FrameError> {
    loop {
        match &line[at..] {
            [] => return Err(FrameError::UnbalancedQuotes),
            [b'\\', b'x', h, l, ..]
                if quote == b'"' && h.is_ascii_hexdigit() && l.is_ascii_hexdigit() =>
            {
                out.push(hex(*h) << 4 | hex(*l));
                at += 4;
            }
            [b'\\', c, ..] if quote == b'"' => {
                out.push(match c {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                at += 2;
            }
            [b'\\', b'\'', ..] if quote == b'\'' => {
                out.push(b'\'');
                at += 2;
            }
            [b, ..] if *b == quote => return Ok(at + 1),
            [b, ..] => {
                out.push(*b);
                at += 1;
            }
        }
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}
