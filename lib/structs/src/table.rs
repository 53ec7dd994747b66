//! A hash table whose entries lie densely, in the order of no one in particular.
//!
//! ```text
//!   index: hashbrown table of u32  ->  entries: chunks of 512
//!   entry: key | value in one allocation, hash, and something inline
//! ```
//! Dense entries make a uniformly random one a single step, and a scan safe: a
//! removal moves the *last* entry into the hole, so a cursor that counts down
//! visits every entry that stays, at least once, whatever comes and goes
//! meanwhile (an entry only ever moves to a lower place, and is then either
//! before the cursor still or was visited).
//!
//! Always true: each entry is in the index once, under its place.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::mem;

/// Entries of a chunk.
const CHUNK_LEN: usize = 512;

/// One entry.
#[derive(Clone, Debug)]
struct Entry<V> {
    /// Key, then value.
    blob: Box<[u8]>,
    key_len: u32,
    hash: u32,
    with: V,
}

/// Keys with values, and a `V` beside each.
#[derive(Debug)]
pub(crate) struct Table<V> {
    index: HashTable<u32>,
    chunks: Vec<Vec<Entry<V>>>,
    len: usize,
    /// Heap bytes of the blobs.
    blob_bytes: usize,
    /// Heap bytes of everything else.
    frame_bytes: usize,
}

impl<V: Clone> Clone for Table<V> {
    fn clone(&self) -> Self {
        let mut copy = Self::new();
        for i in 0..self.len {
            let entry = self.entry(i as u32);
            copy.insert_entry(entry.clone());
        }
        copy
    }
}

/// The hash of a key; its seed differs in every process.
#[inline]
fn hash_of(key: &[u8]) -> u32 {
    static STATE: OnceLock<FixedState> = OnceLock::new();
    let state = STATE.get_or_init(|| FixedState::with_seed(RandomState::new().hash_one(0u8)));
    let hash = state.hash_one(key);
    (hash ^ (hash >> 32)) as u32
}

/// What the index sees of a hash: its bits at both ends.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

fn blob(key: &[u8], value: &[u8]) -> Box<[u8]> {
    let mut blob = Vec::with_capacity(key.len() + value.len());
    blob.extend_from_slice(key);
    blob.extend_from_slice(value);
    blob.into_boxed_slice()
}

impl<V> Table<V> {
    pub(crate) fn new() -> Self {
        Self { index: HashTable::new(), chunks: Vec::new(), len: 0, blob_bytes: 0, frame_bytes: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Heap bytes.
    #[inline]
    pub(crate) fn heap_bytes(&self) -> usize {
        self.frame_bytes + self.blob_bytes
    }

    /// Counts the index and the chunks, when one of them has another size now.
    fn count_frame(&mut self) {
        self.frame_bytes = self.frame();
    }

    fn frame(&self) -> usize {
        let last = self.chunks.last().map_or(0, Vec::capacity);
        let full = self.chunks.len().saturating_sub(1);
        mem::charge(self.index.allocation_size())
            + mem::of_vec::<Vec<Entry<V>>>(self.chunks.capacity())
            + full * mem::of_vec::<Entry<V>>(CHUNK_LEN)
            + mem::of_vec::<Entry<V>>(last)
    }

    #[inline]
    fn entry(&self, at: u32) -> &Entry<V> {
        &self.chunks[at as usize / CHUNK_LEN][at as usize % CHUNK_LEN]
    }

    #[inline]
    fn entry_mut(&mut self, at: u32) -> &mut Entry<V> {
        &mut self.chunks[at as usize / CHUNK_LEN][at as usize % CHUNK_LEN]
    }

    /// The key at a place below `len()`.
    #[inline]
    pub(crate) fn key(&self, at: u32) -> &[u8] {
        let entry = self.entry(at);
        &entry.blob[..entry.key_len as usize]
    }

    /// The value at a place.
    #[inline]
    pub(crate) fn value(&self, at: u32) -> &[u8] {
        let entry = self.entry(at);
        &entry.blob[entry.key_len as usize..]
    }

    /// What stands beside the entry at a place.
    #[inline]
    pub(crate) fn with(&self, at: u32) -> &V {
        &self.entry(at).with
    }

    #[inline]
    pub(crate) fn with_mut(&mut self, at: u32) -> &mut V {
        &mut self.entry_mut(at).with
    }

    /// The hash of the key at a place.
    pub(crate) fn hash(&self, at: u32) -> u32 {
        self.entry(at).hash
    }

    /// The place of a key.
    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> Option<u32> {
        let hash = hash_of(key);
        let same = |at: &u32| {
            let entry = self.entry(*at);
            entry.hash == hash && entry.blob[..entry.key_len as usize] == *key
        };
        self.index.find(spread(hash), same).copied()
    }

    /// A place with this hash that fits.
    pub(crate) fn find_hash(&self, hash: u32, fits: impl Fn(&V) -> bool) -> Option<u32> {
        let same = |at: &u32| {
            let entry = self.entry(*at);
            entry.hash == hash && fits(&entry.with)
        };
        self.index.find(spread(hash), same).copied()
    }

    /// Adds a key that is not there; returns its place, the last.
    pub(crate) fn insert(&mut self, key: &[u8], value: &[u8], with: V) -> u32 {
        let (blob, hash) = (blob(key, value), hash_of(key));
        self.insert_entry(Entry { blob, key_len: key.len() as u32, hash, with })
    }

    fn insert_entry(&mut self, entry: Entry<V>) -> u32 {
        let is_full = self.index.len() == self.index.capacity();
        if is_full {
            self.grow();
        }
        let at = self.len as u32;
        self.index.insert_unique(spread(entry.hash), at, |_| unreachable!("there is room"));
        self.blob_bytes += mem::charge(entry.blob.len());
        if self.len.is_multiple_of(CHUNK_LEN) {
            // The first chunk grows with its table, the others are whole.
            let room = if self.len == 0 { 4 } else { CHUNK_LEN };
            self.chunks.push(Vec::with_capacity(room));
        }
        let mut grows = is_full;
        if let Some(chunk) = self.chunks.last_mut() {
            grows |= chunk.is_empty() || chunk.len() == chunk.capacity();
            chunk.push(entry);
        }
        self.len += 1;
        if grows {
            self.count_frame();
        }
        at
    }

    /// Doubles the index, entry by entry in their order in memory.
    fn grow(&mut self) {
        self.rebuild((self.len * 2).max(4));
    }

    fn rebuild(&mut self, capacity: usize) {
        let mut index = HashTable::with_capacity(capacity);
        for (at, entry) in self.chunks.iter().flatten().enumerate() {
            let at = at as u32;
            index.insert_unique(spread(entry.hash), at, |_| unreachable!("there is room"));
        }
        self.index = index;
    }

    /// Replaces the value at a place.
    pub(crate) fn set_value(&mut self, at: u32, value: &[u8]) {
        let entry = self.entry_mut(at);
        let key_len = entry.key_len as usize;
        if entry.blob.len() == key_len + value.len() {
            return entry.blob[key_len..].copy_from_slice(value);
        }
        let new = blob(&entry.blob[..key_len], value);
        let (old_bytes, new_bytes) = (mem::charge(entry.blob.len()), mem::charge(new.len()));
        entry.blob = new;
        self.blob_bytes = self.blob_bytes - old_bytes + new_bytes;
    }

    /// Removes the entry at a place; the last one moves there. Returns where
    /// that one was, when it is another.
    pub(crate) fn remove(&mut self, at: u32) -> Option<u32> {
        let last = self.len as u32 - 1;
        let hash = spread(self.hash(at));
        if let Ok(found) = self.index.find_entry(hash, |i| *i == at) {
            found.remove();
        }
        if at != last {
            let hash = spread(self.hash(last));
            if let Some(place) = self.index.find_mut(hash, |i| *i == last) {
                *place = at;
            }
        }
        let moved = self.chunks.last_mut().and_then(Vec::pop);
        let removed = match moved {
            Some(entry) if at != last => Some(std::mem::replace(self.entry_mut(at), entry)),
            other => other,
        };
        self.blob_bytes -= removed.map_or(0, |entry| mem::charge(entry.blob.len()));
        self.len -= 1;
        if self.chunks.last().is_some_and(Vec::is_empty) {
            self.chunks.pop();
            self.count_frame();
        }
        if self.index.capacity() > 64 && self.len < self.index.capacity() / 8 {
            self.rebuild(self.len * 2);
            self.chunks.shrink_to(self.chunks.len() * 2);
            self.count_frame();
        }
        (at != last).then_some(last)
    }

    /// Visits about `budget` places from the cursor on; returns the next
    /// cursor, 0 at the end. See the module for why this misses nothing.
    pub(crate) fn scan(&self, cursor: u64, budget: u64, mut visit: impl FnMut(u32)) -> u64 {
        let len = self.len as u64;
        let from = if cursor == 0 { len } else { cursor.min(len) };
        let to = from.saturating_sub(budget.max(1));
        (to..from).rev().for_each(|at| visit(at as u32));
        to
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use std::collections::{HashMap, HashSet};

    #[test]
    fn it_does_what_a_map_does() {
        for seed in 0..6 {
            let mut rng = Rng::new(seed);
            let (mut table, mut model) = (Table::<u64>::new(), HashMap::new());
            let keys = [20, 300, 4000][seed as usize % 3];
            for step in 0..12_000 {
                let key = rng.below(keys).to_string().into_bytes();
                let value = vec![7; rng.below(30) as usize];
                let grows = step % 8000 < 4000;
                match (table.find(&key), rng.below(if grows { 3 } else { 6 })) {
                    (None, 0..3) => {
                        table.insert(&key, &value, step);
                        model.insert(key, (value, step));
                    }
                    (Some(at), 0) => {
                        table.set_value(at, &value);
                        *table.with_mut(at) = step;
                        model.insert(key, (value, step));
                    }
                    (Some(at), 1 | 3..) => {
                        table.remove(at);
                        model.remove(&key);
                    }
                    (None, _) => assert!(!model.contains_key(&key)),
                    (Some(at), _) => {
                        let (value, with) = &model[&key];
                        assert_eq!((table.value(at), table.with(at)), (&value[..], with));
                    }
                }
                assert_eq!(table.len(), model.len());
            }
            for (key, (value, with)) in &model {
                let at = table.find(key).expect("it is there");
                assert_eq!((table.value(at), table.with(at)), (&value[..], with));
            }
            let copy = table.clone();
            assert_eq!(copy.len(), model.len());
            assert_eq!(copy.blob_bytes, table.blob_bytes);
            let blobs: usize = model.iter().map(|(k, (v, _))| mem::charge(k.len() + v.len())).sum();
            assert_eq!(table.blob_bytes, blobs, "memory is counted exactly");
            assert_eq!(table.frame_bytes, table.frame(), "and counted when it changes");
        }
    }

    #[test]
    fn a_scan_returns_what_stays_however_much_comes_and_goes() {
        for seed in 0..30 {
            let mut rng = Rng::new(seed);
            let mut table = Table::<()>::new();
            let stays: HashSet<Vec<u8>> =
                (0..500).map(|i| format!("stays{i}").into_bytes()).collect();
            for i in 0..500 {
                table.insert(format!("stays{i}").as_bytes(), b"", ());
                table.insert(format!("goes{i}").as_bytes(), b"", ());
            }
            let (mut seen, mut cursor, mut next) = (HashSet::new(), 0, 0);
            loop {
                cursor = table.scan(cursor, 10, |at| {
                    seen.insert(table.key(at).to_vec());
                });
                if cursor == 0 {
                    break;
                }
                for _ in 0..rng.below(40) {
                    if rng.below(2) == 0 {
                        next += 1;
                        table.insert(format!("comes{next}").as_bytes(), b"", ());
                    } else if let Some(at) =
                        table.find(format!("goes{}", rng.below(500)).as_bytes())
                    {
                        table.remove(at);
                    }
                }
            }
            assert!(stays.is_subset(&seen));
        }
    }
}
