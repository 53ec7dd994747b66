//! Operations on hashes, lists, sets and sorted sets, as data.
//!
//! An [`Op`](super::op::Op) with the code `STRUCT` reads its fields so:
//!
//! ```text
//!   cookie        which operation: a StructOp, in the low 16 bits
//!   key           the key, or the destination of a STORE
//!   val           arguments: an array of RawElement, val.len in bytes
//!   arg           further keys: an array of RawElement of kind BYTES
//!   delta         first number         initial       second number
//!   cas           a scan's cursor      flags         StructFlags
//!   opts          SET_EXPIRY, IF_*     condition     ALWAYS, IF_PRESENT, IF_ABSENT
//!   expires_at_ms the key's deadline, when the operation makes the key (and,
//!                 with SET_EXPIRY, when it only changes it)
//! ```
//! and is answered with a status, a number (`delta`) and an [`ItemView`] of
//! kind `ELEMENTS`: `ptr` is an array of `len` [`RawElement`]s.
//!
//! Always true: an operation is one atomic step for all of its keys, and a key
//! whose last element goes is gone with it.
//!
//! [`ItemView`]: super::op::ItemView
//!
//! # Safety
//! Nothing is followed here. Arrays and bytes are valid as long as those of any
//! other operation: arguments until the crossing returns, answers until the
//! worker leaves the sweep.

use abi_stable::StableAbi;
use core::mem::size_of;

/// One argument or one answered value.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct RawElement {
    /// See [`element_kind`].
    pub kind: u32,
    /// Length in bytes, of kind BYTES.
    pub len: u32,
    /// BYTES: where they are. INT and DOUBLE: its 64 bits, as an address.
    pub data: *const u8,
}

/// `kind` of a [`RawElement`].
pub mod element_kind {
    /// Nothing: an absent member, an open end.
    pub const NIL: u32 = 0;
    /// A signed 64-bit number.
    pub const INT: u32 = 1;
    /// A double, never NaN.
    pub const DOUBLE: u32 = 2;
    /// Bytes.
    pub const BYTES: u32 = 3;
}

/// Which operation on a structure. Operations of one kind of structure have
/// numbers of their own range; a new one takes a new number.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StructOp(pub u16);

impl StructOp {
    /// Args: field, value, .. Flags: IF_NEW / IF_HELD (of every field, else
    /// nothing is done and the status is NOT_STORED), FIELD_TTL (`initial` is
    /// the fields' deadline), KEEP_FIELD_TTL, REPLACE. Number: fields added.
    pub const HASH_SET: Self = Self(1);
    /// Args: fields. Elements: a value or nil for each.
    pub const HASH_GET: Self = Self(2);
    /// Elements: field, value, .. Flags: FIELDS_ONLY, VALUES_ONLY.
    pub const HASH_GETALL: Self = Self(3);
    /// Args: fields; none = all of them. Number: fields removed.
    pub const HASH_DEL: Self = Self(4);
    /// Number: fields.
    pub const HASH_LEN: Self = Self(5);
    /// Args: fields. Number: how many of them are there.
    pub const HASH_EXISTS: Self = Self(6);
    /// Args: field. Number: length of its value in bytes.
    pub const HASH_STRLEN: Self = Self(7);
    /// Args: field. First number: what to add. Number: the sum. NOT_NUMBER,
    /// OVERFLOW.
    pub const HASH_INCR: Self = Self(8);
    /// Args: field, decimal text to add. Elements: the sum as text. NOT_FLOAT,
    /// NOT_FINITE.
    pub const HASH_INCR_FLOAT: Self = Self(9);
    /// First number: how many distinct fields; below zero: so many, with
    /// repeats. Elements: fields, or field, value, .. with WITH_VALUES.
    pub const HASH_RANDOM: Self = Self(10);
    /// Cursor, first number: about how many. Elements: field, value, ..
    /// (FIELDS_ONLY: fields). Number: the next cursor, 0 at the end.
    pub const HASH_SCAN: Self = Self(11);
    /// Args: fields. Second number: the deadline, unix ms. Opts: IF_NO_TTL,
    /// IF_TTL, IF_LATER, IF_EARLIER. Elements: for each -2 no such field, 0
    /// condition not met, 1 set, 2 deleted because the deadline has passed.
    pub const HASH_EXPIRE: Self = Self(12);
    /// Args: fields. Elements: -2 no such field, -1 no deadline, else the
    /// deadline in unix ms.
    pub const HASH_DEADLINE: Self = Self(13);
    /// Args: fields. Elements: -2 no such field, -1 no deadline, 1 removed.
    pub const HASH_PERSIST: Self = Self(14);
    /// Args: fields. Elements: a value or nil for each, which are removed.
    /// Number: how many were.
    pub const HASH_GETDEL: Self = Self(15);
    /// Args: fields. Elements: a value or nil for each. Flags: FIELD_TTL
    /// (second number is the new deadline; one that has passed removes), or
    /// PERSIST.
    pub const HASH_GETEX: Self = Self(16);

    /// Args: values. Flags: LEFT, REPLACE. Second number, when above 0: the
    /// longest the list may be afterwards; the other end gives way. Number:
    /// the length.
    pub const LIST_PUSH: Self = Self(32);
    /// First number: how many at most. Flags: LEFT. Elements: what was taken.
    /// Number: the length.
    pub const LIST_POP: Self = Self(33);
    /// LIST_POP on the first of the sources that is a list and not empty.
    /// Sources: key, keys. Number: which, from 0. MISS when none is.
    pub const LIST_MPOP: Self = Self(34);
    /// First and second number: start and stop, below zero from the end.
    pub const LIST_RANGE: Self = Self(35);
    /// First number: index. Elements: the value, or nothing.
    pub const LIST_INDEX: Self = Self(36);
    /// First number: index. Args: value. Number: the length. OUT_OF_RANGE.
    pub const LIST_SET: Self = Self(37);
    /// Args: pivot, value. Flags: BEFORE. Number: the length, or -1 without
    /// pivot.
    pub const LIST_INSERT: Self = Self(38);
    /// Args: value. First number: how many, below zero from the end, 0 all.
    /// Number: how many went.
    pub const LIST_REMOVE: Self = Self(39);
    /// First and second number: start and stop of what stays. Number: the
    /// length.
    pub const LIST_TRIM: Self = Self(40);
    /// Args: value, then three numbers: rank (1 first, -1 last, ..), count (0
    /// all), entries looked at (0 all). Elements: indexes.
    pub const LIST_POS: Self = Self(41);
    /// From `key` (LEFT end, else right) to `keys[0]` (TO_LEFT, else right).
    /// Elements: the value. MISS when there was none.
    pub const LIST_MOVE: Self = Self(42);
    /// Number: the length.
    pub const LIST_LEN: Self = Self(43);
    /// Args: start, count, .. of what goes, ascending. Number: the length.
    pub const LIST_ERASE: Self = Self(44);

    /// Args: members. Flags: REPLACE. Number: members added.
    pub const SET_ADD: Self = Self(64);
    /// Args: members. Number: members removed.
    pub const SET_REMOVE: Self = Self(65);
    /// Args: members. Elements: 1 or 0 for each. Number: how many are in it.
    pub const SET_HAS: Self = Self(66);
    /// Number: members.
    pub const SET_LEN: Self = Self(67);
    /// Elements: all members.
    pub const SET_MEMBERS: Self = Self(68);
    /// As HASH_RANDOM.
    pub const SET_RANDOM: Self = Self(69);
    /// First number: how many at most. Elements: what was taken.
    pub const SET_POP: Self = Self(70);
    /// Args: member. From `key` to `keys[0]`. Number: 1 moved, 0 was not there.
    pub const SET_MOVE: Self = Self(71);
    /// Sources: key and keys; with STORE: keys alone, key is the destination.
    /// Elements: the members, without STORE or CARD_ONLY. Number: how many.
    /// First number with CARD_ONLY: stop counting there (0 = do not).
    pub const SET_INTER: Self = Self(72);
    /// As SET_INTER.
    pub const SET_UNION: Self = Self(73);
    /// As SET_INTER: what is in the first source and in no other.
    pub const SET_DIFF: Self = Self(74);
    /// As HASH_SCAN. Elements: members.
    pub const SET_SCAN: Self = Self(75);
    /// Args: members. The key becomes what is in the args and was not in it,
    /// with its deadline. Number: its members then. MISS without the key.
    pub const SET_COMPLEMENT: Self = Self(76);

    /// Args: score (DOUBLE), member, .. Flags: IF_NEW, IF_HELD, GREATER, LESS,
    /// COUNT_CHANGED, REPLACE. Number: members added (with COUNT_CHANGED: or
    /// changed). With INCR (one pair): elements: the new score, or nil when a
    /// flag forbade it. NOT_FINITE when a score would be NaN.
    pub const ZSET_ADD: Self = Self(96);
    /// Args: members. Number: members removed.
    pub const ZSET_REMOVE: Self = Self(97);
    /// Args: members. Elements: a DOUBLE or nil for each.
    pub const ZSET_SCORE: Self = Self(98);
    /// Number: members.
    pub const ZSET_LEN: Self = Self(99);
    /// Bounds as ZSET_RANGE, without skipping. Number: members within.
    pub const ZSET_COUNT: Self = Self(100);
    /// Args: member. Flags: REV. Number: its rank; elements: its score. MISS
    /// without key or member.
    pub const ZSET_RANK: Self = Self(101);
    /// By rank: first and second number are start and stop, below zero from the
    /// end (REV: counted from the highest).
    /// BY_SCORE: args: min, max (DOUBLE), MIN_OPEN, MAX_OPEN exclude them.
    /// BY_LEX: args: min, max as BYTES, or INT -1 below and 1 above all.
    /// With both: first number: how many to skip, second: how many at most
    /// (below zero: all). REV: from the highest; min stays the lower bound.
    /// Elements: members, or member, score, .. WITH_SCORES. With STORE: `key`
    /// is the destination, `keys[0]` the source; number: how many.
    pub const ZSET_RANGE: Self = Self(102);
    /// Bounds as ZSET_RANGE, without skipping. Number: members removed.
    pub const ZSET_REMOVE_RANGE: Self = Self(103);
    /// First number: how many at most. Flags: REV takes the highest. Elements:
    /// member, score, ..
    pub const ZSET_POP: Self = Self(104);
    /// As LIST_MPOP for ZSET_POP.
    pub const ZSET_MPOP: Self = Self(105);
    /// As HASH_RANDOM. WITH_SCORES: member, score, ..
    pub const ZSET_RANDOM: Self = Self(106);
    /// As HASH_SCAN. Elements: member, score, ..
    pub const ZSET_SCAN: Self = Self(107);
    /// Sources as SET_INTER; sets count as sorted sets of score 1. Args: a
    /// weight (DOUBLE) for each source, or none. Flags: AGGREGATE_MIN,
    /// AGGREGATE_MAX, WITH_SCORES, STORE. Elements in order.
    pub const ZSET_UNION: Self = Self(108);
    /// As ZSET_UNION; CARD_ONLY as SET_INTER.
    pub const ZSET_INTER: Self = Self(109);
    /// As ZSET_UNION, without weights.
    pub const ZSET_DIFF: Self = Self(110);

    /// Elements: the name of the structure's encoding. Any structure.
    pub const ENCODING: Self = Self(128);
    /// Number: bytes of memory that the key takes. Any value, also a string.
    pub const MEMORY: Self = Self(129);
    /// `key` becomes `keys[0]`, with its deadline. Any value. Flags: IF_NEW
    /// (then number 0 when the new name is taken). Number: 1.
    pub const RENAME: Self = Self(130);
    /// `keys[0]` becomes a copy of `key`, with its deadline. Any value. Flags:
    /// REPLACE (else number 0 when the name is taken). Number: 1.
    pub const COPY: Self = Self(131);

    /// All operations of this version.
    pub const ALL: [Self; 61] = {
        let ranges = [(1, 16), (32, 44), (64, 76), (96, 110), (128, 131)];
        let (mut all, mut at, mut range) = ([Self(0); 61], 0, 0);
        while range < ranges.len() {
            let mut code = ranges[range].0;
            while code <= ranges[range].1 {
                all[at] = Self(code);
                at += 1;
                code += 1;
            }
            range += 1;
        }
        assert!(at == all.len());
        all
    };

    /// True for an operation that may change a key, with these flags.
    #[must_use]
    pub const fn writes(self, flags: StructFlags) -> bool {
        match self {
            Self::HASH_GET
            | Self::HASH_GETALL
            | Self::HASH_LEN
            | Self::HASH_EXISTS
            | Self::HASH_STRLEN
            | Self::HASH_RANDOM
            | Self::HASH_SCAN
            | Self::HASH_DEADLINE
            | Self::LIST_RANGE
            | Self::LIST_INDEX
            | Self::LIST_POS
            | Self::LIST_LEN
            | Self::SET_HAS
            | Self::SET_LEN
            | Self::SET_MEMBERS
            | Self::SET_RANDOM
            | Self::SET_SCAN
            | Self::ZSET_SCORE
            | Self::ZSET_LEN
            | Self::ZSET_COUNT
            | Self::ZSET_RANK
            | Self::ZSET_RANDOM
            | Self::ZSET_SCAN
            | Self::ENCODING
            | Self::MEMORY => false,
            Self::SET_INTER
            | Self::SET_UNION
            | Self::SET_DIFF
            | Self::ZSET_RANGE
            | Self::ZSET_UNION
            | Self::ZSET_INTER
            | Self::ZSET_DIFF => flags.has(StructFlags::STORE),
            Self::HASH_GETEX => {
                flags.has(StructFlags::FIELD_TTL) || flags.has(StructFlags::PERSIST)
            }
            _ => true,
        }
    }
}

/// Bits of a structure operation; what each does stands with the operations.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct StructFlags(pub u32);

impl StructFlags {
    /// No flags.
    pub const NONE: Self = Self(0);
    /// Only fields, members or names that are not there yet.
    pub const IF_NEW: Self = Self(1);
    /// Only fields or members that are there.
    pub const IF_HELD: Self = Self(1 << 1);
    /// A score may only rise.
    pub const GREATER: Self = Self(1 << 2);
    /// A score may only fall.
    pub const LESS: Self = Self(1 << 3);
    /// Count changed members with the added ones.
    pub const COUNT_CHANGED: Self = Self(1 << 4);
    /// Add to the score instead of setting it.
    pub const INCR: Self = Self(1 << 5);
    /// The left end of a list.
    pub const LEFT: Self = Self(1 << 6);
    /// The left end of the list that receives.
    pub const TO_LEFT: Self = Self(1 << 7);
    /// Before the pivot, not behind it.
    pub const BEFORE: Self = Self(1 << 8);
    /// From the highest to the lowest.
    pub const REV: Self = Self(1 << 9);
    /// Bounds are scores.
    pub const BY_SCORE: Self = Self(1 << 10);
    /// Bounds are members.
    pub const BY_LEX: Self = Self(1 << 11);
    /// The lower bound itself is out.
    pub const MIN_OPEN: Self = Self(1 << 12);
    /// The upper bound itself is out.
    pub const MAX_OPEN: Self = Self(1 << 13);
    /// Answer scores as well.
    pub const WITH_SCORES: Self = Self(1 << 14);
    /// Answer values as well.
    pub const WITH_VALUES: Self = Self::WITH_SCORES;
    /// Answer fields without values.
    pub const FIELDS_ONLY: Self = Self(1 << 15);
    /// Answer values without fields.
    pub const VALUES_ONLY: Self = Self(1 << 16);
    /// Put the outcome under `key`, whatever was there; remove the key when
    /// the outcome is empty.
    pub const STORE: Self = Self(1 << 17);
    /// Answer how many there are, not which.
    pub const CARD_ONLY: Self = Self(1 << 18);
    /// Of several scores the lowest; without either flag, their sum.
    pub const AGGREGATE_MIN: Self = Self(1 << 19);
    /// Of several scores the highest.
    pub const AGGREGATE_MAX: Self = Self(1 << 20);
    /// Begin with an empty structure, whatever was there.
    pub const REPLACE: Self = Self(1 << 21);
    /// Take the fields' deadlines away.
    pub const PERSIST: Self = Self(1 << 22);
    /// The second number is the fields' deadline, unix ms.
    pub const FIELD_TTL: Self = Self(1 << 23);
    /// Fields that are set again keep their deadline.
    pub const KEEP_FIELD_TTL: Self = Self(1 << 24);

    /// True when every bit of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::ops::BitOr for StructFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

const _: () = {
    assert!(size_of::<RawElement>() == 16);
    // A number fits the address that carries it.
    assert!(size_of::<*const u8>() == size_of::<u64>());
};
