//! From a written item to one that the index leads to.
//!
//! An item is placed (admitted to a layer, room cut, bytes written) while nothing
//! leads to it, and linked under its key's stripe, which takes the entry of the item
//! before in the same step. Called by all writes and by reservations.

use crate::error::Error;
use crate::hash::KeyHash;
use crate::segment::item::Header;
use crate::segment::state::{Layer, Word};
use crate::stats::Count;
use crate::sync::Ordering;
use crate::table::entry::Entry;
use crate::table::{Inserted, Spot};
use crate::ttl;
use crate::worker::Worker;
use crate::worker::logs::Room;
use crate::worker::terms::Store;

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
    /// Whatever it is; it may stand at this spot.
    Anything(Spot),
    Exactly(Option<Seen>),
}

/// An item as its key's entry told of it. The entry alone would not do: while memory
/// is made for the new item, the old one's may be freed and filled anew, and another
/// worker's item of the same key may come to stand in the same place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) entry: Entry,
    /// The token of its place, which no item ever written shares.
    token: u64,
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
    /// Notes which item an entry leads to, found in this sweep.
    #[inline]
    pub(crate) fn seen(&self, entry: Entry) -> Seen {
        Seen { entry, token: self.shared.segments.place_token(entry.location()) }
    }

    /// Whether an entry leads to the item that was seen.
    #[inline]
    pub(crate) fn is_seen(&self, seen: &Seen, entry: Entry) -> bool {
        entry.same_item(seen.entry)
            && self.shared.segments.place_token(entry.location()) == seen.token
    }

    /// The layer of a new item, from the place of the one it replaces or its ghost.
    pub(crate) fn admit(&self, hash: KeyHash, seen: Option<u64>) -> Layer {
        match seen {
            Some(location) if self.layer_of(location) == Layer::Main => Layer::Main,
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
        seen: Option<Seen>,
        header: &Header,
        key: &[u8],
        value: &[&[u8]],
    ) -> Result<Place, Error> {
        self.place_in(self.admit(hash, seen.map(|seen| seen.entry.location())), header, key, value)
    }

    /// [`Worker::place`] in a layer that is known.
    #[inline]
    pub(crate) fn place_in(
        &self,
        layer: Layer,
        header: &Header,
        key: &[u8],
        value: &[&[u8]],
    ) -> Result<Place, Error> {
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
        let len = match place {
            Place::Log(room) => room.len,
            _ => self.header_at(location).item_len(),
        };
        let guard = shared.index.lock(hash);
        let found = match expect {
            Expect::Anything(spot) => guard.find_at(spot, key, &shared.segments),
            Expect::Exactly(_) => guard.find(key, &shared.segments),
        };
        let as_expected = match (expect, found) {
            (Expect::Anything(_), _) | (Expect::Exactly(None), None) => true,
            (Expect::Exactly(Some(seen)), Some(found)) => self.is_seen(&seen, found.entry),
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
        match replaced {
            Some(old) => self.replaced(old, len, life),
            None => self.linked(len, life),
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

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::table::entry::Entry;
    use crate::worker::{Store, Worker};
    use crate::{Cache, Config};

    fn entry(worker: &Worker) -> Entry {
        let shared = &worker.shared;
        shared.index.find(worker.hash(b"k"), b"k", &shared.segments).expect("it is there").entry
    }

    #[test]
    fn another_item_of_the_key_in_the_same_place_is_not_the_one_that_was_seen() {
        let cache = Cache::new(Config::new(64 << 10)).unwrap();
        let mut worker = cache.worker(0).unwrap();
        // One item fills a segment, so each stands where one stood before.
        let mut store = || {
            worker.enter(1);
            worker.store(b"k", &[&[7; 3000]], &Store::default()).unwrap();
            let entry = entry(&worker);
            (entry, worker.seen(entry), worker.is_seen(&worker.seen(entry), entry))
        };
        let (first, seen, is_seen) = store();
        assert!(is_seen);
        let again = (0..100).map(|_| store().0).find(|entry| entry.same_item(first));
        let again = again.expect("memory is used again");
        assert!(!worker.is_seen(&seen, again));
    }
}
