//! Lists: one buffer, or a deque of them.
//!
//! Always true: no chunk is empty, `len` is the sum of theirs, and `heap_bytes`
//! the sum of their heap bytes.

use std::collections::VecDeque;

use crate::packed::{Packed, entry_bytes};
use crate::{Limits, mem};

/// A list.
#[derive(Debug)]
pub struct List {
    repr: Repr,
    len: usize,
    /// Heap bytes of the chunks.
    heap_bytes: usize,
}

#[derive(Debug)]
enum Repr {
    One(Packed),
    Many(VecDeque<Packed>),
}

/// Where an entry is.
#[derive(Clone, Copy)]
struct Place {
    chunk: usize,
    /// Of the entry in its chunk: which, and its position.
    index: usize,
    at: usize,
}

impl Clone for List {
    fn clone(&self) -> Self {
        let repr = match &self.repr {
            Repr::One(one) => Repr::One(one.clone()),
            Repr::Many(many) => Repr::Many(many.clone()),
        };
        let mut copy = Self { repr, len: self.len, heap_bytes: 0 };
        copy.heap_bytes = (0..copy.chunks()).map(|i| copy.chunk(i).heap_bytes()).sum();
        copy
    }
}

/// Whether an entry of `bytes` more fits a chunk.
fn fits(chunk: &Packed, bytes: usize, limits: &Limits) -> bool {
    if chunk.is_empty() {
        return true;
    }
    let few = match limits.list_max_listpack_size {
        entries @ 1.. => chunk.len() < entries as usize,
        _ => true,
    };
    few && chunk.live_bytes() + entry_bytes(bytes) <= limits.list_chunk_bytes()
}

impl List {
    pub(crate) const fn new() -> Self {
        Self { repr: Repr::One(Packed::new()), len: 0, heap_bytes: 0 }
    }

    /// Entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Redis's name of the encoding.
    #[must_use]
    pub fn encoding(&self) -> &'static str {
        match self.repr {
            Repr::One(_) => "listpack",
            Repr::Many(_) => "quicklist",
        }
    }

    /// Heap bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let deque = match &self.repr {
            Repr::One(_) => 0,
            Repr::Many(many) => mem::of_vec::<Packed>(many.capacity()),
        };
        deque + self.heap_bytes
    }

    fn chunks(&self) -> usize {
        match &self.repr {
            Repr::One(_) => 1,
            Repr::Many(many) => many.len(),
        }
    }

    fn chunk(&self, i: usize) -> &Packed {
        match &self.repr {
            Repr::One(one) => one,
            Repr::Many(many) => &many[i],
        }
    }

    /// Changes a chunk and counts what that does to the memory.
    fn change<R>(&mut self, i: usize, change: impl FnOnce(&mut Packed) -> R) -> R {
        let chunk = match &mut self.repr {
            Repr::One(one) => one,
            Repr::Many(many) => &mut many[i],
        };
        let before = chunk.capacity();
        let result = change(chunk);
        let after = chunk.capacity();
        if before != after {
            let heap = mem::of_vec::<u8>;
            self.heap_bytes = self.heap_bytes + heap(after) - heap(before);
        }
        result
    }

    /// Puts a chunk before chunk `i`.
    fn add_chunk(&mut self, i: usize, chunk: Packed) {
        if let Repr::One(one) = &mut self.repr {
            let one = std::mem::take(one);
            self.repr = Repr::Many(VecDeque::from([one]));
        }
        self.heap_bytes += chunk.heap_bytes();
        if let Repr::Many(many) = &mut self.repr {
            many.insert(i, chunk);
        }
    }

    /// Drops chunk `i` if it is empty; becomes one buffer again when little is
    /// left.
    fn settle(&mut self, i: usize, limits: &Limits) {
        let Repr::Many(many) = &mut self.repr else { return };
        if many[i].is_empty() {
            self.heap_bytes -= many[i].heap_bytes();
            many.remove(i);
        }
        if many.len() <= 1 {
            let Some(one) = many.front_mut() else {
                *self = Self::new();
                return;
            };
            let small = match limits.list_max_listpack_size {
                entries @ 1.. => one.len() <= entries as usize / 2,
                _ => one.live_bytes() <= limits.list_chunk_bytes() / 2,
            };
            if small {
                self.repr = Repr::One(std::mem::take(one));
            }
        } else if many.capacity() > 64 && many.capacity() > 8 * many.len() {
            many.shrink_to(2 * many.len());
        }
    }

    /// Puts an entry at an end.
    pub(crate) fn push(&mut self, left: bool, bytes: &[u8], limits: &Limits) {
        let last = self.chunks() - 1;
        let i = if left { 0 } else { last };
        if fits(self.chunk(i), bytes.len(), limits) {
            self.change(
                i,
                |chunk| {
                    if left { chunk.push_front(bytes) } else { chunk.push_back(bytes) }
                },
            );
        } else {
            let mut chunk = Packed::new();
            chunk.push_back(bytes);
            self.add_chunk(if left { 0 } else { last + 1 }, chunk);
        }
        self.len += 1;
    }

    /// Takes an entry off an end and shows it.
    pub(crate) fn pop(&mut self, left: bool, limits: &Limits, show: impl FnOnce(&[u8])) {
        let i = if left { 0 } else { self.chunks() - 1 };
        let chunk = self.chunk(i);
        if chunk.is_empty() {
            return;
        }
        let at = if left { 0 } else { chunk.prev(chunk.end()) };
        show(chunk.get(at));
        self.change(i, |chunk| chunk.remove(at));
        self.len -= 1;
        self.settle(i, limits);
    }

    /// The place of entry `index`, which is below `len()`; from the nearer end.
    fn place(&self, index: usize) -> Place {
        let (mut chunk, mut before);
        if index * 2 <= self.len {
            (chunk, before) = (0, 0);
            while index >= before + self.chunk(chunk).len() {
                before += self.chunk(chunk).len();
                chunk += 1;
            }
        } else {
            chunk = self.chunks() - 1;
            before = self.len - self.chunk(chunk).len();
            while index < before {
                chunk -= 1;
                before -= self.chunk(chunk).len();
            }
        }
        let index = index - before;
        Place { chunk, index, at: self.chunk(chunk).at(index) }
    }

    /// An entry.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let place = (index < self.len).then(|| self.place(index))?;
        Some(self.chunk(place.chunk).get(place.at))
    }

    /// Visits `count` entries from `index` on, which are there.
    pub(crate) fn visit(&self, index: usize, count: usize, mut visit: impl FnMut(&[u8])) {
        if count == 0 {
            return;
        }
        let (mut place, mut left) = (self.place(index), count);
        while left > 0 {
            let chunk = self.chunk(place.chunk);
            let n = left.min(chunk.len() - place.index);
            chunk.visit(place.at, n, &mut visit);
            left -= n;
            place = Place { chunk: place.chunk + 1, index: 0, at: 0 };
        }
    }

    /// The entries from `index` on.
    pub(crate) fn iter_from(&self, index: usize) -> impl Iterator<Item = &[u8]> {
        let place = (index < self.len).then(|| self.place(index));
        let first = place.map(|p| self.chunk(p.chunk).iter_from(p.at));
        let rest = place.map_or(self.chunks(), |p| p.chunk + 1)..self.chunks();
        first.into_iter().flatten().chain(rest.flat_map(|i| self.chunk(i).iter()))
    }

    /// All entries from the last to the first.
    pub(crate) fn iter_back(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.chunks()).rev().flat_map(|i| {
            let chunk = self.chunk(i);
            chunk.iter_back_from(chunk.end())
        })
    }

    /// Replaces entry `index`, which is below `len()`.
    pub(crate) fn set(&mut self, index: usize, bytes: &[u8], limits: &Limits) {
        let place = self.place(index);
        let chunk = self.chunk(place.chunk);
        let old = entry_bytes(chunk.get(place.at).len());
        let new = entry_bytes(bytes.len());
        let alone = chunk.len() == 1;
        let grown = chunk.live_bytes() - old + new;
        if alone || new <= old || grown <= limits.list_chunk_bytes() {
            return self.change(place.chunk, |chunk| chunk.replace(place.at, bytes));
        }
        self.erase(index, 1, limits);
        self.insert(index, bytes, limits);
    }

    /// Puts an entry before entry `index`, or at the end.
    pub(crate) fn insert(&mut self, index: usize, bytes: &[u8], limits: &Limits) {
        if index == 0 || index >= self.len {
            return self.push(index == 0 && self.len > 0, bytes, limits);
        }
        let place = self.place(index);
        self.len += 1;
        if fits(self.chunk(place.chunk), bytes.len(), limits) {
            return self.change(place.chunk, |chunk| chunk.insert(place.at, bytes));
        }
        // The chunk splits at the place; the entry goes to the half that takes it.
        let mut i = place.chunk;
        if place.index > 0 {
            let tail = self.change(i, |chunk| chunk.split_off(place.at, place.index));
            self.add_chunk(i + 1, tail);
            i += 1;
        }
        if i > 0 && fits(self.chunk(i - 1), bytes.len(), limits) {
            self.change(i - 1, |chunk| chunk.push_back(bytes));
        } else if fits(self.chunk(i), bytes.len(), limits) {
            self.change(i, |chunk| chunk.push_front(bytes));
        } else {
            let mut chunk = Packed::new();
            chunk.push_back(bytes);
            self.add_chunk(i, chunk);
        }
    }

    /// Removes `count` entries from `index` on, as many as there are.
    pub(crate) fn erase(&mut self, index: usize, count: usize, limits: &Limits) {
        let mut left = count.min(self.len.saturating_sub(index));
        while left > 0 {
            let Place { chunk: i, index: within, at } = self.place(index);
            let n = left.min(self.chunk(i).len() - within);
            self.change(i, |chunk| {
                let end = (0..n).fold(at, |at, _| chunk.next(at));
                chunk.remove_range(at, end, n);
            });
            self.len -= n;
            left -= n;
            self.settle(i, limits);
        }
    }

    /// Removes entries that equal `bytes`: at most `count`, from the left or
    /// the right end. Says how many.
    pub(crate) fn remove_equal(
        &mut self,
        bytes: &[u8],
        count: usize,
        from_left: bool,
        limits: &Limits,
    ) -> usize {
        let mut removed = 0;
        let mut i = if from_left { 0 } else { self.chunks() };
        loop {
            if from_left && i >= self.chunks() || !from_left && i == 0 || removed == count {
                return removed;
            }
            let this = if from_left { i } else { i - 1 };
            let n =
                self.change(this, |chunk| remove_equal(chunk, bytes, count - removed, from_left));
            let was_empty = self.chunk(this).is_empty();
            removed += n;
            self.len -= n;
            self.settle(this, limits);
            if self.len == 0 {
                return removed;
            }
            match (from_left, was_empty) {
                (true, true) => {}
                (true, false) => i += 1,
                (false, _) => i -= 1,
            }
        }
    }
}

/// The same within one chunk.
fn remove_equal(chunk: &mut Packed, bytes: &[u8], count: usize, from_left: bool) -> usize {
    let mut removed = 0;
    let mut at = if from_left { 0 } else { chunk.end() };
    while removed < count {
        if from_left {
            if at >= chunk.end() {
                break;
            }
            if chunk.get(at) == bytes {
                chunk.remove(at);
                removed += 1;
            } else {
                at = chunk.next(at);
            }
        } else {
            if at == 0 {
                break;
            }
            at = chunk.prev(at);
            if chunk.get(at) == bytes {
                chunk.remove(at);
                removed += 1;
            }
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn check(list: &List, model: &[Vec<u8>]) {
        assert_eq!(list.len(), model.len());
        assert!(list.iter_from(0).eq(model.iter()));
        for from in [0, model.len() / 3] {
            let (mut seen, n) = (Vec::new(), (model.len() - from) * 2 / 3);
            list.visit(from, n, |bytes| seen.push(bytes.to_vec()));
            assert_eq!(seen, model[from..from + n]);
        }
        assert!(list.iter_back().eq(model.iter().rev()));
        let heap: usize = (0..list.chunks()).map(|i| list.chunk(i).heap_bytes()).sum();
        assert_eq!(list.heap_bytes, heap, "memory is counted exactly");
        assert!(model.is_empty() || (0..list.chunks()).all(|i| !list.chunk(i).is_empty()));
    }

    #[test]
    fn it_does_what_a_vector_does() {
        for seed in 0..40 {
            let mut rng = Rng::new(seed);
            let size = [-1, -2, 5, 1][seed as usize % 4];
            let limits = Limits { list_max_listpack_size: size, ..Limits::default() };
            let (mut list, mut model) = (List::new(), Vec::<Vec<u8>>::new());
            for step in 0..1500 {
                let len = [3u64, 100, 3000][rng.below(3) as usize];
                let bytes = vec![b'a' + rng.below(3) as u8; rng.below(len) as usize];
                let index = rng.below(model.len() as u64 + 1) as usize;
                match rng.below(if model.len() > 150 { 12 } else { 7 }) {
                    0 | 1 => {
                        list.push(true, &bytes, &limits);
                        model.insert(0, bytes);
                    }
                    2 | 3 => {
                        list.push(false, &bytes, &limits);
                        model.push(bytes);
                    }
                    4 => {
                        list.insert(index, &bytes, &limits);
                        model.insert(index, bytes);
                    }
                    5 if index < model.len() => {
                        list.set(index, &bytes, &limits);
                        model[index] = bytes;
                    }
                    6 | 7 => {
                        let left = rng.below(2) == 0;
                        let mut shown = None;
                        list.pop(left, &limits, |bytes| shown = Some(bytes.to_vec()));
                        let popped = if left && !model.is_empty() {
                            Some(model.remove(0))
                        } else {
                            model.pop()
                        };
                        assert_eq!(shown, popped);
                    }
                    8 => {
                        let n = rng.below(60) as usize;
                        list.erase(index, n, &limits);
                        model.drain(index..(index + n).min(model.len()));
                    }
                    9 | 10 => {
                        let short =
                            vec![bytes.first().copied().unwrap_or(b'a'); rng.below(3) as usize];
                        let (count, left) = (1 + rng.below(6) as usize, rng.below(2) == 0);
                        let at: Vec<usize> =
                            (0..model.len()).filter(|i| model[*i] == short).collect();
                        let cut: Vec<usize> = if left {
                            at.into_iter().take(count).collect()
                        } else {
                            at.into_iter().rev().take(count).collect()
                        };
                        assert_eq!(list.remove_equal(&short, count, left, &limits), cut.len());
                        let mut i = 0;
                        model.retain(|_| {
                            i += 1;
                            !cut.contains(&(i - 1))
                        });
                    }
                    _ => assert_eq!(list.get(index), model.get(index).map(Vec::as_slice)),
                }
                if step % 50 == 0 {
                    check(&list, &model);
                    check(&list.clone(), &model);
                }
            }
            check(&list, &model);
        }
    }

    #[test]
    fn encodings_follow_redis() {
        let limits = Limits::default();
        let mut list = List::new();
        while list.encoding() == "listpack" {
            list.push(false, &[b'x'; 50], &limits);
        }
        assert!((150..170).contains(&list.len()), "8 KiB hold so many: {}", list.len());
        while list.encoding() == "quicklist" {
            list.pop(false, &limits, |_| {});
        }
        assert!((70..82).contains(&list.len()), "half of that again: {}", list.len());
    }
}
