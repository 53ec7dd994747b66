//! Reads: one key, or groups of keys with their cache misses overlapped.

use crate::hash::KeyHash;
use crate::stats::Count;
use crate::table::{Found, Spot};
use crate::view::Item;
use crate::worker::Worker;

/// Keys whose lines are fetched together.
const GROUP: usize = 32;

/// A key's hash on its way through a batch: [`Worker::prefetch`] notes where the
/// key's entry seems to stand, and a read looks there first.
#[derive(Debug, Clone, Copy)]
pub struct Sought {
    hash: KeyHash,
    spot: Spot,
    /// Its buckets, within one call of [`Worker::prefetch`].
    pair: (u32, u32),
}

impl Sought {
    /// A key of this hash, not looked for yet.
    #[inline]
    #[must_use]
    pub fn new(hash: KeyHash) -> Self {
        Self { hash, spot: Spot::NONE, pair: (0, 0) }
    }

    pub(crate) fn spot(&self) -> Spot {
        self.spot
    }

    /// The key's hash.
    #[inline]
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        self.hash
    }
}

/// Bytes of an item that a batch fetches ahead: its header, key and the first of
/// its value.
const AHEAD_LINES: usize = 2;

impl Worker {
    /// The item of a key, counted as a read.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<Item<'_>> {
        let hash = self.hash(key);
        self.get_hashed(key, hash)
    }

    /// [`Worker::get`] for a key whose hash is known.
    #[inline]
    pub fn get_hashed(&self, key: &[u8], hash: KeyHash) -> Option<Item<'_>> {
        self.auto_enter();
        self.shared.index.prefetch(hash);
        self.get_sought(key, Sought::new(hash))
    }

    /// [`Worker::get`] for a key that a batch has looked for.
    // Always: an Item is a dozen words, of which most callers want a few.
    #[inline(always)]
    pub fn get_sought(&self, key: &[u8], sought: Sought) -> Option<Item<'_>> {
        self.auto_enter();
        let Sought { hash, spot, .. } = sought;
        let Some(found) = self.shared.index.find_at(spot, hash, key, &self.shared.segments) else {
            self.count_miss(hash, false);
            return None;
        };
        let item = self.item_of(found.entry);
        if self.is_expired(item.header().deadline) {
            self.count_miss(hash, true);
            return None;
        }
        found.count_hit(self.count_cap);
        item.note_use();
        self.lent.set(true);
        self.counters().add(Count::hits, 1);
        self.shared.samples.read(hash, Some(item.item_len()));
        Some(item)
    }

    /// Counts a read that found nothing, by cause.
    // Not the one to return it: then every item that is found would go through memory.
    #[cold]
    #[inline(never)]
    fn count_miss(&self, hash: KeyHash, expired: bool) {
        let cause = if expired {
            Count::misses_expired
        } else if self.shared.ghosts.contains(hash) {
            Count::misses_evicted
        } else {
            Count::misses_absent
        };
        self.counters().add(Count::misses, 1);
        self.counters().add(cause, 1);
        self.shared.samples.read(hash, None);
    }

    /// The item of a key with its CAS token.
    pub fn gets(&self, key: &[u8]) -> Option<Item<'_>> {
        let hash = self.hash(key);
        self.gets_hashed(key, hash)
    }

    /// [`Worker::gets`] for a key whose hash is known.
    pub fn gets_hashed(&self, key: &[u8], hash: KeyHash) -> Option<Item<'_>> {
        let read = self.get_hashed(key, hash)?;
        self.pin_cas(key, hash).map(|item| item.with_history_of(&read))
    }

    /// The item of a key with a CAS token that stays when eviction moves it; not
    /// counted as a read.
    pub fn pin_cas(&self, key: &[u8], hash: KeyHash) -> Option<Item<'_>> {
        let item = self.peek_hashed(key, hash)?;
        if item.header().token.is_some() {
            return Some(item.with_cas());
        }
        // The entry must say that a token is out before the item can move, so
        // that the copy keeps it.
        let guard = self.shared.index.lock(hash);
        let found = guard.find(key, &self.shared.segments)?;
        let was = guard.replace(found, |entry| entry.with_token());
        drop(guard);
        let item = self.item_of(was);
        (!self.is_expired(item.header().deadline)).then(|| item.with_cas())
    }

    /// The item of a key, not counted as a read.
    pub fn peek(&self, key: &[u8]) -> Option<Item<'_>> {
        self.peek_hashed(key, self.hash(key))
    }

    /// [`Worker::peek`] for a key whose hash is known.
    pub fn peek_hashed(&self, key: &[u8], hash: KeyHash) -> Option<Item<'_>> {
        self.auto_enter();
        let found = self.shared.index.find(hash, key, &self.shared.segments)?;
        let item = self.visible(&found)?;
        self.lent.set(true);
        Some(item)
    }

    /// Counts a look-up that an operation of another kind makes: whether it finds an item.
    pub fn count_lookup(&self, key: &[u8], hash: KeyHash) {
        self.auto_enter();
        let found = self.shared.index.find(hash, key, &self.shared.segments);
        match found.and_then(|found| self.visible(&found)) {
            Some(item) => {
                self.counters().add(Count::hits, 1);
                self.shared.samples.read(hash, Some(item.item_len()));
            }
            None => self.count_miss(hash, found.is_some()),
        }
    }

    /// Notes a read of a key that was looked at by other means, for the policy.
    pub fn count_read(&self, key: &[u8], hash: KeyHash) {
        if let Some(found) = self.shared.index.find(hash, key, &self.shared.segments) {
            found.count_hit(self.count_cap);
            self.item_of(found.entry).note_use();
        }
    }

    /// Reads many keys: hashes them, fetches their buckets, then their items,
    /// then answers in order. `each` gets the key's place and its item.
    pub fn get_many<'w, K: AsRef<[u8]>>(
        &'w self,
        keys: &[K],
        mut each: impl FnMut(usize, Option<Item<'w>>),
    ) {
        self.auto_enter();
        let mut sought = [Sought::new(KeyHash(0)); GROUP];
        for (group, keys) in keys.chunks(GROUP).enumerate() {
            for (sought, key) in sought.iter_mut().zip(keys) {
                *sought = Sought::new(self.hash(key.as_ref()));
            }
            let sought = &mut sought[..keys.len()];
            self.prefetch(sought);
            for (i, (key, sought)) in keys.iter().zip(sought).enumerate() {
                each(group * GROUP + i, self.get_sought(key.as_ref(), *sought));
            }
        }
    }

    /// Fetches the lines that operations on these keys will need: buckets first,
    /// then the items they lead to. Best in groups of 16 to 32.
    #[inline]
    pub fn prefetch(&self, keys: &mut [Sought]) {
        self.auto_enter();
        // One view for both passes: a place in another table would be nowhere.
        let view = self.shared.index.view();
        for key in &mut *keys {
            key.pair = view.prefetch(key.hash);
        }
        for key in keys {
            if let Some((spot, location)) = view.guess(key.pair, key.hash) {
                key.spot = spot;
                let p = self.shared.segments.ptr(location);
                for line in 0..AHEAD_LINES {
                    crate::prefetch::line(p.wrapping_add(line * 64));
                }
            } else if let Some(ghosts) = self.shared.ghosts.get() {
                // A key that is not there may be about to be stored.
                ghosts.prefetch(key.hash);
            }
        }
    }

    /// The item of a found entry, unless its deadline has passed.
    #[inline]
    pub(crate) fn visible(&self, found: &Found<'_>) -> Option<Item<'_>> {
        let item = self.item_of(found.entry);
        if self.is_expired(item.header().deadline) { None } else { Some(item) }
    }
}
