//! The terms of a write: when it takes place, what it stores, how it went.

use crate::view::Item;

/// When a write takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition<'a> {
    /// Always.
    #[default]
    Always,
    /// Only if the key has no item.
    IfAbsent,
    /// Only if the key has an item.
    IfPresent,
    /// Only if the item's CAS token is this one.
    IfCas(u64),
    /// Only if the item's value is exactly this.
    IfEqual(&'a [u8]),
}

impl Condition<'_> {
    /// What stands in the way, if anything.
    pub fn check(&self, item: Option<&Item<'_>>) -> Result<(), Status> {
        match (self, item) {
            (Condition::Always, _)
            | (Condition::IfAbsent, None)
            | (Condition::IfPresent, Some(_)) => Ok(()),
            (Condition::IfAbsent, Some(_)) => Err(Status::Present),
            (_, None) => Err(Status::Absent),
            (Condition::IfCas(token), Some(item)) if item.with_cas().cas() == *token => Ok(()),
            (Condition::IfEqual(value), Some(item)) if value_is(item, value) => Ok(()),
            (Condition::IfCas(_) | Condition::IfEqual(_), Some(_)) => Err(Status::Mismatch),
        }
    }
}

fn value_is(item: &Item<'_>, value: &[u8]) -> bool {
    let mut rest = value;
    item.len() == value.len()
        && item.parts().all(|part| {
            let (head, tail) = rest.split_at(part.len());
            rest = tail;
            head == part
        })
}

/// How the present deadline limits a new one (EXPIRE's NX, XX, GT, LT).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeadlineCondition {
    /// Only if the item has no deadline.
    pub if_none: bool,
    /// Only if the item has a deadline.
    pub if_some: bool,
    /// Only if the new deadline is later (never is the latest).
    pub if_later: bool,
    /// Only if the new deadline is earlier.
    pub if_earlier: bool,
}

impl DeadlineCondition {
    /// Whether `new` may replace `old` (both in unix milliseconds, 0 for never).
    pub fn allows(&self, old: u64, new: u64) -> bool {
        let late = |deadline: u64| if deadline == 0 { u64::MAX } else { deadline };
        !(self.if_none && old != 0
            || self.if_some && old == 0
            || self.if_later && late(new) <= late(old)
            || self.if_earlier && late(new) >= late(old))
    }
}

/// What an item carries beside key and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meta {
    /// The client's flags.
    pub flags: u32,
    /// The protocol's marks (four bits).
    pub marks: u8,
    /// When it expires, in unix milliseconds; 0 for never.
    pub deadline_ms: u64,
}

impl Meta {
    /// What an item carries now.
    pub fn of(item: &Item<'_>) -> Self {
        Self { flags: item.flags(), marks: item.marks(), deadline_ms: item.deadline_ms() }
    }
}

/// A store: key and value are given beside it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Store<'a> {
    /// Flags, marks and deadline of the new item.
    pub meta: Meta,
    /// When it takes place.
    pub condition: Condition<'a>,
    /// The present item's deadline stays, if there is an item.
    pub keep_deadline: bool,
    /// The present item's flags stay, if there is an item.
    pub keep_flags: bool,
    /// Return the item that was there before (a failed condition always does).
    pub want_old: bool,
    /// The returned CAS token stays valid when eviction moves the item, at the
    /// cost of eight bytes in an item that moves.
    pub keep_cas: bool,
    /// The new item's CAS token; `None` for one of the cache's choice.
    pub cas: Option<u64>,
}

impl Store<'_> {
    /// Whether the item that is there before has a say in it.
    pub(crate) fn depends(&self) -> bool {
        self.condition != Condition::Always
            || self.keep_deadline
            || self.keep_flags
            || self.want_old
    }
}

/// A new value.
#[derive(Debug, Clone, Copy)]
pub enum NewValue<'v> {
    /// These bytes.
    Bytes(&'v [u8]),
    /// These pieces, joined.
    Pieces(&'v [&'v [u8]]),
    /// The present value, then these bytes.
    Append(&'v [u8]),
    /// These bytes, then the present value.
    Prepend(&'v [u8]),
    /// The first bytes of a small buffer, for numbers.
    Small([u8; 24], u8),
}

/// What an update makes of the item it was shown.
#[derive(Debug, Clone, Copy)]
pub enum Edit<'v> {
    /// Nothing.
    Keep,
    /// It goes.
    Delete,
    /// The value stays, the rest becomes this. Nothing on an absent key.
    SetMeta(Meta),
    /// A new value.
    Replace {
        /// The value.
        value: NewValue<'v>,
        /// Flags, marks, deadline.
        meta: Meta,
        /// Its CAS token; `None` for one of the cache's choice.
        cas: Option<u64>,
    },
}

/// How a write went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It took place.
    Done,
    /// It did not: the key has no item.
    Absent,
    /// It did not: the key has an item.
    Present,
    /// It did not: the token, value or deadline was another one.
    Mismatch,
    /// An update kept the item as it is.
    Kept,
}

/// How a write went, and the items it met.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'w> {
    /// How it went.
    pub status: Status,
    /// The item before, if it was asked for (always, for updates).
    pub old: Option<Item<'w>>,
    /// The item after an update, if it left one.
    pub new: Option<Item<'w>>,
    /// The CAS token of the item that a write left; 0 if it left none.
    pub cas: u64,
}

impl<'w> Outcome<'w> {
    pub(super) fn kept(status: Status, item: Option<Item<'w>>) -> Self {
        Self { status, old: item, new: item, cas: item.map_or(0, |item| item.cas()) }
    }

    pub(super) fn of(status: Status) -> Self {
        Self { status, old: None, new: None, cas: 0 }
    }
}
