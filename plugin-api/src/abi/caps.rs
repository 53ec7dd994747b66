//! What a backend can do, as bits that a protocol may ask for at start.

use abi_stable::StableAbi;

use super::op::OpCode;

/// What a backend offers. Asked once, when it was created.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Capabilities {
    /// See the constants.
    pub bits: u64,
    /// Bit `code & 63` of word `code >> 6` is set for each opcode served.
    pub opcodes: [u64; 4],
    /// Longest key, bytes.
    pub key_len_max: u32,
    /// Deadlines are kept to this many milliseconds.
    pub ttl_granularity_ms: u32,
    /// Longest value, bytes.
    pub value_len_max: u64,
    pub _rsv: [u64; 2],
}

impl Capabilities {
    /// CAS tokens change with every write.
    pub const CAS: u64 = 1;
    /// Client flags are kept.
    pub const FLAGS: u64 = 1 << 1;
    /// Deadlines are kept.
    pub const TTL: u64 = 1 << 2;
    /// Values can be retained and sent from where they lie.
    pub const RETAIN: u64 = 1 << 3;
    /// Values can arrive in pieces, into the backend's memory.
    pub const RESERVE: u64 = 1 << 4;
    /// Items can be visited with a cursor.
    pub const SCAN: u64 = 1 << 5;
    /// The memory limit can change at run time.
    pub const MEM_RESIZE: u64 = 1 << 6;
    /// Operations may answer PENDING.
    pub const ASYNC: u64 = 1 << 7;
    /// Hashes, lists, sets, sorted sets.
    pub const HASH: u64 = 1 << 8;
    pub const LIST: u64 = 1 << 9;
    pub const SET: u64 = 1 << 10;
    pub const ZSET: u64 = 1 << 11;
    /// Several operations as one atomic step.
    pub const TRANSACT: u64 = 1 << 12;

    const NAMES: [(u64, &'static str); 13] = [
        (Self::CAS, "cas"),
        (Self::FLAGS, "flags"),
        (Self::TTL, "ttl"),
        (Self::RETAIN, "retain"),
        (Self::RESERVE, "reserve"),
        (Self::SCAN, "scan"),
        (Self::MEM_RESIZE, "mem-resize"),
        (Self::ASYNC, "async"),
        (Self::HASH, "hash"),
        (Self::LIST, "list"),
        (Self::SET, "set"),
        (Self::ZSET, "zset"),
        (Self::TRANSACT, "transact"),
    ];

    /// Every opcode of this version, with the given bits and limits.
    #[must_use]
    pub fn all_opcodes(bits: u64, key_len_max: u32, value_len_max: u64) -> Self {
        let mut caps = Self {
            bits,
            opcodes: [0; 4],
            key_len_max,
            ttl_granularity_ms: 1,
            value_len_max,
            _rsv: [0; 2],
        };
        for code in OpCode::ALL {
            caps.add(code);
        }
        caps
    }

    /// Marks an opcode as served.
    pub fn add(&mut self, code: OpCode) {
        if let Some(word) = self.opcodes.get_mut(usize::from(code.0 >> 6)) {
            *word |= 1 << (code.0 & 63);
        }
    }

    /// True when the opcode is served.
    #[must_use]
    pub fn serves(&self, code: OpCode) -> bool {
        self.opcodes.get(usize::from(code.0 >> 6)).is_some_and(|w| w >> (code.0 & 63) & 1 == 1)
    }

    /// True when all `bits` are offered.
    #[must_use]
    pub const fn has(&self, bits: u64) -> bool {
        self.bits & bits == bits
    }

    /// Names of the set bits, for people.
    #[must_use]
    pub fn names(bits: u64) -> Vec<&'static str> {
        Self::NAMES.iter().filter(|(b, _)| bits & b != 0).map(|(_, n)| *n).collect()
    }
}

const _: () = assert!(core::mem::size_of::<Capabilities>() == 72);
