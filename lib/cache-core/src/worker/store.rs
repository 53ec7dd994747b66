//! Writes: every one is a single step for its key.
//!
//! A write looks at the present item, prepares the new one outside any lock,
//! and then, holding the key's stripe for a few stores, links it ([`super::link`])
//! if the item it had looked at is still the present one. Else it looks again:
//! somebody else's write took place, so the whole makes progress.

use crate::error::Error;
use crate::hash::KeyHash;
use crate::segment::item::{Header, MARKS_MASK};
use crate::stats::Count;
use crate::table::Spot;
use crate::table::entry::Entry;
use crate::view::Item;
use crate::worker::Worker;
use crate::worker::link::{Expect, Leave, Seen};
use crate::worker::read::Sought;
use crate::worker::terms::{
    Condition, DeadlineCondition, Edit, Meta, NewValue, Outcome, Status, Store,
};

impl Worker {
    /// Stores a value in pieces.
    pub fn store<'w>(
        &'w self,
        key: &[u8],
        value: &[&[u8]],
        store: &Store<'_>,
    ) -> Result<Outcome<'w>, Error> {
        self.store_hashed(key, self.hash(key), value, store)
    }

    /// [`Worker::store`] for a key whose hash is known.
    pub fn store_hashed<'w>(
        &'w self,
        key: &[u8],
        hash: KeyHash,
        value: &[&[u8]],
        store: &Store<'_>,
    ) -> Result<Outcome<'w>, Error> {
        self.auto_enter();
        self.prefetch_for_write(hash);
        self.store_sought(key, Sought::new(hash), value, store)
    }

    /// [`Worker::store`] for a key that a batch has looked for.
    pub fn store_sought<'w>(
        &'w self,
        key: &[u8],
        sought: Sought,
        value: &[&[u8]],
        store: &Store<'_>,
    ) -> Result<Outcome<'w>, Error> {
        self.auto_enter();
        let hash = sought.hash();
        if !store.depends() {
            return self.put(key, sought, value, store);
        }
        loop {
            let found = self.shared.index.find(hash, key, &self.shared.segments);
            let old = found.and_then(|found| self.visible(&found));
            if let Err(status) = store.condition.check(old.as_ref()) {
                self.lent.set(true);
                return Ok(Outcome { status, old: old.map(Item::with_cas), new: None, cas: 0 });
            }
            let mut meta = store.meta;
            if let Some(old) = &old {
                if store.keep_deadline {
                    meta.deadline_ms = old.deadline_ms();
                }
                if store.keep_flags {
                    meta.flags = old.flags();
                }
            }
            if store.want_old && old.is_some() {
                // From here on the old item must outlive quiescent points.
                self.lent.set(true);
            }
            let header = self.header(key, value.iter().map(|v| v.len()).sum(), &meta, store.cas)?;
            let seen = found.map(|found| self.seen(found.entry));
            let place = self.place(hash, seen, &header, key, value)?;
            let expect = Expect::Exactly(seen);
            if let Some(location) = self.link(hash, key, place, expect, Leave::of(store)) {
                let cas = self.token_at(location, &header);
                let old = old.filter(|_| store.want_old).map(Item::with_cas);
                return Ok(Outcome { status: Status::Done, old, new: None, cas });
            }
            self.counters().add(Count::retries, 1);
        }
    }

    /// A store that takes place whatever there was before. All it wants to know of the
    /// item before is its layer, so the new one is written while the line of the old
    /// one is on its way; its key is compared once, under the stripe.
    fn put<'w>(
        &'w self,
        key: &[u8],
        sought: Sought,
        value: &[&[u8]],
        store: &Store<'_>,
    ) -> Result<Outcome<'w>, Error> {
        let hash = sought.hash();
        let header =
            self.header(key, value.iter().map(|v| v.len()).sum(), &store.meta, store.cas)?;
        let (index, segments) = (&self.shared.index, &self.shared.segments);
        let likely = index.likely(sought.spot(), hash);
        if let Some((_, location)) = likely {
            crate::prefetch::line(segments.ptr(location));
        }
        let layer = self.admit(hash, likely.map(|(_, location)| location));
        let place = self.place_in(layer, &header, key, value)?;
        let spot = likely.map_or(Spot::NONE, |(spot, _)| spot);
        let location = self
            .link(hash, key, place, Expect::Anything(spot), Leave::of(store))
            .expect("whatever the entry is, the link takes place");
        let cas = self.token_at(location, &header);
        Ok(Outcome { status: Status::Done, old: None, new: None, cas })
    }

    /// Removes a key's item.
    pub fn delete<'w>(&'w self, key: &[u8], condition: Condition<'_>) -> Outcome<'w> {
        let hash = self.hash(key);
        self.auto_enter();
        self.shared.index.prefetch(hash);
        let guard = self.shared.index.lock(hash);
        let Some(found) = guard.find(key, &self.shared.segments) else {
            return Outcome::of(Status::Absent);
        };
        let item = self.item_of(found.entry);
        let expired = self.is_expired(item.header().deadline);
        if !expired && let Err(status) = condition.check(Some(&item)) {
            self.lent.set(true);
            return Outcome { old: Some(item.with_cas()), ..Outcome::of(status) };
        }
        guard.remove(found);
        let life = guard.life();
        drop(guard);
        self.unlinked(found.entry, life, None);
        if expired {
            self.counters().add(Count::expired, 1);
            self.counters().add(Count::expired_unread, u64::from(!found.entry.was_read()));
            return Outcome::of(Status::Absent);
        }
        self.lent.set(true);
        Outcome { status: Status::Done, old: Some(item.with_cas()), new: None, cas: 0 }
    }

    /// Sets an item's deadline (unix milliseconds, 0 for never). Its CAS token
    /// stays.
    pub fn touch<'w>(
        &'w self,
        key: &[u8],
        deadline_ms: u64,
        condition: DeadlineCondition,
    ) -> Result<Outcome<'w>, Error> {
        let mut refused = false;
        let outcome = self.update(key, |item| {
            refused = false;
            match item {
                None => Edit::Keep,
                Some(item) if !condition.allows(item.deadline_ms(), deadline_ms) => {
                    refused = true;
                    Edit::Keep
                }
                Some(item) => Edit::SetMeta(Meta { deadline_ms, ..Meta::of(item) }),
            }
        });
        let mut outcome = outcome?;
        if outcome.status == Status::Kept {
            outcome.status = match (refused, outcome.old) {
                (true, _) => Status::Mismatch,
                (false, None) => Status::Absent,
                (false, Some(_)) => Status::Done,
            };
        }
        Ok(outcome)
    }

    /// Any read-modify-write as one step. `decide` sees the present item with
    /// its CAS token; it may be called again if another writer was first.
    pub fn update<'w>(
        &'w self,
        key: &[u8],
        decide: impl FnMut(Option<&Item<'w>>) -> Edit<'w>,
    ) -> Result<Outcome<'w>, Error> {
        self.update_hashed(key, self.hash(key), decide)
    }

    /// [`Worker::update`] for a key whose hash is known.
    pub fn update_hashed<'w>(
        &'w self,
        key: &[u8],
        hash: KeyHash,
        mut decide: impl FnMut(Option<&Item<'w>>) -> Edit<'w>,
    ) -> Result<Outcome<'w>, Error> {
        self.auto_enter();
        self.prefetch_for_write(hash);
        loop {
            let found = self.shared.index.find(hash, key, &self.shared.segments);
            let seen = found.map(|found| self.seen(found.entry));
            let old = found.and_then(|found| self.visible(&found)).map(Item::with_cas);
            // The item is in the caller's hands until the sweep ends.
            self.lent.set(true);
            let mut leave = Leave::Plain;
            let (value, meta, cas) = match decide(old.as_ref()) {
                Edit::Keep => return Ok(Outcome::kept(Status::Kept, old)),
                Edit::Delete => {
                    if self.delete_exactly(hash, key, seen) {
                        let status = if old.is_some() { Status::Done } else { Status::Absent };
                        return Ok(Outcome { status, old, new: None, cas: 0 });
                    }
                    self.counters().add(Count::retries, 1);
                    continue;
                }
                Edit::SetMeta(meta) => match &old {
                    None => return Ok(Outcome::of(Status::Absent)),
                    Some(item) if Meta::of(item) == meta => {
                        item.note_use();
                        return Ok(Outcome::kept(Status::Done, old));
                    }
                    Some(item) => {
                        // The token stays; it needs its own bytes only if the
                        // place that gave it was told to somebody.
                        let keep = item.header().token.or_else(|| {
                            seen.filter(|seen| seen.entry.token_taken()).map(|_| item.cas())
                        });
                        leave = Leave::Read;
                        (NewValue::Append(&[]), meta, keep)
                    }
                },
                Edit::Replace { value, meta, cas } => (value, meta, cas),
            };
            let mut pieces = Pieces::default();
            pieces.gather(&value, old.as_ref());
            let value = pieces.as_slice();
            let header = self.header(key, value.iter().map(|v| v.len()).sum(), &meta, cas)?;
            let place = self.place(hash, seen, &header, key, value)?;
            if let Some(location) = self.link(hash, key, place, Expect::Exactly(seen), leave) {
                let entry = seen.map_or(Entry::new(hash.tag(), 0, location), |seen| seen.entry);
                let new = self.item_of(entry.moved(location, entry.count())).with_cas();
                return Ok(Outcome { status: Status::Done, old, new: Some(new), cas: new.cas() });
            }
            self.counters().add(Count::retries, 1);
        }
    }

    /// Removes the key's entry if it is still the one seen (or still absent).
    fn delete_exactly(&self, hash: KeyHash, key: &[u8], seen: Option<Seen>) -> bool {
        let guard = self.shared.index.lock(hash);
        let found = guard.find(key, &self.shared.segments);
        match (found, seen) {
            (None, None) => true,
            (Some(found), Some(seen)) if self.is_seen(&seen, found.entry) => {
                guard.remove(found);
                let life = guard.life();
                drop(guard);
                self.unlinked(found.entry, life, None);
                true
            }
            _ => false,
        }
    }

    #[inline]
    fn prefetch_for_write(&self, hash: KeyHash) {
        self.shared.index.prefetch(hash);
        if let Some(ghosts) = self.shared.ghosts.get() {
            ghosts.prefetch(hash);
        }
    }

    /// The CAS token of an item that this worker has just linked.
    pub(crate) fn token_at(&self, location: u64, header: &Header) -> u64 {
        header.token.unwrap_or_else(|| {
            let segments = &self.shared.segments;
            // A large item carries its token (see `chain_for`), which is its place.
            segments.place_token(location)
        })
    }

    /// The header of a new item, if it may be stored at all.
    pub(crate) fn header(
        &self,
        key: &[u8],
        value_len: usize,
        meta: &Meta,
        token: Option<u64>,
    ) -> Result<Header, Error> {
        let value_limit = self.shared.value_len_max();
        let key_limit = self.shared.key_len_max();
        if key.len() > key_limit {
            return Err(Error::KeyTooLong { len_bytes: key.len(), limit_bytes: key_limit });
        }
        if value_len > value_limit {
            return Err(Error::ValueTooLong { len_bytes: value_len, limit_bytes: value_limit });
        }
        let deadline = self.deadline_rel(meta.deadline_ms);
        Ok(Header {
            key_len: key.len(),
            value_len,
            deadline,
            client_flags: meta.flags,
            marks: meta.marks & MARKS_MASK,
            token,
            timed: deadline != 0,
            flagged: meta.flags != 0,
        })
    }
}

/// The pieces of a new value.
#[derive(Default)]
struct Pieces<'v> {
    few: [&'v [u8]; 2],
    many: Vec<&'v [u8]>,
    len: usize,
}

impl<'v> Pieces<'v> {
    fn gather(&mut self, value: &'v NewValue<'v>, old: Option<&Item<'v>>) {
        match value {
            NewValue::Bytes(bytes) => self.push(bytes),
            NewValue::Pieces(pieces) => pieces.iter().for_each(|piece| self.push(piece)),
            NewValue::Append(bytes) => {
                old.into_iter().flat_map(Item::parts).for_each(|part| self.push(part));
                self.push(bytes);
            }
            NewValue::Prepend(bytes) => {
                self.push(bytes);
                old.into_iter().flat_map(Item::parts).for_each(|part| self.push(part));
            }
            NewValue::Small(bytes, len) => self.push(&bytes[..usize::from(*len).min(bytes.len())]),
        }
    }

    fn push(&mut self, piece: &'v [u8]) {
        if piece.is_empty() {
            return;
        }
        if self.many.is_empty() && self.len < self.few.len() {
            self.few[self.len] = piece;
        } else {
            if self.many.is_empty() {
                self.many.extend_from_slice(&self.few[..self.len]);
            }
            self.many.push(piece);
        }
        self.len += 1;
    }

    fn as_slice(&self) -> &[&'v [u8]] {
        if self.many.is_empty() { &self.few[..self.len] } else { &self.many }
    }
}
