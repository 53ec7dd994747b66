//! The binary encoding: headers, opcodes and statuses as values.
//!
//! ```text
//!        0       1       2       3
//!   0 | magic | opcode|   key length  |
//!   4 | extras|  type | vbucket/status|
//!   8 |          body length          |   body = extras, key, value
//!  12 |            opaque             |   copied into the reply as it is
//!  16 |             CAS               |
//!  20 |                               |
//! ```
//! All numbers are big-endian. Must hold: a header is judged before its body is waited for, and a
//! judgement says how many bytes of body remain to be discarded. Called by the session.

use crate::limits::{BINARY_HEADER_LEN_BYTES, KEY_LEN_BYTES_MAX};

/// First byte of every request.
pub const MAGIC_REQUEST: u8 = 0x80;
/// First byte of every reply.
pub const MAGIC_REPLY: u8 = 0x81;

/// What an opcode does; its quiet twin is the same command with [`Header::quiet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// 0x00, quiet 0x09.
    Get,
    /// 0x0c, quiet 0x0d.
    GetK,
    /// 0x1d, quiet 0x1e.
    Gat,
    /// 0x23, quiet 0x24.
    GatK,
    /// 0x1c.
    Touch,
    /// 0x01, quiet 0x11.
    Set,
    /// 0x02, quiet 0x12.
    Add,
    /// 0x03, quiet 0x13.
    Replace,
    /// 0x0e, quiet 0x19.
    Append,
    /// 0x0f, quiet 0x1a.
    Prepend,
    /// 0x04, quiet 0x14.
    Delete,
    /// 0x05, quiet 0x15.
    Increment,
    /// 0x06, quiet 0x16.
    Decrement,
    /// 0x07, quiet 0x17.
    Quit,
    /// 0x08, quiet 0x18.
    Flush,
    /// 0x0a.
    Noop,
    /// 0x0b.
    Version,
    /// 0x10.
    Stat,
    /// 0x1b.
    Verbosity,
    /// 0x20.
    SaslListMechs,
    /// 0x21.
    SaslAuth,
    /// 0x22.
    SaslStep,
}

impl Opcode {
    /// The command of an opcode byte and whether it is the quiet form.
    pub const fn from_byte(byte: u8) -> Option<(Self, bool)> {
        use Opcode::*;
        Some(match byte {
            0x00 => (Get, false),
            0x01 => (Set, false),
            0x02 => (Add, false),
            0x03 => (Replace, false),
            0x04 => (Delete, false),
            0x05 => (Increment, false),
            0x06 => (Decrement, false),
            0x07 => (Quit, false),
            0x08 => (Flush, false),
            0x09 => (Get, true),
            0x0a => (Noop, false),
            0x0b => (Version, false),
            0x0c => (GetK, false),
            0x0d => (GetK, true),
            0x0e => (Append, false),
            0x0f => (Prepend, false),
            0x10 => (Stat, false),
            0x11 => (Set, true),
            0x12 => (Add, true),
            0x13 => (Replace, true),
            0x14 => (Delete, true),
            0x15 => (Increment, true),
            0x16 => (Decrement, true),
            0x17 => (Quit, true),
            0x18 => (Flush, true),
            0x19 => (Append, true),
            0x1a => (Prepend, true),
            0x1b => (Verbosity, false),
            0x1c => (Touch, false),
            0x1d => (Gat, false),
            0x1e => (Gat, true),
            0x20 => (SaslListMechs, false),
            0x21 => (SaslAuth, false),
            0x22 => (SaslStep, false),
            0x23 => (GatK, false),
            0x24 => (GatK, true),
            _ => return None,
        })
    }

    /// Whether key, extras and value of a request have the lengths this command takes.
    fn takes(self, extras: usize, key: usize, value: usize) -> bool {
        use Opcode::*;
        match self {
            Get | GetK | Delete => extras == 0 && key > 0 && value == 0,
            Gat | GatK | Touch => extras == 4 && key > 0 && value == 0,
            Set | Add | Replace => extras == 8 && key > 0,
            Append | Prepend => extras == 0 && key > 0,
            Increment | Decrement => extras == 20 && key > 0 && value == 0,
            Quit | Noop | Version | SaslListMechs => extras == 0 && key == 0 && value == 0,
            Flush => (extras == 0 || extras == 4) && key == 0 && value == 0,
            Verbosity => extras == 4 && key == 0 && value == 0,
            Stat => extras == 0 && value == 0,
            SaslAuth | SaslStep => extras == 0 && key > 0,
        }
    }

    /// Whether a value follows the key.
    pub const fn has_value(self) -> bool {
        use Opcode::*;
        matches!(self, Set | Add | Replace | Append | Prepend | SaslAuth | SaslStep)
    }

    /// Whether it may be used before authentication.
    pub const fn before_authentication(self) -> bool {
        use Opcode::*;
        matches!(self, SaslListMechs | SaslAuth | SaslStep | Version)
    }
}

/// Reply statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Status {
    /// Done.
    Ok = 0x00,
    /// No such key.
    KeyNotFound = 0x01,
    /// The key is there, or its CAS token is another.
    KeyExists = 0x02,
    /// The value does not fit.
    TooLarge = 0x03,
    /// The request is malformed.
    Invalid = 0x04,
    /// A condition did not hold.
    NotStored = 0x05,
    /// The value is not a number.
    NotNumeric = 0x06,
    /// Authentication failed or is missing.
    AuthError = 0x20,
    /// Authentication goes on.
    AuthContinue = 0x21,
    /// No such opcode.
    UnknownCommand = 0x81,
    /// The store has no room.
    OutOfMemory = 0x82,
    /// The backend cannot do this.
    NotSupported = 0x83,
    /// Something failed inside.
    Internal = 0x84,
    /// Try again.
    Busy = 0x85,
}

impl Status {
    /// The text that goes with an error.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Ok => "",
            Self::KeyNotFound => "Not found",
            Self::KeyExists => "Data exists for key.",
            Self::TooLarge => "Too large.",
            Self::Invalid => "Invalid arguments",
            Self::NotStored => "Not stored.",
            Self::NotNumeric => "Non-numeric server-side value for incr or decr",
            Self::AuthError => "Auth failure.",
            Self::AuthContinue => "",
            Self::UnknownCommand => "Unknown command",
            Self::OutOfMemory => "Out of memory",
            Self::NotSupported => "Not supported",
            Self::Internal => "Internal error",
            Self::Busy => "Temporary failure",
        }
    }
}

/// A request header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The opcode byte as sent: a reply repeats it.
    pub opcode_byte: u8,
    /// Bytes of key.
    pub key_len: u16,
    /// Bytes of extras.
    pub extras_len: u8,
    /// Bytes of extras, key and value together.
    pub body_len: u32,
    /// Copied into the reply.
    pub opaque: u32,
    /// The CAS token to compare, 0 for none.
    pub cas: u64,
}

/// What to do with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A good request for this command; `true`: quiet.
    Request(Opcode, bool),
    /// Answer this status, discard the body, go on.
    Refuse(Status),
    /// Answer this status and close: the lengths cannot be believed.
    RefuseAndClose(Status),
}

impl Header {
    /// Reads a header. `None`: the first byte is not that of a request.
    pub fn read(bytes: &[u8; BINARY_HEADER_LEN_BYTES]) -> Option<Self> {
        let u16_at = |i: usize| u16::from_be_bytes([bytes[i], bytes[i + 1]]);
        let u32_at =
            |i: usize| u32::from_be_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        (bytes[0] == MAGIC_REQUEST).then(|| Self {
            opcode_byte: bytes[1],
            key_len: u16_at(2),
            extras_len: bytes[4],
            body_len: u32_at(8),
            opaque: u32_at(12),
            cas: u64::from(u32_at(16)) << 32 | u64::from(u32_at(20)),
        })
    }

    /// Bytes of extras and key.
    pub const fn prefix_len(&self) -> usize {
        self.extras_len as usize + self.key_len as usize
    }

    /// Bytes of value; only meaningful once judged.
    pub const fn value_len(&self) -> u32 {
        self.body_len.saturating_sub(self.prefix_len() as u32)
    }

    /// Judges the request by its header alone.
    pub fn judge(&self) -> Verdict {
        if self.prefix_len() as u64 > u64::from(self.body_len) {
            return Verdict::RefuseAndClose(Status::UnknownCommand);
        }
        let Some((opcode, quiet)) = Opcode::from_byte(self.opcode_byte) else {
            return Verdict::Refuse(Status::UnknownCommand);
        };
        let key_len = usize::from(self.key_len);
        let fits = key_len <= KEY_LEN_BYTES_MAX;
        if !fits || !opcode.takes(usize::from(self.extras_len), key_len, self.value_len() as usize)
        {
            return Verdict::RefuseAndClose(Status::Invalid);
        }
        Verdict::Request(opcode, quiet)
    }
}

/// A reply header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The opcode byte of the request.
    pub opcode_byte: u8,
    /// How it went.
    pub status: Status,
    /// Bytes of extras.
    pub extras_len: u8,
    /// Bytes of key.
    pub key_len: u16,
    /// Bytes of extras, key and value together.
    pub body_len: u32,
    /// The request's.
    pub opaque: u32,
    /// The item's CAS token, 0 for none.
    pub cas: u64,
}

impl Reply {
    /// The header's bytes.
    pub fn bytes(&self) -> [u8; BINARY_HEADER_LEN_BYTES] {
        let mut b = [0; BINARY_HEADER_LEN_BYTES];
        b[0] = MAGIC_REPLY;
        b[1] = self.opcode_byte;
        b[2..4].copy_from_slice(&self.key_len.to_be_bytes());
        b[4] = self.extras_len;
        b[6..8].copy_from_slice(&(self.status as u16).to_be_bytes());
        b[8..12].copy_from_slice(&self.body_len.to_be_bytes());
        b[12..16].copy_from_slice(&self.opaque.to_be_bytes());
        b[16..24].copy_from_slice(&self.cas.to_be_bytes());
        b
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(opcode: u8, extras: u8, key: u16, body: u32) -> Header {
        Header {
            opcode_byte: opcode,
            key_len: key,
            extras_len: extras,
            body_len: body,
            opaque: 7,
            cas: 9,
        }
    }

    #[test]
    fn a_header_is_read_big_endian() {
        let mut b = [0u8; 24];
        b[0] = 0x80;
        b[1] = 0x01;
        b[3] = 3;
        b[4] = 8;
        b[11] = 15;
        b[12..16].copy_from_slice(&[1, 2, 3, 4]);
        b[23] = 5;
        let h = Header::read(&b).unwrap();
        assert_eq!(
            (h.key_len, h.extras_len, h.body_len, h.opaque, h.cas),
            (3, 8, 15, 0x0102_0304, 5)
        );
        assert_eq!(h.value_len(), 4);
        assert_eq!(h.judge(), Verdict::Request(Opcode::Set, false));
        b[0] = 0x81;
        assert_eq!(Header::read(&b), None);
    }

    #[test]
    fn a_header_is_judged_before_its_body() {
        use Verdict::*;
        assert_eq!(header(0x00, 0, 5, 5).judge(), Request(Opcode::Get, false));
        assert_eq!(header(0x0d, 0, 5, 5).judge(), Request(Opcode::GetK, true));
        assert_eq!(header(0x00, 0, 0, 0).judge(), RefuseAndClose(Status::Invalid));
        assert_eq!(header(0x00, 0, 251, 251).judge(), RefuseAndClose(Status::Invalid));
        assert_eq!(header(0x00, 0, 250, 250).judge(), Request(Opcode::Get, false));
        assert_eq!(header(0x00, 0, 5, 4).judge(), RefuseAndClose(Status::UnknownCommand));
        assert_eq!(header(0x7f, 0, 5, 900).judge(), Refuse(Status::UnknownCommand));
        assert_eq!(header(0x01, 8, 5, u32::MAX).judge(), Request(Opcode::Set, false));
        assert_eq!(header(0x05, 19, 5, 24).judge(), RefuseAndClose(Status::Invalid));
    }

    #[test]
    fn every_opcode_byte_maps_to_one_command() {
        let known: Vec<u8> = (0..=255).filter(|b| Opcode::from_byte(*b).is_some()).collect();
        let mut want: Vec<u8> = (0x00..=0x1e).collect();
        want.extend([0x20, 0x21, 0x22, 0x23, 0x24]);
        assert_eq!(known, want);
    }

    proptest! {
        #[test]
        fn random_headers_never_panic(bytes: [u8; 24]) {
            let mut bytes = bytes;
            bytes[0] = MAGIC_REQUEST;
            let h = Header::read(&bytes).unwrap();
            let _ = (h.judge(), h.value_len());
        }
    }
}
