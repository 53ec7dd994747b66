//! As much RESP as a generator needs: commands out, the length of a reply in.
//! Written apart from the server's codec, so that a mistake shared with it cannot hide.

/// Appends a command as an array of bulk strings.
pub(crate) fn push_command<W: AsRef<[u8]>>(out: &mut Vec<u8>, words: &[W]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        push_bulk(out, word.as_ref());
    }
}

/// Appends one bulk string.
pub(crate) fn push_bulk(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(format!("${}\r\n", value.len()).as_bytes());
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Bytes of the first whole reply in `bytes`; nothing while it is not whole. An error reply, at
/// the top or inside an array, is an error with its text.
pub(crate) fn reply_len(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(line_end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return Ok(None);
    };
    let (line, body) = (&bytes[..line_end], line_end + 2);
    let text = || String::from_utf8_lossy(line).into_owned();
    let number = || text()[1..].parse::<i64>().map_err(|_| format!("no number in {:?}", text()));
    match bytes[0] {
        b'+' | b':' | b'_' | b'#' | b',' | b'(' => Ok(Some(body)),
        b'-' => Err(text()[1..].to_owned()),
        b'$' | b'=' => Ok(match number()? {
            len if len < 0 => Some(body),
            len => Some(body + len as usize + 2).filter(|end| *end <= bytes.len()),
        }),
        b'*' | b'%' | b'~' | b'>' => {
            let count = number()?.max(0) * if bytes[0] == b'%' { 2 } else { 1 };
            let mut at = body;
            for _ in 0..count {
                match bytes.get(at..).filter(|rest| !rest.is_empty()) {
                    Some(rest) => match reply_len(rest)? {
                        Some(len) => at += len,
                        None => return Ok(None),
                    },
                    None => return Ok(None),
                }
            }
            Ok(Some(at))
        }
        other => Err(format!("a reply cannot start with byte {other:#04x}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_whole_only_with_its_last_byte() {
        let replies: [&[u8]; 8] = [
            b"+OK\r\n",
            b":12\r\n",
            b"$-1\r\n",
            b"$0\r\n\r\n",
            b"$4\r\na\r\nb\r\n",
            b"*0\r\n",
            b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
            b"%1\r\n+a\r\n_\r\n",
        ];
        for reply in replies {
            for end in 0..reply.len() {
                assert_eq!(reply_len(&reply[..end]), Ok(None), "{reply:?} cut at {end}");
            }
            let followed = [reply, b"+next\r\n"].concat();
            assert_eq!(reply_len(&followed), Ok(Some(reply.len())), "{reply:?}");
        }
    }

    #[test]
    fn an_error_reply_is_an_error_wherever_it_stands() {
        assert_eq!(reply_len(b"-ERR no\r\n"), Err("ERR no".to_owned()));
        assert_eq!(reply_len(b"*1\r\n-ERR no\r\n"), Err("ERR no".to_owned()));
        assert!(reply_len(b"hello\r\n").is_err());
    }
}
