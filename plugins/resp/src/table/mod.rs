//! The command table: one row drives arity, key positions, dispatch, COMMAND and the start check.
//!
//! Every name a client may send is here, also those that this server only answers with an error;
//! [`Need`] says what a command asks of the backend. A name is found by its folded letters, as two
//! machine words, in a table that the compiler lays out.

pub mod describe;
pub mod key_specs;
mod rows;
mod subs;
mod syntax;

use crucible_plugin_api::Capabilities;

pub use rows::{Cmd, TABLE};

/// Facts about a command, as Redis names them (`COMMAND INFO`).
pub mod flag {
    /// Reads the store.
    pub const READONLY: u32 = 1;
    /// Changes the store.
    pub const WRITE: u32 = 1 << 1;
    /// May need memory.
    pub const DENYOOM: u32 = 1 << 2;
    /// For operators.
    pub const ADMIN: u32 = 1 << 3;
    /// Belongs to publish/subscribe.
    pub const PUBSUB: u32 = 1 << 4;
    /// Not for scripts.
    pub const NOSCRIPT: u32 = 1 << 5;
    /// May wait.
    pub const BLOCKING: u32 = 1 << 6;
    /// Allowed while loading.
    pub const LOADING: u32 = 1 << 7;
    /// Allowed on a stale replica.
    pub const STALE: u32 = 1 << 8;
    /// Not shown by MONITOR.
    pub const SKIP_MONITOR: u32 = 1 << 9;
    /// Not kept by SLOWLOG.
    pub const SKIP_SLOWLOG: u32 = 1 << 10;
    /// Needs ASKING.
    pub const ASKING: u32 = 1 << 11;
    /// Takes constant time.
    pub const FAST: u32 = 1 << 12;
    /// Allowed before AUTH.
    pub const NO_AUTH: u32 = 1 << 13;
    /// Key positions depend on the arguments.
    pub const MOVABLEKEYS: u32 = 1 << 14;
    /// Allowed while a script runs.
    pub const ALLOW_BUSY: u32 = 1 << 15;
    /// Not allowed while loading in the background.
    pub const NO_ASYNC_LOADING: u32 = 1 << 16;
    /// Not allowed in a transaction.
    pub const NO_MULTI: u32 = 1 << 17;
    /// May name no key at all.
    pub const NO_MANDATORY_KEYS: u32 = 1 << 18;
    /// Takes several steps that nobody may see half of: it runs while the store is its own. Ours;
    /// clients are not told.
    pub const ISOLATED: u32 = 1 << 19;

    /// Names in the order in which Redis lists them.
    pub(super) const NAMES: [(u32, &str); 19] = [
        (WRITE, "write"),
        (READONLY, "readonly"),
        (DENYOOM, "denyoom"),
        (ADMIN, "admin"),
        (PUBSUB, "pubsub"),
        (NOSCRIPT, "noscript"),
        (BLOCKING, "blocking"),
        (LOADING, "loading"),
        (STALE, "stale"),
        (SKIP_MONITOR, "skip_monitor"),
        (SKIP_SLOWLOG, "skip_slowlog"),
        (ASKING, "asking"),
        (FAST, "fast"),
        (NO_AUTH, "no_auth"),
        (ALLOW_BUSY, "allow_busy"),
        (NO_ASYNC_LOADING, "no_async_loading"),
        (NO_MULTI, "no_multi"),
        (NO_MANDATORY_KEYS, "no_mandatory_keys"),
        (MOVABLEKEYS, "movablekeys"),
    ];
}

/// What a command does to its keys, as key specifications name it.
pub mod key_use {
    /// Reads the value or facts of it.
    pub const RO: u16 = 1;
    /// Reads and writes.
    pub const RW: u16 = 1 << 1;
    /// Overwrites without reading.
    pub const OW: u16 = 1 << 2;
    /// Removes without reading.
    pub const RM: u16 = 1 << 3;
    /// Gives data of the value to the client.
    pub const ACCESS: u16 = 1 << 4;
    /// Changes data of the value.
    pub const UPDATE: u16 = 1 << 5;
    /// Only adds data.
    pub const INSERT: u16 = 1 << 6;
    /// Removes data.
    pub const DELETE: u16 = 1 << 7;
    /// Depends on the options.
    pub const VARIABLE: u16 = 1 << 8;
    /// Routed as a key without being one.
    pub const NOT_KEY: u16 = 1 << 9;

    /// Names in the order in which Redis lists them.
    pub(super) const NAMES: [(u16, &str); 10] = [
        (RO, "RO"),
        (RW, "RW"),
        (OW, "OW"),
        (RM, "RM"),
        (ACCESS, "access"),
        (UPDATE, "update"),
        (INSERT, "insert"),
        (DELETE, "delete"),
        (VARIABLE, "variable_flags"),
        (NOT_KEY, "not_key"),
    ];
}

/// Where a command's keys stand; all zero for none. A negative `last` counts from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Position of the first key.
    pub first: i8,
    /// Position of the last key.
    pub last: i8,
    /// Distance between keys.
    pub step: i8,
}

impl Keys {
    /// No key at a fixed position.
    pub const NONE: Keys = Keys::of(0, 0, 0);

    /// Keys from `first` to `last`, every `step`.
    pub const fn of(first: i8, last: i8, step: i8) -> Keys {
        Keys { first, last, step }
    }

    /// Positions of the keys in a command of `argc` arguments.
    pub fn positions(self, argc: usize) -> impl Iterator<Item = usize> + Clone {
        let last = match self.last {
            n if n < 0 => argc.saturating_sub(n.unsigned_abs() as usize),
            n => n as usize,
        };
        let step = self.step.max(1) as usize;
        let first = if self.first <= 0 { usize::MAX } else { self.first as usize };
        (first..=last.min(argc.saturating_sub(1))).step_by(step)
    }
}

/// Group of a command (`COMMAND DOCS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Group {
    String,
    Bitmap,
    Generic,
    Connection,
    Server,
    Transactions,
    Pubsub,
    Cluster,
    Scripting,
    Hash,
    List,
    Set,
    SortedSet,
    Geo,
    Hyperloglog,
    Stream,
}

/// What a command asks of the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// The plain operations, which every backend has.
    Store,
    /// Read-modify-write by a callback.
    Modify,
    /// Visiting keys with a cursor.
    Scan,
    /// A data structure.
    Structure(Kind),
    /// Not served with any backend; says why.
    Absent(&'static str),
}

/// A kind of data structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Hash,
    List,
    Set,
    SortedSet,
}

impl Kind {
    /// The bit by which a backend says that it has them.
    pub fn capability(self) -> u64 {
        match self {
            Self::Hash => Capabilities::HASH,
            Self::List => Capabilities::LIST,
            Self::Set => Capabilities::SET,
            Self::SortedSet => Capabilities::ZSET,
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hash => "hash",
            Self::List => "list",
            Self::Set => "set",
            Self::SortedSet => "sorted set",
        })
    }
}

/// A row of the table.
#[derive(Debug)]
pub struct Spec {
    /// Lower-case name.
    pub name: &'static str,
    /// Number of arguments with the name; negative: at least so many.
    pub arity: i8,
    /// Bits of [`flag`].
    pub flags: u32,
    /// Key positions.
    pub keys: Keys,
    /// Bits of [`key_use`] for the (first) keys.
    pub key_use: u16,
    /// Group.
    pub group: Group,
    /// First version of Redis or Valkey that had it.
    pub since: &'static str,
    /// What it asks of the backend.
    pub need: Need,
    /// Arguments, as usage texts write them.
    pub syntax: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Subcommands.
    pub subs: &'static [Sub],
}

/// A subcommand's row.
#[derive(Debug)]
pub struct Sub {
    /// Lower-case name.
    pub name: &'static str,
    /// As in [`Spec`], the container's name counted.
    pub arity: i8,
    /// Bits of [`flag`].
    pub flags: u32,
    /// Key positions.
    pub keys: Keys,
    /// Arguments.
    pub syntax: &'static str,
    /// One sentence.
    pub summary: &'static str,
}

/// Whether `argc` arguments are enough and not too many.
#[inline]
pub fn arity_fits(arity: i8, argc: usize) -> bool {
    if arity >= 0 { argc == arity as usize } else { argc >= arity.unsigned_abs() as usize }
}

impl Spec {
    /// Whether all bits of `bits` are set.
    #[inline]
    pub fn is(&self, bits: u32) -> bool {
        self.flags & bits == bits
    }

    /// The subcommand of that name, letters of either case.
    pub fn sub(&self, name: &[u8]) -> Option<&'static Sub> {
        self.subs.iter().find(|s| s.name.as_bytes().eq_ignore_ascii_case(name))
    }
}

impl Cmd {
    /// The command's row.
    #[inline]
    pub fn spec(self) -> &'static Spec {
        &TABLE[self as usize]
    }

    /// The command of a row.
    pub const fn at(row: usize) -> Cmd {
        rows::ALL[row]
    }

    /// All commands, in table order.
    pub fn all() -> impl Iterator<Item = Cmd> {
        (0..TABLE.len()).map(|i| rows::ALL[i])
    }

    /// The command of that name, letters of either case.
    #[inline]
    pub fn find(name: &[u8]) -> Option<Cmd> {
        let words = fold(name)?;
        let mut slot = slot_of(words);
        loop {
            let index = SLOTS[slot];
            if index == EMPTY {
                return None;
            }
            if FOLDED[index as usize] == words {
                return Some(rows::ALL[index as usize]);
            }
            slot = (slot + 1) % SLOTS_LEN;
        }
    }
}

/// Longest command name, in bytes: three words less the byte that holds the length.
const NAME_LEN_BYTES_MAX: usize = 23;

/// A name as lower-case machine words, zero padded, its length in the topmost byte.
type Folded = [u64; 3];

const SLOTS_LEN: usize = 1024;
const EMPTY: u8 = u8::MAX;
const _: () = assert!(rows::ALL.len() < EMPTY as usize);

/// Lower-cases the ASCII letters of eight bytes at once.
#[inline]
const fn lower(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let low7 = word & (0x7f * ONES);
    let above_z = low7 + (0x7f - b'Z' as u64) * ONES;
    let from_a = low7 + (0x80 - b'A' as u64) * ONES;
    let upper = (from_a ^ above_z) & !word & (0x80 * ONES);
    word | upper >> 2
}

/// Up to eight bytes of a name as a word, zero padded.
#[inline]
fn load(bytes: &[u8]) -> u64 {
    match bytes.len() {
        0 => 0,
        1..=3 => {
            let (first, mid, last) = (bytes[0], bytes[bytes.len() / 2], bytes[bytes.len() - 1]);
            let len = bytes.len();
            u64::from(first) | u64::from(mid) << (len / 2 * 8) | u64::from(last) << ((len - 1) * 8)
        }
        len @ 4..=7 => {
            let low = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            let tail = &bytes[len - 4..];
            let high = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
            u64::from(low) | u64::from(high) << ((len - 4) * 8)
        }
        _ => u64::from_le_bytes([
            bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7],
        ]),
    }
}

/// Folds a client's name; `None` when it is longer than any command's.
#[inline]
fn fold(name: &[u8]) -> Option<Folded> {
    let len = (name.len() as u64) << 56;
    match name.len() {
        0..=8 => Some([lower(load(name)), 0, len]),
        9..=16 => Some([lower(load(&name[..8])), lower(load(&name[8..])), len]),
        17..=NAME_LEN_BYTES_MAX => Some([
            lower(load(&name[..8])),
            lower(load(&name[8..16])),
            lower(load(&name[16..])) | len,
        ]),
        _ => None,
    }
}

/// Folds a table name while compiling.
const fn fold_const(name: &str) -> Folded {
    let bytes = name.as_bytes();
    assert!(bytes.len() <= NAME_LEN_BYTES_MAX);
    let mut words = [0, 0, (bytes.len() as u64) << 56];
    let mut i = 0;
    while i < bytes.len() {
        assert!(!bytes[i].is_ascii_uppercase());
        words[i / 8] |= (bytes[i] as u64) << (i % 8 * 8);
        i += 1;
    }
    words
}

#[inline]
const fn slot_of(words: Folded) -> usize {
    let mixed = words[0]
        .wrapping_add(words[1].wrapping_mul(0xc2b2_ae3d_27d4_eb4f))
        .wrapping_add(words[2].wrapping_mul(0x1656_67b1_9e37_79f9))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (64 - SLOTS_LEN.trailing_zeros())) as usize
}

static FOLDED: [Folded; rows::ALL.len()] = {
    let mut all = [[0; 3]; rows::ALL.len()];
    let mut i = 0;
    while i < rows::ALL.len() {
        all[i] = fold_const(TABLE[i].name);
        i += 1;
    }
    all
};

static SLOTS: [u8; SLOTS_LEN] = {
    let mut slots = [EMPTY; SLOTS_LEN];
    let mut i = 0;
    while i < rows::ALL.len() {
        let mut slot = slot_of(fold_const(TABLE[i].name));
        while slots[slot] != EMPTY {
            slot = (slot + 1) % SLOTS_LEN;
        }
        slots[slot] = i as u8;
        i += 1;
    }
    slots
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_by_its_name_in_any_case() {
        for command in Cmd::all() {
            let name = command.spec().name;
            assert_eq!(Cmd::find(name.as_bytes()), Some(command));
            assert_eq!(Cmd::find(name.to_uppercase().as_bytes()), Some(command));
            let longer = format!("{name}x");
            assert_ne!(Cmd::find(longer.as_bytes()), Some(command));
            assert_ne!(Cmd::find(&name.as_bytes()[1..]), Some(command));
        }
    }

    #[test]
    fn only_letters_fold() {
        assert_eq!(Cmd::find(b""), None);
        assert_eq!(Cmd::find(b"bitfield\x7fro"), None);
        assert_eq!(Cmd::find(b"\x07\x05\x14"), None);
        assert_eq!(Cmd::find(b"\xc7ET"), None);
        assert_eq!(Cmd::find(b"get\0"), None, "padding is not part of a name");
        assert_eq!(Cmd::find(&[b'a'; 300]), None);
    }

    #[test]
    fn key_positions_follow_the_table() {
        let at = |c: Cmd, argc| c.spec().keys.positions(argc).collect::<Vec<_>>();
        assert_eq!(at(Cmd::Get, 2), [1]);
        assert_eq!(at(Cmd::Mget, 4), [1, 2, 3]);
        assert_eq!(at(Cmd::Mset, 5), [1, 3]);
        assert_eq!(at(Cmd::Bitop, 5), [2, 3, 4]);
        assert_eq!(at(Cmd::Rename, 3), [1, 2]);
        assert_eq!(at(Cmd::Ping, 1), [] as [usize; 0]);
    }

    #[test]
    fn arity_counts_the_name() {
        assert!(arity_fits(2, 2) && !arity_fits(2, 3) && !arity_fits(2, 1));
        assert!(arity_fits(-2, 2) && arity_fits(-2, 9) && !arity_fits(-2, 1));
    }
}
