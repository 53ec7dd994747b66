//! How a command is answered: what `parse` notes for `reply`. Small, because each command in
//! flight has one; rare commands box what they need.

use std::cell::RefCell;
use std::rc::Rc;

use crate::structs::blocking::Blocked;
use crate::structs::geo::Told;
use crate::structs::geosearch::Search;
use crate::structs::sort::Sorting;
use crate::structs::{Missing, Scan, Shape};
use crate::table::Cmd;
use crate::value::bitfield::Step;
use crate::value::bits::{Operation, Unit};

/// Which time a key is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtlKind {
    /// TTL.
    Seconds,
    /// PTTL.
    Millis,
    /// EXPIRETIME.
    UnixSeconds,
    /// PEXPIRETIME.
    UnixMillis,
}

/// What a read-modify-write found, shared between its callback and its reply.
#[derive(Debug, Default)]
pub struct Found {
    /// Numbers of BITFIELD.
    pub numbers: Vec<Option<i64>>,
    /// Text of INCRBYFLOAT.
    pub text: String,
}

/// Shared with the callback, on one worker.
pub type SharedFound = Rc<RefCell<Found>>;

/// Arguments of BITPOS.
#[derive(Debug)]
pub struct Bitpos {
    /// The bit looked for.
    pub on: bool,
    /// First position.
    pub start: i64,
    /// Last position.
    pub end: i64,
    /// Unit of the positions.
    pub unit: Unit,
    /// No end was given.
    pub open_end: bool,
}

/// Options of LCS.
#[derive(Debug, Default)]
pub struct LcsOptions {
    /// Only the length.
    pub len: bool,
    /// The matches.
    pub idx: bool,
    /// Shortest match to list.
    pub min_len: usize,
    /// With the length of each.
    pub with_len: bool,
}

/// What a rename does with a target that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Replaces it.
    Replace,
    /// Leaves it and answers 0.
    Spare,
}

/// How to answer a command.
#[derive(Debug)]
pub enum Ticket {
    /// These bytes.
    Static(&'static [u8]),
    /// This error line, without its `-`.
    Error(Box<str>),
    /// Null when the key is absent, else this error.
    NullOrError(Box<str>),
    /// The value read, or null.
    Value,
    /// The bytes carried by the operation, as a bulk string.
    Echo,
    /// OK, when it was stored.
    Stored,
    /// OK, or null when the condition did not hold.
    StoredOrNull,
    /// 1, or 0 when the condition did not hold.
    StoredOrZero,
    /// The value before, or null.
    Old,
    /// The values read, in order.
    Values,
    /// OK, when all were stored.
    AllStored,
    /// How many keys were there.
    Count,
    /// 1 or 0.
    Flag,
    /// The number an operation left.
    Number,
    /// A part of the value.
    Range(i64, i64),
    /// The length of the value.
    Length,
    /// A time.
    Ttl(TtlKind),
    /// The kind of value.
    Type,
    /// One bit.
    Bit(u64),
    /// Set bits in a range.
    CountBytes(i64, i64),
    /// Set bits in a range of bits.
    CountBits(i64, i64),
    /// The position of a bit.
    Bitpos(Box<Bitpos>),
    /// Fields, read only.
    Fields(Box<[Step]>),
    /// Fields, from a callback.
    FieldsFound(SharedFound),
    /// A float, from a callback.
    FloatFound(SharedFound),
    /// First step of BITOP; the carried bytes name the target.
    Bitop(Operation),
    /// Second step: this length.
    BitopStored(i64),
    /// A number about a HyperLogLog, or what is wrong with it.
    Sketch,
    /// How many elements several HyperLogLogs saw.
    SketchUnion,
    /// First step of PFMERGE: all were read.
    SketchMerge,
    /// Second step: the target was stored.
    SketchStored,
    /// The longest common subsequence.
    Lcs(Box<LcsOptions>),
    /// First step of MSETNX and MSETEX NX/XX: facts of all keys.
    SetAllCheck(SetAll),
    /// Second step: whether all were stored.
    SetAllDone(SetAll),
    /// Third step: those stored were taken back.
    SetAllUndone,
    /// RENAME to the same name.
    RenameSame(Target),
    /// First step of RENAMENX: both keys were looked at.
    RenameCheck,
    /// First step of RENAME: the value was taken away.
    RenameTake(Target),
    /// Second step: it was stored.
    RenameStored(Target),
    /// Third step: it was put back, because the target exists.
    RenamePutBack,
    /// First step of COPY: the value was read.
    CopyRead {
        /// Whether a target may be replaced.
        replace: bool,
    },
    /// Second step of COPY.
    CopyStored,
    /// RENAME in one step.
    Renamed(Target),
    /// COPY in one step.
    Copied,
    /// OBJECT ENCODING.
    Encoding,
    /// OBJECT REFCOUNT, FREQ, IDLETIME, by first letter.
    ObjectFact(u8),
    /// MEMORY USAGE.
    MemoryUsage,
    /// DUMP.
    Dump,
    /// RESTORE: stored, or the target exists.
    Restored,
    /// WATCH: tokens were read.
    Watched,
    /// EXEC: tokens of the watched keys were read again.
    Exec,
    /// EXEC of one SET of the one watched key.
    ExecSet,
    /// The transaction goes on after a command of several steps.
    ExecMore,
    /// DBSIZE.
    Items,
    /// A command without operations of the store; its arguments are carried.
    Cold(Cmd),
    /// Blocks until a pause ends.
    Pause,
    /// What an operation on a structure answered, in this shape.
    Structure(Shape),
    /// This error, unless the key is of another kind or absent.
    Guarded(Missing, Box<str>),
    /// A step of a walk over one key's elements.
    Walk(Box<Scan>),
    /// A try of a command that may wait.
    Block(Box<Blocked>),
    /// A round of SORT.
    Sort(Box<Sorting>),
    /// What is told of the places of members.
    Geo(Told),
    /// A round of a geo search.
    Search(Box<Search>),
}

/// What MSETNX and MSETEX need to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetAll {
    /// All must be absent (else: present).
    pub absent: bool,
    /// The time to live, as [`crate::options::Expiry`] in two words.
    pub expires_at_ms: u64,
    /// Keep the time to live.
    pub keep_ttl: bool,
}

impl Ticket {
    /// Whether a running transaction goes on behind the last step of such a command.
    pub fn ends_a_round(&self) -> bool {
        matches!(
            self,
            Ticket::SetAllCheck(_)
                | Ticket::SetAllDone(_)
                | Ticket::SetAllUndone
                | Ticket::RenameSame(_)
                | Ticket::RenameCheck
                | Ticket::RenameTake(_)
                | Ticket::RenameStored(_)
                | Ticket::RenamePutBack
                | Ticket::CopyRead { .. }
                | Ticket::CopyStored
                | Ticket::Bitop(_)
                | Ticket::BitopStored(_)
                | Ticket::SketchMerge
                | Ticket::SketchStored
                | Ticket::ExecMore
                | Ticket::Renamed(_)
                | Ticket::Copied
                | Ticket::Block(_)
                | Ticket::Sort(_)
                | Ticket::Search(_)
        )
    }
}

const _: () = assert!(size_of::<Ticket>() <= 24);
