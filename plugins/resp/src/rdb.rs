//! Values in the format of snapshots, as DUMP and RESTORE exchange them: strings only.
//!
//! ```text
//!  type 0 | string | version u16 | crc64 (Jones, reflected) of everything before it
//!  string = 00xxxxxx | 01xxxxxx xxxxxxxx | 10000000 u32be | 10000001 u64be   length, then bytes
//!         | 11000000 i8 | 11000001 i16 | 11000010 i32                        integers
//!         | 11000011 clen ulen lzf-bytes                                     compressed
//! ```

use crate::number::parse_i64;

/// The version written (Redis 7.0 reads up to 10).
const VERSION: u16 = 10;

/// Newest version that is read.
const VERSION_MAX: u16 = 12;

/// Longest value that is unpacked, in bytes.
const VALUE_LEN_BYTES_MAX: u64 = 512 << 20;

/// Why a payload is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Version or checksum do not fit.
    #[error("ERR DUMP payload version or checksum are wrong")]
    Checksum,
    /// The contents make no sense, or are no string.
    #[error("ERR Bad data format")]
    Format,
}

const fn crc_table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let (mut crc, mut bit) = (i as u64, 0);
        while bit < 8 {
            // The Jones polynomial 0xad93d23594c935a9, reflected.
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x95ac_9329_ac4b_c9b5 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

static CRC_TABLE: [u64; 256] = crc_table();

fn crc64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |crc, b| CRC_TABLE[((crc ^ u64::from(*b)) & 0xff) as usize] ^ crc >> 8)
}

/// Serializes a value.
pub fn dump(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + 32);
    out.push(0);
    match parse_i64(value) {
        Some(n) if value.len() <= 11 && i32::try_from(n).is_ok() => {
            if let Ok(n) = i8::try_from(n) {
                out.push(0xc0);
                out.extend_from_slice(&n.to_le_bytes());
            } else if let Ok(n) = i16::try_from(n) {
                out.push(0xc1);
                out.extend_from_slice(&n.to_le_bytes());
            } else {
                out.push(0xc2);
                out.extend_from_slice(&(n as i32).to_le_bytes());
            }
        }
        _ => {
            match value.len() {
                n @ 0..64 => out.push(n as u8),
                n @ 64..16384 => out.extend_from_slice(&(0x4000 | n as u16).to_be_bytes()),
                n => {
                    out.push(0x80);
                    out.extend_from_slice(&(n as u32).to_be_bytes());
                }
            }
            out.extend_from_slice(value);
        }
    }
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&crc64(&out).to_le_bytes());
    out
}

/// Reads a payload back.
pub fn load(payload: &[u8]) -> Result<Vec<u8>, LoadError> {
    let (body, crc) = payload.split_last_chunk::<8>().ok_or(LoadError::Checksum)?;
    let (data, version) = body.split_last_chunk::<2>().ok_or(LoadError::Checksum)?;
    if u16::from_le_bytes(*version) > VERSION_MAX {
        return Err(LoadError::Checksum);
    }
    // A zero checksum means that the sender does not compute any.
    if u64::from_le_bytes(*crc) != 0 && u64::from_le_bytes(*crc) != crc64(body) {
        return Err(LoadError::Checksum);
    }
    match data {
        [0, string @ ..] => {
            let mut rest = string;
            let value = read_string(&mut rest)?;
            if rest.is_empty() { Ok(value) } else { Err(LoadError::Format) }
        }
        _ => Err(LoadError::Format),
    }
}

fn take<'a>(rest: &mut &'a [u8], n: u64) -> Result<&'a [u8], LoadError> {
    let n = usize::try_from(n).map_err(|_| LoadError::Format)?;
    let (head, tail) = rest.split_at_checked(n).ok_or(LoadError::Format)?;
    *rest = tail;
    Ok(head)
}

fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// Reads a length; `Err(kind)` inside: a special encoding.
fn read_len(rest: &mut &[u8]) -> Result<Result<u64, u8>, LoadError> {
    let first = take(rest, 1)?[0];
    Ok(match first >> 6 {
        0 => Ok(u64::from(first & 0x3f)),
        1 => Ok(u64::from(first & 0x3f) << 8 | u64::from(take(rest, 1)?[0])),
        2 if first == 0x80 => Ok(be(take(rest, 4)?)),
        2 if first == 0x81 => Ok(be(take(rest, 8)?)),
        2 => return Err(LoadError::Format),
        _ => Err(first & 0x3f),
    })
}

fn read_plain_len(rest: &mut &[u8]) -> Result<u64, LoadError> {
    read_len(rest)?.map_err(|_| LoadError::Format)
}

fn read_string(rest: &mut &[u8]) -> Result<Vec<u8>, LoadError> {
    let int = |bytes: &[u8]| {
        let sign_bits = 64 - 8 * bytes.len() as u32;
        let raw = bytes.iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
        ((raw << sign_bits) as i64 >> sign_bits).to_string().into_bytes()
    };
    match read_len(rest)? {
        Ok(n) => Ok(take(rest, n)?.to_vec()),
        Err(0) => Ok(int(take(rest, 1)?)),
        Err(1) => Ok(int(take(rest, 2)?)),
        Err(2) => Ok(int(take(rest, 4)?)),
        Err(3) => {
            let (packed_len, len) = (read_plain_len(rest)?, read_plain_len(rest)?);
            unpack(take(rest, packed_len)?, len)
        }
        Err(_) => Err(LoadError::Format),
    }
}

/// Unpacks LZF: runs of literals, and references up to 8 KiB back.
fn unpack(mut packed: &[u8], len: u64) -> Result<Vec<u8>, LoadError> {
    if len > VALUE_LEN_BYTES_MAX || len > packed.len() as u64 * 264 {
        return Err(LoadError::Format);
    }
    let mut out = Vec::new();
    while !packed.is_empty() {
        let control = take(&mut packed, 1)?[0];
        if control < 32 {
            out.extend_from_slice(take(&mut packed, u64::from(control) + 1)?);
            continue;
        }
        let mut n = usize::from(control >> 5);
        if n == 7 {
            n += usize::from(take(&mut packed, 1)?[0]);
        }
        let back = usize::from(control & 0x1f) << 8 | usize::from(take(&mut packed, 1)?[0]);
        let from = out.len().checked_sub(back + 1).ok_or(LoadError::Format)?;
        for i in 0..n + 2 {
            let byte = out[from + i];
            out.push(byte);
        }
        if out.len() as u64 > len {
            return Err(LoadError::Format);
        }
    }
    if out.len() as u64 == len { Ok(out) } else { Err(LoadError::Format) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn a_payload_of_redis_is_read() {
        // What Redis 7.0 answers to DUMP of "hello" and of "10".
        let hello = dump(b"hello");
        assert_eq!(hello[..8], *b"\x00\x05hello\x0a");
        assert_eq!(dump(b"10")[..5], *b"\x00\xc0\x0a\x0a\x00");
        assert_eq!(load(&dump(b"-70000")).unwrap(), b"-70000");
    }

    #[test]
    fn compressed_strings_unpack() {
        // 'a' and a reference one back, fourteen long: fifteen times a.
        assert_eq!(unpack(b"\x00a\xe0\x05\x00", 15).unwrap(), b"a".repeat(15));
        assert_eq!(unpack(b"\x00a\xe0\x05\x01", 15), Err(LoadError::Format));
        assert_eq!(unpack(b"\x00a", 1 << 40), Err(LoadError::Format));
    }

    proptest! {
        #[test]
        fn what_was_dumped_is_loaded(value in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(load(&dump(&value)).unwrap(), value);
        }

        #[test]
        fn damaged_payloads_are_refused_without_panic(
            value in prop::collection::vec(any::<u8>(), 0..100), at in 0usize..120, flip in 1u8..,
        ) {
            let mut payload = dump(&value);
            let at = at % payload.len();
            payload[at] ^= flip;
            prop_assert!(load(&payload).is_err());
        }
    }
}
