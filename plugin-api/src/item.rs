//! Items as plugins see them: views of stored values, and changes to them.
//!
//! An [`Item`] borrows the backend's memory for one crossing (`'a`). A
//! [`Change`] is what a read-modify-write callback decides.
//!
//! # Safety
//! The only unsafe code here turns the pointers of an [`ItemView`] into slices.
//! Whoever makes an [`Item`] promises that they are valid for `'a`.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::marker::PhantomData;

use crate::abi::op::{Buf, Decision, ItemView, action, idle, item_bits, item_kind, value_type};
use crate::abi::status::Status;

/// What kind of value a key holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ItemKind {
    /// Bytes.
    String,
    /// A list.
    List,
    /// A set.
    Set,
    /// A sorted set.
    SortedSet,
    /// A hash.
    Hash,
    /// A kind of a later version.
    Other(u8),
}

impl ItemKind {
    /// As it crosses.
    #[must_use]
    pub fn value_type(self) -> u8 {
        match self {
            Self::String => value_type::STRING,
            Self::List => value_type::LIST,
            Self::Set => value_type::SET,
            Self::SortedSet => value_type::ZSET,
            Self::Hash => value_type::HASH,
            Self::Other(other) => other,
        }
    }
}

/// An item as an operation found or left it.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    view: ItemView,
    _borrow: PhantomData<&'a [u8]>,
}

impl<'a> Item<'a> {
    /// Wraps a view; `None` when it shows no item.
    ///
    /// # Safety
    /// The view's pointers are valid, and unchanging, for `'a`.
    #[must_use]
    #[inline]
    pub unsafe fn from_view(view: ItemView) -> Option<Self> {
        if view.kind == item_kind::NONE { None } else { Some(Self { view, _borrow: PhantomData }) }
    }

    /// An item over borrowed bytes, for callbacks and tests.
    #[must_use]
    pub fn of_bytes(value: &'a [u8], cas: u64, flags: u32, marks: u8, expires_at_ms: u64) -> Self {
        let view = ItemView {
            ptr: value.as_ptr(),
            cas,
            expires_at_ms,
            len: u32::try_from(value.len()).expect("values are shorter than 4 GiB"),
            flags,
            kind: item_kind::CONTIGUOUS,
            marks,
            ..ItemView::NONE
        };
        Self { view, _borrow: PhantomData }
    }

    /// The same item, read before or not.
    #[must_use]
    pub fn with_seen(mut self, seen: bool) -> Self {
        self.view.bits =
            (self.view.bits & !item_bits::SEEN) | if seen { item_bits::SEEN } else { 0 };
        self
    }

    /// The same item, last used so many seconds ago (`None`: nobody knows).
    #[must_use]
    pub fn with_idle_s(mut self, seconds: Option<u32>) -> Self {
        self.view.idle = seconds.map_or(idle::UNKNOWN, idle::code);
        self
    }

    /// The same item without its bytes, as a structure of so many elements.
    #[must_use]
    pub fn with_kind(mut self, kind: ItemKind, elements: usize) -> Self {
        self.view.kind = item_kind::META;
        self.view.value_type = kind.value_type();
        self.view.len = u32::try_from(elements).unwrap_or(u32::MAX);
        self
    }

    /// The view that crosses the boundary.
    #[must_use]
    pub fn view(&self) -> &ItemView {
        &self.view
    }

    /// The value. Empty for an item read by META.
    #[must_use]
    #[inline]
    pub fn value(&self) -> Value<'a> {
        Value { view: self.view, _borrow: PhantomData }
    }

    /// Length of the value in bytes, also for META.
    #[must_use]
    pub fn len(&self) -> usize {
        self.view.len as usize
    }

    /// True when the value has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.view.len == 0
    }

    /// The client's flags.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.view.flags
    }

    /// The four protocol bits.
    #[must_use]
    pub fn marks(&self) -> u8 {
        self.view.marks
    }

    /// The CAS token; changes with every change of the item.
    #[must_use]
    pub fn cas(&self) -> u64 {
        self.view.cas
    }

    /// Unix milliseconds; 0 = never.
    #[must_use]
    pub fn expires_at_ms(&self) -> u64 {
        self.view.expires_at_ms
    }

    /// True when it was read before this operation, since its value was stored.
    #[must_use]
    pub fn was_seen(&self) -> bool {
        self.view.bits & item_bits::SEEN != 0
    }

    /// Seconds since it was last read or written before this operation; `None`
    /// when the backend does not say.
    #[must_use]
    pub fn idle_s(&self) -> Option<u32> {
        idle::seconds(self.view.idle)
    }

    /// How often it was read, as far as the backend's policy counts (up to 7, and
    /// fewer each time that eviction spares it).
    #[must_use]
    pub fn hits(&self) -> u8 {
        (self.view.bits >> item_bits::HITS_SHIFT) & item_bits::HITS_MAX
    }

    /// What kind of value it is.
    #[must_use]
    pub fn kind(&self) -> ItemKind {
        match self.view.value_type {
            value_type::STRING => ItemKind::String,
            value_type::LIST => ItemKind::List,
            value_type::SET => ItemKind::Set,
            value_type::ZSET => ItemKind::SortedSet,
            value_type::HASH => ItemKind::Hash,
            other => ItemKind::Other(other),
        }
    }
}

/// The bytes of an item: one piece, or several.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    view: ItemView,
    _borrow: PhantomData<&'a [u8]>,
}

impl<'a> Value<'a> {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.view.len as usize
    }

    /// True without bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.view.len == 0
    }

    pub(crate) fn view(&self) -> &ItemView {
        &self.view
    }

    /// The bytes, when they lie in one piece.
    #[must_use]
    #[inline]
    pub fn contiguous(&self) -> Option<&'a [u8]> {
        match self.view.kind {
            item_kind::CONTIGUOUS if self.view.len > 0 => {
                // SAFETY: `from_view`'s caller promised `len` bytes at `ptr` for 'a.
                Some(unsafe { std::slice::from_raw_parts(self.view.ptr, self.view.len as usize) })
            }
            item_kind::PARTS => None,
            _ => Some(&[]),
        }
    }

    /// The bytes, piece by piece.
    pub fn parts(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let whole = self.contiguous();
        let many: &'a [Buf] = if whole.is_some() {
            &[]
        } else {
            // SAFETY: kind PARTS: `ptr` is an aligned array of `nparts` Bufs,
            // valid for 'a by `from_view`'s promise.
            unsafe {
                std::slice::from_raw_parts(self.view.ptr.cast::<Buf>(), self.view.nparts as usize)
            }
        };
        whole.into_iter().chain(many.iter().map(|part| {
            if part.len == 0 {
                return &[][..];
            }
            // SAFETY: each part is valid for 'a by `from_view`'s promise.
            unsafe { std::slice::from_raw_parts(part.ptr, part.len) }
        }))
    }

    /// The bytes in one piece, copied only when they lie in several.
    #[must_use]
    pub fn to_cow(&self) -> Cow<'a, [u8]> {
        match self.contiguous() {
            Some(bytes) => Cow::Borrowed(bytes),
            None => Cow::Owned(self.to_vec()),
        }
    }

    /// A copy.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        self.parts().for_each(|part| bytes.extend_from_slice(part));
        bytes
    }
}

impl PartialEq<[u8]> for Value<'_> {
    fn eq(&self, other: &[u8]) -> bool {
        if self.len() != other.len() {
            return false;
        }
        let mut rest = other;
        self.parts().all(|part| {
            let (head, tail) = rest.split_at(part.len());
            rest = tail;
            head == part
        })
    }
}

impl<const N: usize> PartialEq<[u8; N]> for Value<'_> {
    fn eq(&self, other: &[u8; N]) -> bool {
        *self == other[..]
    }
}

/// What to do with an item that was looked at under its key's write order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Modify {
    /// Leave it, or its absence.
    Keep,
    /// Store a value.
    Replace {
        /// The value.
        value: Vec<u8>,
        /// The client's flags.
        flags: u32,
        /// The protocol bits (four).
        marks: u8,
        /// Unix milliseconds; 0 = never.
        expires_at_ms: u64,
    },
    /// Keep the value, change the rest. On an absent key: nothing.
    SetMeta {
        /// The client's flags.
        flags: u32,
        /// The protocol bits (four).
        marks: u8,
        /// Unix milliseconds; 0 = never.
        expires_at_ms: u64,
    },
    /// Remove it.
    Delete,
}

/// A decision with the answer that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happens to the item.
    pub modify: Modify,
    /// The operation's status.
    pub status: Status,
    /// A number for the reply ([`crate::Op::number`]).
    pub note: i64,
    /// The CAS token a `Replace` leaves; 0 = the backend's choice.
    pub new_cas: u64,
}

impl Change {
    /// Leaves the item and answers `status`.
    #[must_use]
    pub fn keep(status: Status) -> Self {
        Self { modify: Modify::Keep, status, note: 0, new_cas: 0 }
    }

    /// Removes the item and answers OK.
    #[must_use]
    pub fn delete() -> Self {
        Self { modify: Modify::Delete, status: Status::OK, note: 0, new_cas: 0 }
    }

    /// Stores a value, with everything else as it was (or zero).
    #[must_use]
    pub fn replace(value: Vec<u8>, old: Option<&Item<'_>>) -> Self {
        let modify = Modify::Replace {
            value,
            flags: old.map_or(0, Item::flags),
            marks: old.map_or(0, Item::marks),
            expires_at_ms: old.map_or(0, Item::expires_at_ms),
        };
        Self { modify, status: Status::OK, note: 0, new_cas: 0 }
    }

    /// The same with a number for the reply.
    #[must_use]
    pub fn with_note(mut self, note: i64) -> Self {
        self.note = note;
        self
    }

    /// The same with the CAS token that the replaced item gets.
    #[must_use]
    pub fn with_cas(mut self, cas: u64) -> Self {
        self.new_cas = cas;
        self
    }

    /// The form that crosses the boundary. The value stays here.
    pub(crate) fn decision(&self) -> Decision {
        let mut d = Decision {
            action: action::KEEP,
            status: self.status,
            value: Buf::EMPTY,
            expires_at_ms: 0,
            flags: 0,
            marks: 0,
            _rsv: [0; 3],
            note: self.note,
            new_cas: self.new_cas,
        };
        match &self.modify {
            Modify::Keep => {}
            Modify::Delete => d.action = action::DELETE,
            Modify::Replace { value, flags, marks, expires_at_ms } => {
                d.action = action::REPLACE;
                d.value = Buf::of(value);
                (d.flags, d.marks, d.expires_at_ms) = (*flags, *marks, *expires_at_ms);
            }
            Modify::SetMeta { flags, marks, expires_at_ms } => {
                d.action = action::SET_META;
                (d.flags, d.marks, d.expires_at_ms) = (*flags, *marks, *expires_at_ms);
            }
        }
        d
    }
}

impl Buf {
    /// No bytes.
    pub const EMPTY: Self = Self { ptr: std::ptr::null(), len: 0 };

    /// Borrows bytes; the caller minds how long.
    #[must_use]
    #[inline]
    pub const fn of(bytes: &[u8]) -> Self {
        Self { ptr: bytes.as_ptr(), len: bytes.len() }
    }

    /// The bytes.
    ///
    /// # Safety
    /// `ptr` is valid for `len` unchanging bytes for `'a`, or `len` is 0.
    #[must_use]
    #[inline]
    pub const unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_in_parts_reads_as_one_in_one_piece() {
        let (a, b) = (b"hello ".as_slice(), b"world".as_slice());
        let parts = [Buf::of(a), Buf::EMPTY, Buf::of(b)];
        let view = ItemView {
            ptr: parts.as_ptr().cast(),
            kind: item_kind::PARTS,
            nparts: 3,
            len: 11,
            ..ItemView::NONE
        };
        // SAFETY: `parts` and the literals outlive the item.
        let item = unsafe { Item::from_view(view) }.unwrap();
        assert_eq!(item.value().contiguous(), None);
        assert_eq!(item.value().to_vec(), b"hello world");
        assert!(item.value() == *b"hello world");
        assert!(item.value() != *b"hello_world");
    }

    #[test]
    fn idle_seconds_are_exact_for_an_hour_and_never_too_long() {
        let step = if cfg!(miri) { 397 } else { 1 };
        for s in (0..40_000).step_by(step).chain([1 << 20, 123_456_789, u32::MAX]) {
            let back = idle::seconds(idle::code(s)).unwrap();
            assert!(back <= s && s - back <= s / 2048, "{s}: {back}");
            assert!(s >= 4096 || back == s, "{s}: {back}");
        }
        let item = Item::of_bytes(b"v", 1, 0, 0, 0);
        assert_eq!((item.idle_s(), item.was_seen(), item.hits()), (None, false, 0));
        let item = item.with_idle_s(Some(61)).with_seen(true);
        assert_eq!((item.idle_s(), item.was_seen(), item.hits()), (Some(61), true, 0));
    }

    #[test]
    fn an_empty_value_is_an_item_and_no_item_is_none() {
        let item = Item::of_bytes(b"", 1, 0, 0, 0);
        assert_eq!(item.value().contiguous(), Some(&b""[..]));
        // SAFETY: no pointers are read for NONE.
        assert!(unsafe { Item::from_view(ItemView::NONE) }.is_none());
    }
}
