//! Writes: every one is a single step for its key.
//!
//! A write looks at the present item, prepares the new one outside any lock,
//! and then, holding the key's stripe for a few stores, links it if the item it
//! had looked at is still the present one. Else it looks again: somebody else's
//! write took place, so the whole makes progress.

use crate::error::Error;
use crate::hash::KeyHash;
use crate::segment::item::{Header, MARKS_MASK};
use crate::segment::state::{Layer, Word};
use crate::stats::Count;
use crate::sync::Ordering;
use crate::table::Inserted;
use crate::table::entry::Entry;
use crate::ttl;
use crate::view::Item;
use crate::worker::Worker;
use crate::worker::logs::Room;

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
    fn kept(status: Status, item: Option<Item<'w>>) -> Self {
        Self { status, old: item, new: item, cas: item.map_or(0, |item| item.cas()) }
    }

    fn of(status: Status) -> Self {
        Self { status, old: None, new: None, cas: 0 }
    }
}

/// Where a new item was written, not yet linked.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    Log(Room),
    Chain(u32, Word),
    /// A reservation's memory, which stays its own if the link fails.
    Kept(u64),
}

/// What must be the key's entry for a link to take place.
#[derive(Clone, Copy)]
pub(crate) enum Expect {
    Anything,
    Exactly(Option<Entry>),
}

/// What a link leaves in the entry beside tag, hits and place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    Plain,
    /// The new item's CAS token is in somebody's hands.
    Token,
    /// It is the former item with other meta: if that was read, so was this.
    Read,
}

impl Leave {
    pub(crate) fn of(store: &Store<'_>) -> Self {
        if store.keep_cas { Leave::Token } else { Leave::Plain }
    }
}

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
        let depends = store.condition != Condition::Always
            || store.keep_deadline
            || store.keep_flags
            || store.want_old;
        self.prefetch_for_write(hash);
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
            let seen = found.map(|found| found.entry);
            let place = self.place(hash, seen, &header, key, value)?;
            let expect = if depends { Expect::Exactly(seen) } else { Expect::Anything };
            if let Some(location) = self.link(hash, key, place, expect, Leave::of(store)) {
                let cas = self.token_at(location, &header);
                let old = old.filter(|_| store.want_old).map(Item::with_cas);
                return Ok(Outcome { status: Status::Done, old, new: None, cas });
            }
            self.counters().add(Count::retries, 1);
        }
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
            let seen = found.map(|found| found.entry);
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
                            seen.filter(|entry| entry.token_taken()).map(|_| item.cas())
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
                let entry = seen.unwrap_or(Entry::new(hash.tag(), 0, location));
                let new = self.item_of(entry.moved(location, entry.count())).with_cas();
                return Ok(Outcome { status: Status::Done, old, new: Some(new), cas: new.cas() });
            }
            self.counters().add(Count::retries, 1);
        }
    }

    /// Removes the key's entry if it is still the one seen (or still absent).
    fn delete_exactly(&self, hash: KeyHash, key: &[u8], seen: Option<Entry>) -> bool {
        let guard = self.shared.index.lock(hash);
        let found = guard.find(key, &self.shared.segments);
        match (found, seen) {
            (None, None) => true,
            (Some(found), Some(seen)) if found.entry.same_item(seen) => {
                guard.remove(found);
                let life = guard.life();
                drop(guard);
                self.unlinked(seen, life, None);
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

    /// The layer of a new item, from the entry it replaces or its ghost.
    pub(crate) fn admit(&self, hash: KeyHash, seen: Option<Entry>) -> Layer {
        match seen {
            Some(entry) if self.layer_of(entry.location()) == Layer::Main => Layer::Main,
            Some(_) => self.shared.policy.admit(false),
            None => {
                let ghost = self.shared.ghosts.contains(hash);
                if ghost {
                    self.counters().add(Count::ghost_hits, 1);
                }
                self.shared.policy.admit(ghost)
            }
        }
    }

    /// Writes a new item, so that it can be linked. What was there stays if no
    /// memory can be freed.
    pub(crate) fn place(
        &self,
        hash: KeyHash,
        seen: Option<Entry>,
        header: &Header,
        key: &[u8],
        value: &[&[u8]],
    ) -> Result<Place, Error> {
        let layer = self.admit(hash, seen);
        if header.item_len() > self.shared.segments.capacity() {
            let (head, word, header) =
                self.chain_for(layer, *header).ok_or_else(|| self.no_memory(header))?;
            self.write_chain(head, &header, key, value);
            return Ok(Place::Chain(head, word));
        }
        let room = self
            .cut(layer, header.item_len(), header.deadline)
            .ok_or_else(|| self.no_memory(header))?;
        self.write(room, header, key, value, self.now_s());
        Ok(Place::Log(room))
    }

    /// Counts and tells that no memory could be freed for an item.
    #[cold]
    pub(crate) fn no_memory(&self, header: &Header) -> Error {
        self.counters().add(Count::no_memory, 1);
        Error::NoMemory { len_bytes: header.item_len() }
    }

    /// A chain for a large item. Its token has its own bytes, because a large
    /// item that survives stays in place under a new seq.
    pub(crate) fn chain_for(&self, layer: Layer, header: Header) -> Option<(u32, Word, Header)> {
        let group = if header.deadline == 0 { ttl::NEVER } else { ttl::MIXED };
        let mut header = Header { token: Some(header.token.unwrap_or(0)), ..header };
        let (head, word) = self.take_chain(layer, group, header.item_len())?;
        let segments = &self.shared.segments;
        if header.token == Some(0) {
            header.token = Some(segments.place_token(segments.location(head, 0)));
        }
        let meta = segments.meta(head);
        let deadline = if header.deadline == 0 { u64::MAX } else { header.deadline };
        meta.min_deadline.store(deadline, Ordering::Relaxed);
        meta.max_deadline.store(deadline, Ordering::Relaxed);
        meta.sweep_at.store(deadline, Ordering::Relaxed);
        Some((head, word, header))
    }

    /// Links a written item under its key; returns where it is. `None`: the key's
    /// entry was not as expected, and the item is gone again.
    pub(crate) fn link(
        &self,
        hash: KeyHash,
        key: &[u8],
        place: Place,
        expect: Expect,
        leave: Leave,
    ) -> Option<u64> {
        self.link_place(hash, key, place, expect, leave, true)
    }

    /// [`Worker::link`] for memory of a reservation, which keeps it on failure.
    pub(crate) fn link_kept(
        &self,
        hash: KeyHash,
        key: &[u8],
        place: Place,
        expect: Expect,
        leave: Leave,
    ) -> Option<u64> {
        self.link_place(hash, key, place, expect, leave, false)
    }

    fn link_place(
        &self,
        hash: KeyHash,
        key: &[u8],
        place: Place,
        expect: Expect,
        leave: Leave,
        own_chain: bool,
    ) -> Option<u64> {
        let shared = &*self.shared;
        let location = match place {
            Place::Log(room) => room.location,
            Place::Chain(head, _) => shared.segments.location(head, 0),
            Place::Kept(location) => location,
        };
        let guard = shared.index.lock(hash);
        let found = guard.find(key, &shared.segments);
        let as_expected = match (expect, found) {
            (Expect::Anything, _) | (Expect::Exactly(None), None) => true,
            (Expect::Exactly(Some(seen)), Some(found)) => found.entry.same_item(seen),
            (Expect::Exactly(_), _) => false,
        };
        if !as_expected {
            drop(guard);
            match place {
                Place::Log(room) => self.take_back(room),
                Place::Chain(head, word) if own_chain => {
                    shared.segments.retire(head, word, &shared.epochs);
                }
                Place::Chain(..) | Place::Kept(_) => {}
            }
            return None;
        }
        let entry = Entry::new(hash.tag(), 0, location);
        let entry = if leave == Leave::Token { entry.with_token() } else { entry };
        let mut inserted = Inserted::Free;
        let replaced = match found {
            Some(found) => Some(guard.replace(found, |now| {
                let entry = entry.with_count(now.count());
                if leave == Leave::Read && now.was_read() { entry.with_read() } else { entry }
            })),
            None => {
                inserted = guard.insert(entry);
                None
            }
        };
        let life = guard.life();
        drop(guard);
        self.linked(location, life);
        if let Some(old) = replaced {
            self.unlinked(old, life, None);
        }
        match inserted {
            Inserted::Free => {}
            Inserted::Displaced => self.counters().add(Count::displaced, 1),
            Inserted::Evicted(gone) => self.slot_evicted(gone, life),
        }
        if let Place::Chain(head, word) = place {
            shared.segments.seal(head, word);
        }
        if replaced.is_none() {
            self.think_of_growth();
        }
        let len = self.header_at(location).item_len();
        shared.samples.stored(hash, len);
        self.pay(len);
        Some(location)
    }

    /// Every so many new items, and at every one while the table grows.
    #[inline]
    fn think_of_growth(&self) {
        const EVERY: u32 = 64;
        let n = self.unchecked.get() + 1;
        if n >= EVERY {
            self.unchecked.set(0);
            self.maintain(8);
        } else {
            self.unchecked.set(n);
            if n.is_multiple_of(4) && self.growing() {
                self.maintain(8);
            }
        }
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
