//! Classes of operations, and of what became of them, as statistics name them.
//!
//! What must always be true: every opcode has one class; names are words of letters and digits.
//! Called when a crossing was observed, and by `/metrics`.

use crucible_plugin_api::{OpCode, Status};

/// A class of operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    Get,
    Meta,
    Store,
    Extend,
    Arith,
    Touch,
    Delete,
    Modify,
    Struct,
    Other,
}

impl Class {
    /// In the order of their numbers.
    pub(crate) const NAMES: [&str; 10] =
        ["get", "meta", "store", "extend", "arith", "touch", "delete", "modify", "struct", "other"];

    /// The class of an opcode.
    pub(crate) fn of(code: OpCode) -> Self {
        match code {
            OpCode::GET => Self::Get,
            OpCode::META => Self::Meta,
            OpCode::STORE | OpCode::COMMIT => Self::Store,
            OpCode::APPEND | OpCode::PREPEND => Self::Extend,
            OpCode::ARITH => Self::Arith,
            OpCode::TOUCH => Self::Touch,
            OpCode::DELETE => Self::Delete,
            OpCode::MODIFY => Self::Modify,
            OpCode::STRUCT => Self::Struct,
            _ => Self::Other,
        }
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// Whether it changes what it finds.
    pub(crate) fn writes(self) -> bool {
        !matches!(self, Self::Get | Self::Meta)
    }
}

/// What became of operations, by name.
pub(crate) const OUTCOMES: [&str; 6] =
    ["done", "absent", "condition", "no_memory", "wrong_type", "failed"];

/// Which of [`OUTCOMES`] a status is.
pub(crate) fn outcome(status: Status) -> usize {
    match status {
        Status::OK => 0,
        Status::MISS => 1,
        Status::EXISTS | Status::NOT_STORED => 2,
        Status::NO_MEMORY => 3,
        Status::WRONG_TYPE => 4,
        _ => 5,
    }
}
