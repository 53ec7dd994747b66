//! One hashtable slot as a value.
//!
//! ```text
//! 63      48 47     45   44    43   42                0
//! |  tag 16 | count 3 | tok | read |   location 43    |
//! ```
//! `tag` is never zero, so the all-zero word is the empty slot. `count` is the
//! capped number of hits that the policy goes by, `tok` says that a CAS token of
//! this item was handed out, `read` that somebody read it since it was stored,
//! and `location` is whatever the storage below means by it.

/// Largest hit count a slot can hold.
pub(crate) const COUNT_MAX: u8 = 7;
/// Locations are below this bound (8 TiB of bytes).
pub(crate) const LOCATION_BITS: u32 = 43;

const LOCATION_MASK: u64 = (1 << LOCATION_BITS) - 1;
const READ_BIT: u64 = 1 << 43;
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

    /// Whether the item was read since it was stored.
    #[inline]
    pub(crate) fn was_read(self) -> bool {
        self.0 & READ_BIT != 0
    }

    /// After one more read, with its hits counted up to `cap`.
    #[inline]
    pub(crate) fn counted(self, cap: u8) -> Self {
        debug_assert!(cap <= COUNT_MAX);
        let hit = u64::from(self.count() < cap) << COUNT_SHIFT;
        Entry((self.0 | READ_BIT) + hit)
    }

    /// The entry of the same item at another place, with other hits.
    #[inline]
    pub(crate) fn moved(self, location: u64, count: u8) -> Self {
        debug_assert!(location <= LOCATION_MASK);
        Entry((self.0 & !LOCATION_MASK) | location).with_count(count)
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

    /// The same entry, read since it was stored.
    #[inline]
    pub(crate) fn with_read(self) -> Self {
        Entry(self.0 | READ_BIT)
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
        assert!(!e.was_read() && e.with_read().was_read());
        assert_eq!((e.with_read().location(), e.with_read().count()), (LOCATION_MASK, 7));
        let e = Entry::new(1, 0, 42).with_token().counted(3);
        assert_eq!((e.tag(), e.count(), e.location(), e.token_taken()), (1, 1, 42, true));
        assert!(e.was_read());
        assert_eq!(e.counted(1), e);
        assert!(e.same_item(Entry::new(1, 3, 42)));
        assert!(!e.same_item(Entry::new(2, 0, 42)));
        assert_eq!(e.with_count(3).count(), 3);
        let moved = e.moved(77, 0);
        assert_eq!((moved.tag(), moved.count(), moved.location()), (1, 0, 77));
        assert!(moved.token_taken() && moved.was_read());
    }
}
