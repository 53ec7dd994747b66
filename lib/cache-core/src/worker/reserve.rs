//! Reservations: memory for a value that arrives in pieces.
//!
//! A reservation pins its segment. If that segment is evicted meanwhile, its
//! memory stays until the reservation is committed (then the value is copied
//! to a new place) or dropped. A dropped reservation leaves nothing behind.
//!
//! # Safety
//! The memory of a reservation is the reservation's alone: it was cut from an
//! open segment (or is a chain of its own), nothing in the index leads to it,
//! and its pin keeps the segment from a new life.
#![allow(unsafe_code)]

use crate::cache::Shared;
use crate::error::Error;
use crate::segment::item::Header;
use crate::segment::last_use::LastUse;
use crate::segment::state::{State, Word};
use crate::stats::Count;
use crate::sync::{Ordering, fence};
use crate::table::Spot;
use crate::table::entry::Entry;
use crate::view::{Item, Parts};
use crate::worker::Worker;
use crate::worker::link::{Expect, Leave, Place};
use crate::worker::terms::{Meta, Outcome, Status, Store};
use std::sync::Arc;

/// What is to be stored once its value has arrived.
#[derive(Debug, Clone, Copy)]
pub struct ReserveRequest<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Length of the value in bytes.
    pub value_len: usize,
    /// Flags, marks and deadline; the commit may still change them if
    /// `room_for_meta` is set.
    pub meta: Meta,
    /// Keep room for a deadline and flags that are only known at the commit.
    pub room_for_meta: bool,
}

/// Memory for a value on its way. Dropping it abandons the value.
#[derive(Debug)]
pub struct Reservation {
    shared: Arc<Shared>,
    location: u64,
    header: Header,
    /// The segment's life when it was cut.
    word: Word,
    chain: bool,
    linked: bool,
}

/// Reservations may hold this share of the heap.
const SHARE: usize = 4;

impl Reservation {
    /// The memory to fill: start and length of each piece, in order.
    pub fn pieces(&mut self) -> impl Iterator<Item = (*mut u8, usize)> + '_ {
        let segments = &self.shared.segments;
        let mut parts = Parts::new(segments, self.location, &self.header);
        std::iter::from_fn(move || parts.next_range().map(|(at, len)| (segments.ptr(at), len)))
    }

    /// Length of the value in bytes.
    pub fn len(&self) -> usize {
        self.header.value_len
    }

    /// Whether the value has no bytes.
    pub fn is_empty(&self) -> bool {
        self.header.value_len == 0
    }

    /// Copies a whole value in; for callers that have it.
    pub fn fill(&mut self, value: &[u8]) {
        assert_eq!(value.len(), self.len(), "a reservation is filled whole");
        let mut rest = value;
        for (p, len) in self.pieces() {
            let (head, tail) = rest.split_at(len);
            // SAFETY: the piece is this reservation's alone and `len` bytes long.
            unsafe { p.copy_from_nonoverlapping(head.as_ptr(), len) };
            rest = tail;
        }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        // SAFETY: written at the start, pinned until drop.
        unsafe {
            self.shared
                .segments
                .bytes(self.location + self.header.len() as u64, self.header.key_len)
        }
    }

    fn id(&self) -> u32 {
        self.shared.segments.id_of(self.location)
    }
}

// SAFETY: the memory is the reservation's alone and shared state is atomic.
unsafe impl Send for Reservation {}

impl Drop for Reservation {
    fn drop(&mut self) {
        let shared = &*self.shared;
        if self.chain && !self.linked {
            shared.segments.retire(self.id(), self.word, &shared.epochs);
        }
        shared.reserved_bytes.fetch_sub(self.header.item_len() as u64, Ordering::Relaxed);
        // Release: writes into the memory are over when the reclaimer sees it.
        shared.segments.meta(self.id()).pins.fetch_sub(1, Ordering::Release);
    }
}

impl Worker {
    /// Memory for a value that arrives in pieces.
    pub fn reserve(&self, request: &ReserveRequest<'_>) -> Result<Reservation, Error> {
        self.auto_enter();
        let shared = &self.shared;
        let hash = self.hash(request.key);
        let mut header = self.header(request.key, request.value_len, &request.meta, None)?;
        header.timed |= request.room_for_meta;
        header.flagged |= request.room_for_meta;
        let len = header.item_len();
        let held = shared.reserved_bytes.fetch_add(len as u64, Ordering::Relaxed) as usize;
        let undo = || shared.reserved_bytes.fetch_sub(len as u64, Ordering::Relaxed);
        if held > 0 && held + len > shared.heap_size() / SHARE {
            undo();
            return Err(self.no_memory(&header));
        }
        let seen = shared.index.find(hash, request.key, &shared.segments).map(|found| found.entry);
        let layer = self.admit(hash, seen.map(Entry::location));
        let (location, word, chain) = if len > shared.segments.capacity() {
            let Some((head, word, with_token)) = self.chain_for(layer, header) else {
                undo();
                return Err(self.no_memory(&header));
            };
            shared
                .reserved_bytes
                .fetch_add((with_token.item_len() - len) as u64, Ordering::Relaxed);
            header = with_token;
            self.write_chain(head, &header, request.key, &[]);
            (shared.segments.location(head, 0), word, true)
        } else {
            let Some(room) = self.cut(layer, len, header.deadline) else {
                undo();
                return Err(self.no_memory(&header));
            };
            let p = shared.segments.ptr(room.location);
            let opened_s = shared.segments.opened_s(shared.segments.id_of(room.location));
            let last_use = LastUse::of(self.now_s(), opened_s);
            // SAFETY: the room was cut for this item and is ours alone. Header
            // and key are written now, so that walkers can step over the item.
            unsafe {
                let at = header.write(p, last_use);
                p.add(at).copy_from_nonoverlapping(request.key.as_ptr(), request.key.len());
            }
            (room.location, shared.segments.word(shared.segments.id_of(room.location)), false)
        };
        let id = shared.segments.id_of(location);
        shared.segments.meta(id).pins.fetch_add(1, Ordering::Relaxed);
        Ok(Reservation { shared: Arc::clone(shared), location, header, word, chain, linked: false })
    }

    /// Stores a reservation whose value has arrived. Conditions are checked now.
    pub fn commit<'w>(
        &'w self,
        mut reservation: Reservation,
        store: &Store<'_>,
    ) -> Result<Outcome<'w>, Error> {
        self.auto_enter();
        let shared = &*self.shared;
        let key = reservation.key().to_vec();
        let hash = self.hash(&key);
        let written = reservation.header;
        loop {
            let found = shared.index.find(hash, &key, &shared.segments);
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
                self.lent.set(self.lent.get() || store.want_old);
            }
            let seen = found.map(|found| self.seen(found.entry));
            let header = self.header(&key, written.value_len, &meta, store.cas)?;
            let here = header.marks == written.marks
                && (written.timed || header.deadline == 0)
                && (written.flagged || header.client_flags == 0)
                && store.cas.is_none()
                && self.stands(&reservation);
            let expect =
                if store.depends() { Expect::Exactly(seen) } else { Expect::Anything(Spot::NONE) };
            let linked = if here {
                self.finish(&mut reservation, &header);
                self.link_reservation(&mut reservation, hash, &key, expect, Leave::of(store))?
            } else {
                // Something changed since: the value moves to a new place.
                let value: Vec<&[u8]> = {
                    let segments = &shared.segments;
                    Parts::new(segments, reservation.location, &written).collect()
                };
                let place = self.place(hash, seen, &header, &key, &value)?;
                self.link(hash, &key, place, expect, Leave::of(store)).map(Some)
            };
            match linked {
                Some(location) => {
                    let cas = location.map_or(0, |at| self.token_at(at, &self.header_at(at)));
                    let old = old.filter(|_| store.want_old).map(Item::with_cas);
                    return Ok(Outcome { status: Status::Done, old, new: None, cas });
                }
                None => self.counters().add(Count::retries, 1),
            }
        }
    }

    /// Writes what only the commit knows into the reservation's header.
    fn finish(&self, reservation: &mut Reservation, header: &Header) {
        let segments = &self.shared.segments;
        reservation.header.deadline = header.deadline;
        reservation.header.client_flags = header.client_flags;
        let p = segments.ptr(reservation.location);
        // SAFETY: the header was written by `reserve` with this layout, and
        // nothing leads to the item yet.
        unsafe {
            reservation.header.patch(p);
            segments.note_use(reservation.location, self.now_s());
        }
        if reservation.chain && header.deadline != 0 {
            let meta = segments.meta(reservation.id());
            meta.min_deadline.store(header.deadline, Ordering::Relaxed);
            meta.max_deadline.store(header.deadline, Ordering::Relaxed);
            meta.sweep_at.store(header.deadline, Ordering::Relaxed);
        }
    }

    /// Whether the reservation's segment still holds live items.
    fn stands(&self, reservation: &Reservation) -> bool {
        let word = self.shared.segments.word(reservation.id());
        word.seq() == reservation.word.seq()
            && matches!(word.state(), State::Open | State::Sealed | State::Held)
    }

    /// Links a reservation. `None`: the key's entry was not as expected;
    /// `Some(None)`: it was linked, and evicted at once.
    fn link_reservation(
        &self,
        reservation: &mut Reservation,
        hash: crate::hash::KeyHash,
        key: &[u8],
        expect: Expect,
        leave: Leave,
    ) -> Result<Option<Option<u64>>, Error> {
        if reservation.chain {
            let place = Place::Chain(reservation.id(), reservation.word);
            let linked = self.link_kept(hash, key, place, expect, leave);
            reservation.linked = linked.is_some();
            return Ok(linked.map(Some));
        }
        let place = Place::Kept(reservation.location);
        let linked = self.link_kept(hash, key, place, expect, leave);
        if linked.is_some() {
            // Partner: the fence in `Segments::claim`. Either the evictor sees
            // our entry, or we see its claim.
            fence(Ordering::SeqCst);
            if !self.stands(reservation) {
                return self.rescue(reservation, hash).map(Some);
            }
        }
        Ok(linked.map(Some))
    }

    /// The segment was claimed while its item was linked: moves the item out,
    /// unless the evictor has dealt with it. Returns where it is.
    fn rescue(
        &self,
        reservation: &Reservation,
        hash: crate::hash::KeyHash,
    ) -> Result<Option<u64>, Error> {
        let shared = &*self.shared;
        let from = reservation.location;
        let header = reservation.header;
        let value: Vec<&[u8]> = Parts::new(&shared.segments, from, &header).collect();
        let key = reservation.key();
        let layer = self.layer_of(from);
        let room = self.cut(layer, header.item_len(), header.deadline);
        if let Some(room) = room {
            self.write(room, &header, key, &value, self.now_s());
        }
        let guard = shared.index.lock(hash);
        let Some(found) = guard.find_where(|entry| entry.location() == from) else {
            drop(guard);
            if let Some(room) = room {
                self.take_back(room);
            }
            return Ok(None);
        };
        let Some(room) = room else {
            let gone = guard.remove(found);
            let life = guard.life();
            drop(guard);
            self.unlinked(gone, life, None);
            return Err(self.no_memory(&header));
        };
        guard.replace(found, |now| now.moved(room.location, now.count()));
        Ok(Some(room.location))
    }
}
