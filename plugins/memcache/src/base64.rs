//! Base64 as the meta commands use it for binary keys.
//!
//! Decoding is as lenient as memcached's: bytes outside the alphabet are skipped, the rest must
//! come in fours with at most two `=` at the end. Encoding always pads.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

const fn sextet(b: u8) -> Option<u8> {
    match b {
        b'A'..=b'Z' => Some(b - b'A'),
        b'a'..=b'z' => Some(b - b'a' + 26),
        b'0'..=b'9' => Some(b - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        b'=' => Some(0),
        _ => None,
    }
}

/// Appends the decoded bytes to `out`. `None`, and `out` as it was, if `s` is not base64 or empty.
pub fn decode(s: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let before = out.len();
    let known = s.iter().filter(|b| sextet(**b).is_some()).count();
    if known == 0 || !known.is_multiple_of(4) {
        return None;
    }
    let (mut block, mut filled, mut pad) = (0u32, 0, 0);
    for b in s {
        let Some(six) = sextet(*b) else { continue };
        pad += usize::from(*b == b'=');
        block = block << 6 | u32::from(six);
        filled += 1;
        if filled == 4 {
            if pad > 2 {
                out.truncate(before);
                return None;
            }
            out.extend_from_slice(&block.to_be_bytes()[1..4 - pad]);
            if pad > 0 {
                break;
            }
            (block, filled) = (0, 0);
        }
    }
    Some(())
}

/// Appends the encoded form of `s`.
pub fn encode(s: &[u8], mut out: impl FnMut(&[u8])) {
    for chunk in s.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        let mut four = [b'='; 4];
        for (i, c) in four.iter_mut().enumerate().take(chunk.len() + 1) {
            *c = ALPHABET[(n >> (18 - 6 * i) & 63) as usize];
        }
        out(&four);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(s: &[u8]) -> Option<Vec<u8>> {
        let mut v = Vec::new();
        decode(s, &mut v).map(|()| v)
    }

    #[test]
    fn decoding_follows_memcached() {
        assert_eq!(decoded(b"Zm9vYmFyZ2F6").as_deref(), Some(&b"foobargaz"[..]));
        assert_eq!(decoded(b"Zg==").as_deref(), Some(&b"f"[..]));
        assert_eq!(decoded(b"Zm8=").as_deref(), Some(&b"fo"[..]));
        for bad in [&b"!!!!"[..], b"abc", b"=", b"====", b"A===", b""] {
            assert_eq!(decoded(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(s in proptest::collection::vec(any::<u8>(), 1..300)) {
            let mut text = Vec::new();
            encode(&s, |b| text.extend_from_slice(b));
            prop_assert_eq!(decoded(&text), Some(s));
        }

        #[test]
        fn random_bytes_never_panic(s: Vec<u8>) {
            let _ = decoded(&s);
        }
    }
}
