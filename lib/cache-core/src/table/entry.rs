//! One hashtable slot as a value.
//!
//! ```text
//! 63      48 47     45   44   43                  0
//! |  tag 16 | count 3 | tok |     location 44     |
//! ```
//! `tag` is never zero, so the all-zero word is the empty slot. `count` is the
//! capped number of hits, `tok` says that a CAS token of this item was handed
//! out, and `location` is whatever the storage below means by it.

/// Largest hit count a slot can hold.
pub(crate) const COUNT_MAX: u8 = 7;
/// Locations are below this bound (16 TiB of bytes).
pub(crate) const LOCATION_BITS: u32 = 44;

const LOCATION_MASK: u64 = (1 << LOCATION_BITS) - 1;
const TOKEN_BIT: u64 = 1 << 44;
const COUNT_SHIFT: u32 = 45;
const COUNT_MASK: u64 = 7;
const TAG_SHIFT: u32 = 48;

/// A slot's word; zero when nothing is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) u64);

impl Entry {
    /// A new entry without a token.
    #[inline]
    pub(crate) fn new(tag: u16, count: u8, location: u64) -> Self {
        debug_assert!(tag != 0 && count <= COUNT_MAX && location <= LOCATION_MASK);
        Entry((u64::from(tag) << TAG_SHIFT) | (u64::from(count) << COUNT_SHIFT) | location)
    }

    /// Whether the slot is free.
    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The key's tag.
    #[inline]
    pub(crate) fn tag(self) -> u16 {
        (self.0 >> TAG_SHIFT) as u16
    }

    /// Hits since the item came, capped by the policy and at [`COUNT_MAX`].
    #[inline]
    pub(crate) fn count(self) -> u8 {
        ((self.0 >> COUNT_SHIFT) & COUNT_MASK) as u8
    }

    /// Where the item is.
    #[inline]
    pub(crate) fn location(self) -> u64 {
        self.0 & LOCATION_MASK
    }

    /// Whether a CAS token of this item is in a client's hands.
    #[inline]
    pub(crate) fn token_taken(self) -> bool {
        self.0 & TOKEN_BIT != 0
    }

    /// One more hit, capped.
    #[inline]
    pub(crate) fn counted(self) -> Self {
        debug_assert!(self.count() < COUNT_MAX);
        Entry(self.0 + (1 << COUNT_SHIFT))
    }

    /// The same entry with another hit count.
    #[inline]
    pub(crate) fn with_count(self, count: u8) -> Self {
        Entry((self.0 & !(COUNT_MASK << COUNT_SHIFT)) | (u64::from(count) << COUNT_SHIFT))
    }

    /// The same entry with its token handed out.
    #[inline]
    pub(crate) fn with_token(self) -> Self {
        Entry(self.0 | TOKEN_BIT)
    }

    /// Whether both words speak of the same item, whatever its count and token.
    #[inline]
    pub(crate) fn same_item(self, other: Entry) -> bool {
        const ITEM: u64 = LOCATION_MASK | (0xffff << TAG_SHIFT);
        (self.0 ^ other.0) & ITEM == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_overlap() {
        let e = Entry::new(0xffff, 7, LOCATION_MASK);
        assert_eq!(
            (e.tag(), e.count(), e.location(), e.token_taken()),
            (0xffff, 7, LOCATION_MASK, false)
        );
        let e = Entry::new(1, 0, 42).with_token().counted();
        assert_eq!((e.tag(), e.count(), e.location(), e.token_taken()), (1, 1, 42, true));
        assert!(e.same_item(Entry::new(1, 3, 42)));
        assert!(!e.same_item(Entry::new(2, 0, 42)));
        assert_eq!(e.with_count(3).count(), 3);
    }
}
