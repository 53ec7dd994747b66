//! Hashes: fields with values, each with a deadline if it is given one.
//!
//! ```text
//!   small   one buffer: field, value, .. or, once a field has a deadline,
//!           field, value, deadline (8 bytes), ..
//!   large   a table; the deadline beside each entry, and a heap of
//!           (deadline, hash) that says which to look at next
//! ```
//! Always true: after [`Hash::purge`] no field is past its deadline, so nothing
//! else looks at the clock. `next_deadline_ms` is never later than the earliest
//! deadline.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::packed::Packed;
use crate::table::Table;
use crate::{Limits, Rng, mem};

/// What becomes of a field's deadline when it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    Clear,
    Keep,
    At(u64),
}

/// A hash.
#[derive(Clone, Debug)]
pub struct Hash {
    repr: Repr,
    /// Fields with a deadline.
    mortal: u32,
    /// Unix milliseconds; 0 = no field has a deadline.
    next_deadline_ms: u64,
}

#[derive(Clone, Debug)]
enum Repr {
    /// `stride` entries to a field: 2, or 3 with deadlines.
    Packed {
        packed: Packed,
        stride: usize,
    },
    Table(Box<Large>),
}

#[derive(Clone, Debug)]
struct Large {
    table: Table<u64>,
    /// At least one for each field with a deadline; others are stale.
    queue: BinaryHeap<Reverse<(u64, u32)>>,
}

fn deadline_of(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

impl Large {
    fn set_deadline(&mut self, at: u32, deadline_ms: u64) {
        *self.table.with_mut(at) = deadline_ms;
        if deadline_ms == 0 {
            return;
        }
        self.queue.push(Reverse((deadline_ms, self.table.hash(at))));
        if self.queue.len() > 2 * self.table.len() + 64 {
            let live = (0..self.table.len() as u32).filter(|at| *self.table.with(*at) != 0);
            self.queue =
                live.map(|at| Reverse((*self.table.with(at), self.table.hash(at)))).collect();
        }
    }
}

impl Hash {
    pub(crate) const fn new() -> Self {
        let repr = Repr::Packed { packed: Packed::new(), stride: 2 };
        Self { repr, mortal: 0, next_deadline_ms: 0 }
    }

    /// Fields.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.repr {
            Repr::Packed { packed, stride } => packed.len() / stride,
            Repr::Table(large) => large.table.len(),
        }
    }

    /// True without fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Redis's name of the encoding.
    #[must_use]
    pub fn encoding(&self) -> &'static str {
        match &self.repr {
            Repr::Packed { stride: 2, .. } => "listpack",
            Repr::Packed { .. } => "listpackex",
            Repr::Table(_) => "hashtable",
        }
    }

    /// Heap bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.repr {
            Repr::Packed { packed, .. } => packed.heap_bytes(),
            Repr::Table(large) => {
                mem::charge(size_of::<Large>())
                    + large.table.heap_bytes()
                    + mem::of_vec::<Reverse<(u64, u32)>>(large.queue.capacity())
            }
        }
    }

    /// A time before which no field's deadline passes, unix ms; 0 = none has
    /// one.
    #[must_use]
    pub fn next_deadline_ms(&self) -> u64 {
        self.next_deadline_ms
    }

    /// Removes the fields whose time is over; says how many.
    pub fn purge(&mut self, now_ms: u64) -> usize {
        if self.next_deadline_ms == 0 || now_ms < self.next_deadline_ms {
            return 0;
        }
        let before = self.len();
        match &mut self.repr {
            Repr::Packed { packed, stride } => {
                let (mut at, mut next) = (0, u64::MAX);
                while at < packed.end() {
                    let value = packed.next(at);
                    let deadline_at = packed.next(value);
                    let deadline_ms = deadline_of(packed.get(deadline_at));
                    let end = packed.next(deadline_at);
                    if deadline_ms != 0 && deadline_ms <= now_ms {
                        // Positions count from the first entry, wherever it is.
                        packed.remove_range(at, end, *stride);
                        self.mortal -= 1;
                        continue;
                    }
                    if deadline_ms != 0 {
                        next = next.min(deadline_ms);
                    }
                    at = end;
                }
                self.next_deadline_ms = if self.mortal == 0 { 0 } else { next };
            }
            Repr::Table(large) => {
                while let Some(&Reverse((deadline_ms, hash))) = large.queue.peek() {
                    if deadline_ms > now_ms {
                        break;
                    }
                    large.queue.pop();
                    let over = |at: &u64| *at != 0 && *at <= now_ms;
                    while let Some(at) = large.table.find_hash(hash, over) {
                        large.table.remove(at);
                        self.mortal -= 1;
                    }
                }
                if self.mortal == 0 {
                    large.queue = BinaryHeap::new();
                }
                self.next_deadline_ms = large.queue.peek().map_or(0, |Reverse((at, _))| *at);
            }
        }
        before - self.len()
    }

    /// A field's value.
    #[must_use]
    #[inline]
    pub fn get(&self, field: &[u8]) -> Option<&[u8]> {
        match &self.repr {
            Repr::Packed { packed, stride } => {
                let at = packed.find(field, *stride)?;
                Some(packed.get(packed.next(at)))
            }
            Repr::Table(large) => large.table.find(field).map(|at| large.table.value(at)),
        }
    }

    /// Sets a field; true when it is new.
    pub(crate) fn set(
        &mut self,
        field: &[u8],
        value: &[u8],
        deadline: Deadline,
        limits: &Limits,
    ) -> bool {
        self.make_room(field.len().max(value.len()), limits);
        if let (Deadline::At(_), Repr::Packed { stride: 2, .. }) = (deadline, &self.repr) {
            self.widen();
        }
        let (is_new, had) = match &mut self.repr {
            Repr::Packed { packed, stride } => match packed.find(field, *stride) {
                Some(at) => {
                    let value_at = packed.next(at);
                    packed.replace(value_at, value);
                    let had = if *stride == 3 {
                        deadline_of(packed.get(packed.next(value_at)))
                    } else {
                        0
                    };
                    (false, had)
                }
                None => {
                    packed.push_back(field);
                    packed.push_back(value);
                    if *stride == 3 {
                        packed.push_back(&[0; 8]);
                    }
                    (true, 0)
                }
            },
            Repr::Table(large) => match large.table.find(field) {
                Some(at) => {
                    large.table.set_value(at, value);
                    (false, *large.table.with(at))
                }
                None => {
                    large.table.insert(field, value, 0);
                    (true, 0)
                }
            },
        };
        match deadline {
            Deadline::Clear if had != 0 => drop(self.set_deadline(field, 0)),
            Deadline::At(at) => drop(self.set_deadline(field, at)),
            _ => {}
        }
        if is_new && self.len() > limits.hash_max_listpack_entries as usize {
            self.turn_to_table();
        }
        is_new
    }

    /// A field's deadline (0 = none), when it is there.
    #[must_use]
    pub fn deadline(&self, field: &[u8]) -> Option<u64> {
        match &self.repr {
            Repr::Packed { packed, stride } => {
                let at = packed.find(field, *stride)?;
                if *stride == 2 {
                    return Some(0);
                }
                Some(deadline_of(packed.get(packed.next(packed.next(at)))))
            }
            Repr::Table(large) => large.table.find(field).map(|at| *large.table.with(at)),
        }
    }

    /// Gives a field a deadline, 0 takes it away; `None` without the field.
    pub(crate) fn set_deadline(&mut self, field: &[u8], deadline_ms: u64) -> Option<()> {
        let had = self.deadline(field)?;
        if had == 0 && deadline_ms == 0 {
            return Some(());
        }
        if let Repr::Packed { stride: 2, .. } = self.repr {
            self.widen();
        }
        match &mut self.repr {
            Repr::Packed { packed, stride } => {
                let at = packed.find(field, *stride)?;
                let at = packed.next(packed.next(at));
                packed.replace(at, &deadline_ms.to_le_bytes());
            }
            Repr::Table(large) => {
                let at = large.table.find(field)?;
                large.set_deadline(at, deadline_ms);
            }
        }
        self.mortal = self.mortal + u32::from(deadline_ms != 0) - u32::from(had != 0);
        if deadline_ms != 0 && (self.next_deadline_ms == 0 || deadline_ms < self.next_deadline_ms) {
            self.next_deadline_ms = deadline_ms;
        }
        if self.mortal == 0 {
            self.next_deadline_ms = 0;
        }
        Some(())
    }

    /// Removes a field; true when it was there.
    pub(crate) fn remove(&mut self, field: &[u8]) -> bool {
        let had = match &mut self.repr {
            Repr::Packed { packed, stride } => {
                let Some(at) = packed.find(field, *stride) else { return false };
                let (mut end, mut had) = (packed.next(packed.next(at)), 0);
                if *stride == 3 {
                    had = deadline_of(packed.get(end));
                    end = packed.next(end);
                }
                packed.remove_range(at, end, *stride);
                had
            }
            Repr::Table(large) => {
                let Some(at) = large.table.find(field) else { return false };
                let had = *large.table.with(at);
                large.table.remove(at);
                had
            }
        };
        self.mortal -= u32::from(had != 0);
        if self.mortal == 0 {
            self.next_deadline_ms = 0;
        }
        true
    }

    /// Visits all fields.
    pub fn for_each(&self, mut visit: impl FnMut(&[u8], &[u8])) {
        match &self.repr {
            Repr::Packed { packed, stride } => {
                let mut entries = packed.iter();
                while let (Some(field), Some(value)) = (entries.next(), entries.next()) {
                    if *stride == 3 {
                        entries.next();
                    }
                    visit(field, value);
                }
            }
            Repr::Table(large) => {
                (0..large.table.len() as u32)
                    .for_each(|at| visit(large.table.key(at), large.table.value(at)));
            }
        }
    }

    /// Visits random fields; see `Rng::pick`.
    pub(crate) fn random(&self, rng: &mut Rng, count: i64, mut visit: impl FnMut(&[u8], &[u8])) {
        match &self.repr {
            Repr::Packed { .. } => {
                let mut all = Vec::with_capacity(self.len());
                self.for_each_packed(|field, value| all.push((field, value)));
                rng.pick(all.len(), count, |i| visit(all[i].0, all[i].1));
            }
            Repr::Table(large) => rng.pick(large.table.len(), count, |i| {
                visit(large.table.key(i as u32), large.table.value(i as u32));
            }),
        }
    }

    fn for_each_packed<'s>(&'s self, mut visit: impl FnMut(&'s [u8], &'s [u8])) {
        let Repr::Packed { packed, stride } = &self.repr else { return };
        let mut at = 0;
        while at < packed.end() {
            let value_at = packed.next(at);
            visit(packed.get(at), packed.get(value_at));
            at = packed.next(value_at);
            if *stride == 3 {
                at = packed.next(at);
            }
        }
    }

    /// Visits some fields from a cursor on; returns the next one.
    pub(crate) fn scan(
        &self,
        cursor: u64,
        budget: u64,
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> u64 {
        match &self.repr {
            Repr::Packed { .. } => {
                self.for_each(visit);
                0
            }
            Repr::Table(large) => large.table.scan(cursor, budget, |at| {
                visit(large.table.key(at), large.table.value(at));
            }),
        }
    }

    /// Turns into a table when a string of this length does not fit the buffer.
    fn make_room(&mut self, longest: usize, limits: &Limits) {
        if matches!(self.repr, Repr::Packed { .. })
            && longest > limits.hash_max_listpack_value as usize
        {
            self.turn_to_table();
        }
    }

    /// Makes room for deadlines.
    fn widen(&mut self) {
        let mut wide = Packed::new();
        self.for_each(|field, value| {
            wide.push_back(field);
            wide.push_back(value);
            wide.push_back(&[0; 8]);
        });
        self.repr = Repr::Packed { packed: wide, stride: 3 };
    }

    fn turn_to_table(&mut self) {
        let Repr::Packed { packed, stride } = &self.repr else { return };
        let mut large = Large { table: Table::new(), queue: BinaryHeap::new() };
        let mut entries = packed.iter();
        while let (Some(field), Some(value)) = (entries.next(), entries.next()) {
            let at = large.table.insert(field, value, 0);
            if *stride == 3 {
                large.set_deadline(at, entries.next().map_or(0, deadline_of));
            }
        }
        drop(entries);
        self.repr = Repr::Table(Box::new(large));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn it_does_what_a_map_with_deadlines_does() {
        for seed in 0..40 {
            let mut rng = Rng::new(seed);
            let limits = Limits { hash_max_listpack_entries: 20, ..Limits::default() };
            let (mut hash, mut model) = (Hash::new(), HashMap::<Vec<u8>, (Vec<u8>, u64)>::new());
            let mut now = 1000;
            let (fields, len_max) = [(15, 60), (200, 60), (200, 90), (15, 70)][seed as usize % 4];
            for _ in 0..2500 {
                now += rng.below(5);
                let purged = hash.purge(now);
                let before = model.len();
                model.retain(|_, (_, at)| *at == 0 || *at > now);
                assert_eq!(purged, before - model.len());
                let field = rng.below(fields).to_string().into_bytes();
                let value = vec![rng.next() as u8; rng.below(len_max) as usize];
                let at = now + 1 + rng.below(300);
                match rng.below(6) {
                    0..3 => {
                        let deadline = [Deadline::Clear, Deadline::Keep, Deadline::At(at)]
                            [rng.below(3) as usize];
                        let old = model.get(&field).map_or(0, |(_, at)| *at);
                        let new = match deadline {
                            Deadline::Clear => 0,
                            Deadline::Keep => old,
                            Deadline::At(at) => at,
                        };
                        let is_new = hash.set(&field, &value, deadline, &limits);
                        assert_eq!(is_new, model.insert(field, (value, new)).is_none());
                    }
                    3 => {
                        let at = if rng.below(2) == 0 { 0 } else { at };
                        assert_eq!(
                            hash.set_deadline(&field, at).is_some(),
                            model.contains_key(&field)
                        );
                        model.entry(field).and_modify(|(_, old)| *old = at);
                    }
                    _ => assert_eq!(hash.remove(&field), model.remove(&field).is_some()),
                }
                let earliest = model.values().map(|(_, at)| *at).filter(|at| *at != 0).min();
                assert!(hash.next_deadline_ms() <= earliest.unwrap_or(0));
                assert_eq!(hash.next_deadline_ms() == 0, earliest.is_none());
                assert_eq!(hash.len(), model.len());
            }
            let mut all = HashMap::new();
            hash.for_each(|field, value| {
                all.insert(field.to_vec(), (value.to_vec(), hash.deadline(field).unwrap()));
            });
            assert_eq!(all, model);
            for (field, (value, _)) in &model {
                assert_eq!(hash.get(field), Some(&value[..]));
            }
        }
    }

    #[test]
    fn encodings_follow_redis() {
        let limits = Limits::default();
        let mut hash = Hash::new();
        for i in 0..128 {
            hash.set(format!("{i}").as_bytes(), &[b'v'; 64], Deadline::Clear, &limits);
        }
        assert_eq!(hash.encoding(), "listpack");
        let mut copy = hash.clone();
        copy.set_deadline(b"5", 99);
        assert_eq!((copy.encoding(), copy.len()), ("listpackex", 128));
        copy.set(b"5", &[b'v'; 65], Deadline::Keep, &limits);
        assert_eq!((copy.encoding(), copy.deadline(b"5")), ("hashtable", Some(99)));
        hash.set(b"one more", b"", Deadline::Clear, &limits);
        assert_eq!(hash.encoding(), "hashtable");
    }
}
