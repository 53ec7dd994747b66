//! Answered operations and the items they showed, copied out of the crossing.

use crucible_plugin_api::{Datum, Element, Item, ItemKind, Op, Status};

/// An answered operation, copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The outcome.
    pub status: Status,
    /// The number left.
    pub number: i64,
    /// The CAS token shown; 0 = none.
    pub cas: u64,
    /// The item shown.
    pub item: Option<Shown>,
    /// The elements shown by a structure operation: `nil`, `:5`, `,1.5`, or
    /// bytes, escaped.
    pub elements: Vec<String>,
}

fn told(element: Element<'_>) -> String {
    match element.get() {
        Datum::Nil => "nil".to_owned(),
        Datum::Int(number) => format!(":{number}"),
        Datum::Double(number) => format!(",{number}"),
        Datum::Bytes(bytes) => bytes.escape_ascii().to_string(),
    }
}

/// An item that an answer showed, copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The value; empty for META.
    pub value: Vec<u8>,
    /// Its length, also for META.
    pub len: usize,
    /// The client's flags.
    pub flags: u32,
    /// The protocol bits.
    pub marks: u8,
    /// Unix milliseconds; 0 = never.
    pub expires_at_ms: u64,
    /// The CAS token.
    pub cas: u64,
    /// What kind of value it is.
    pub kind: ItemKind,
}

impl Answer {
    /// Copies an answered operation.
    #[must_use]
    pub fn of(op: &Op<'_>) -> Self {
        Self {
            status: op.status(),
            number: op.number(),
            cas: op.cas_out(),
            item: op.item().map(|item| Shown::of(&item)),
            elements: op.elements().iter().map(|e| told(*e)).collect(),
        }
    }

    /// The value shown.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.item.as_ref().map(|item| item.value.as_slice())
    }
}

impl Shown {
    /// Copies an item.
    #[must_use]
    pub fn of(item: &Item<'_>) -> Self {
        Self {
            value: item.value().to_vec(),
            len: item.len(),
            flags: item.flags(),
            marks: item.marks(),
            expires_at_ms: item.expires_at_ms(),
            cas: item.cas(),
            kind: item.kind(),
        }
    }
}
