//! How to answer a command once its operations are done.
//!
//! Must hold: a ticket is small and says everything a reply needs beside its operations; what is
//! longer (opaque tokens, arguments) travels in an operation's spare fields. Made by the `serve`
//! rooms, consumed by the `reply` rooms.

use crate::binary::{Opcode, Status};
use crate::meta::{Mode, Returns};
use crate::text::Verb;

/// How to answer one command.
#[derive(Clone, Copy, Debug)]
pub enum Ticket {
    /// One key of `get` and its kin.
    Value(Value),
    /// A fixed line, `\r\n` added.
    Line(&'static str),
    /// A classic storage command.
    Store {
        /// Which one.
        verb: Verb,
        /// No reply wanted.
        noreply: bool,
    },
    /// A value that was refused for its length; a present value may have been dropped.
    TooLarge(TooLarge),
    /// A data block without its end.
    BadChunk {
        /// No reply wanted.
        noreply: bool,
    },
    /// `delete`.
    Delete {
        /// No reply wanted.
        noreply: bool,
    },
    /// `incr`, `decr`.
    Arithmetic {
        /// Downwards.
        decrement: bool,
        /// No reply wanted.
        noreply: bool,
    },
    /// `touch`.
    Touch {
        /// No reply wanted.
        noreply: bool,
    },
    /// A meta command.
    Meta(Meta),
    /// `flush_all`, text or binary. A barrier.
    Flush {
        /// In how many milliseconds.
        delay_ms: u64,
        /// How to answer.
        answer: Answer,
    },
    /// `version`.
    Version,
    /// `stats`; the arguments are the operation's value. A barrier.
    Stats,
    /// `stats` of the binary encoding.
    StatsBinary(Binary),
    /// Lines for a watcher. A barrier.
    WatchLines,
    /// A slice of a dump. A barrier.
    DumpSlice,
    /// `cache_memlimit`. A barrier.
    MemoryLimit {
        /// The new limit.
        mib: u32,
        /// No reply wanted.
        noreply: bool,
    },
    /// `shutdown`. A barrier.
    Shutdown,
    /// A binary command.
    Binary(Binary),
    /// A binary reply that is known already.
    BinaryStatus(Binary, Status),
}

/// One key of a `get`.
#[derive(Clone, Copy, Debug)]
pub struct Value {
    /// Print the CAS token.
    pub with_cas: bool,
    /// It was touched as well.
    pub touched: bool,
    /// It is the last one: the list ends.
    pub last: bool,
    /// Without a key: only the end of the list.
    pub empty: bool,
}

/// How a plain success or failure is told.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// A line.
    Text {
        /// No reply wanted.
        noreply: bool,
    },
    /// A header.
    Binary(Binary),
}

/// Who is told that a value is too large, and what it was to be.
#[derive(Clone, Copy, Debug)]
pub enum TooLarge {
    /// A text command.
    Text {
        /// No reply wanted.
        noreply: bool,
    },
    /// A binary command.
    Binary(Binary),
}

/// What the reply to a binary command repeats.
#[derive(Clone, Copy, Debug)]
pub struct Binary {
    /// The command.
    pub opcode: Opcode,
    /// Its byte.
    pub opcode_byte: u8,
    /// The quiet form.
    pub quiet: bool,
    /// Copied from the request.
    pub opaque: u32,
}

/// Which meta command, with what only its reply needs.
#[derive(Clone, Copy, Debug)]
pub enum MetaKind {
    /// `mg` by a plain read: operations `[GET]`.
    Get,
    /// `mg` that may change the item: operations `[MODIFY, GET]`.
    GetModify,
    /// `ms`: operations `[write]`.
    Set {
        /// The mode.
        mode: Mode,
        /// A CAS token was compared.
        with_cas: bool,
        /// Length of the data block.
        len: u32,
    },
    /// `md`: operations `[write]`.
    Delete,
    /// `ma`: operations `[META, MODIFY, META]`.
    Arithmetic {
        /// Downwards.
        decrement: bool,
    },
    /// `me`: operations `[META]`.
    Debug,
}

/// What the reply to a meta command needs. The opaque token is the last operation's `arg`.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// Which.
    pub kind: MetaKind,
    /// What to return.
    pub returns: Returns,
    /// `q`.
    pub quiet: bool,
    /// `v`.
    pub value: bool,
    /// `b`.
    pub base64: bool,
    /// `T` was given.
    pub touched: bool,
}

const _: () = assert!(size_of::<Ticket>() <= 32, "tickets are copied for each command");
