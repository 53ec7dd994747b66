//! Rust text with comments and literals blanked out, so that a word found in it is code.
//! Lines and columns stay where they were. Not a parser: it knows only what can hide a word
//! (comments, nested or not; strings, raw, byte and C; characters against lifetimes).

/// The source with every comment, string and character literal replaced by spaces.
pub(crate) fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'\'' => match char_literal_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            byte if is_word(byte) => {
                let word = word_end(bytes, at);
                match raw_string_end(bytes, at, word) {
                    Some(end) => end,
                    None => {
                        at = word;
                        continue;
                    }
                }
            }
            _ => {
                at += 1;
                continue;
            }
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(out).expect("only whole literals are blanked")
}

/// Lines, from 1, on which `word` stands as a word of its own followed by `next` (blanks between).
pub(crate) fn lines_with(code: &str, word: &str, next: &str) -> Vec<usize> {
    let mut lines = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut from = 0;
        while let Some(found) = line[from..].find(word) {
            let start = from + found;
            let end = start + word.len();
            let before = line[..start].bytes().next_back().is_some_and(is_word);
            let after = line[end..].bytes().next().is_some_and(is_word);
            if !before && !after && line[end..].trim_start().starts_with(next) {
                lines.push(index + 1);
                break;
            }
            from = end;
        }
    }
    lines
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn word_end(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().take_while(|byte| is_word(**byte)).count()
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().take_while(|byte| **byte != b'\n').count()
}

fn block_comment_end(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0;
    let mut at = at;
    while at < bytes.len() {
        match &bytes[at..bytes.len().min(at + 2)] {
            b"/*" => {
                depth += 1;
                at += 2;
            }
            b"*/" => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of a raw string whose prefix is the word `bytes[at..word]`, if that is what it is.
fn raw_string_end(bytes: &[u8], at: usize, word: usize) -> Option<usize> {
    if !matches!(&bytes[at..word], b"r" | b"br" | b"cr") {
        return None;
    }
    let hashes = bytes[word..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(word + hashes) != Some(&b'"') {
        return None;
    }
    let body = word + hashes + 1;
    let closing: Vec<u8> = [&b"\""[..], &vec![b'#'; hashes]].concat();
    let found = bytes[body..].windows(closing.len()).position(|window| window == closing);
    Some(found.map_or(bytes.len(), |found| body + found + closing.len()))
}

/// The end of a character literal, or nothing when the quote opens a lifetime or a label.
fn char_literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    match *bytes.get(at + 1)? {
        b'\\' => {
            let from = at + 3;
            let close = bytes.get(from..)?.iter().position(|byte| *byte == b'\'')?;
            Some(from + close + 1)
        }
        first => {
            let len = match first {
                0x00..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
            (bytes.get(at + 1 + len) == Some(&b'\'')).then_some(at + len + 2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_comments_and_literals_are_blank() {
        let hidden = [
            "// unsafe",
            "/* unsafe /* nested */ unsafe */",
            "\"unsafe \\\" unsafe\"",
            "r#\"unsafe \" unsafe\"#",
            "b\"unsafe\"",
            "br##\"unsafe\"#unsafe\"##",
            "//! unsafe",
        ];
        for text in hidden {
            let code = code_only(&format!("let a = 1; {text}\nlet b = 2;"));
            assert!(lines_with(&code, "unsafe", "").is_empty(), "{text} gave {code}");
            assert!(code.contains("let a = 1;") && code.contains("let b = 2;"), "{text}");
        }
    }

    #[test]
    fn characters_and_lifetimes_are_told_apart() {
        let code = code_only(
            "fn f<'a>(x: &'a str) -> char { if x == '\"' { '\\'' } else { 'é' } } unsafe {}",
        );
        assert_eq!(lines_with(&code, "unsafe", "{"), [1]);
        assert!(code.contains("<'a>") && code.contains("&'a str") && !code.contains('é'));
    }

    #[test]
    fn a_word_inside_a_longer_word_does_not_count() {
        let code = code_only("#![deny(unsafe_code)]\nlet not_unsafe = 1;\nunsafe { x() }\n");
        assert_eq!(lines_with(&code, "unsafe", ""), [3]);
    }

    #[test]
    fn a_macro_is_a_word_with_its_bang() {
        let code = code_only("let todo = 1;\ntodo !(x);\nmy_todo!(1);");
        assert_eq!(lines_with(&code, "todo", "!"), [2]);
    }
}
