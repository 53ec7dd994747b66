//! Sets: sorted integers, one buffer of members, or a table.
//!
//! Always true: a member is there once; integers are kept as integers only
//! where their canonical text is the member.

use crucible_plugin_api::semantics::parse_signed;

use crate::packed::Packed;
use crate::table::Table;
use crate::{Limits, Rng, mem};

/// A set.
#[derive(Clone, Debug)]
pub struct Set {
    repr: Repr,
}

#[derive(Clone, Debug)]
enum Repr {
    Ints(Ints),
    Packed(Packed),
    Table(Box<Table<()>>),
}

/// Sorted integers, all as wide as the widest needs: 2, 4 or 8 bytes.
#[derive(Clone, Debug)]
struct Ints {
    bytes: Vec<u8>,
    width: usize,
}

fn width_of(number: i64) -> usize {
    if i16::try_from(number).is_ok() {
        2
    } else if i32::try_from(number).is_ok() {
        4
    } else {
        8
    }
}

impl Ints {
    const fn new() -> Self {
        Self { bytes: Vec::new(), width: 2 }
    }

    fn len(&self) -> usize {
        self.bytes.len() / self.width
    }

    fn get(&self, i: usize) -> i64 {
        let at = &self.bytes[i * self.width..(i + 1) * self.width];
        match *at {
            [a, b] => i64::from(i16::from_le_bytes([a, b])),
            [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
            _ => at.try_into().map_or(0, i64::from_le_bytes),
        }
    }

    /// Where the number is, or where it would be.
    fn find(&self, number: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle).cmp(&number) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    fn insert(&mut self, number: i64) -> bool {
        let Err(i) = self.find(number) else { return false };
        if width_of(number) > self.width {
            let all: Vec<i64> = (0..self.len()).map(|i| self.get(i)).collect();
            self.width = width_of(number);
            let mut wide = Vec::with_capacity(mem::charge((all.len() + 1) * self.width));
            all.iter().for_each(|n| wide.extend_from_slice(&n.to_le_bytes()[..self.width]));
            self.bytes = wide;
        }
        let (len, width) = (self.bytes.len(), self.width);
        if self.bytes.capacity() - len < width {
            self.bytes.reserve_exact(mem::grown(len + width) - len);
        }
        self.bytes.resize(len + width, 0);
        self.bytes.copy_within(i * width..len, (i + 1) * width);
        self.bytes[i * width..(i + 1) * width].copy_from_slice(&number.to_le_bytes()[..width]);
        true
    }

    fn remove(&mut self, number: i64) -> bool {
        let Ok(i) = self.find(number) else { return false };
        self.bytes.drain(i * self.width..(i + 1) * self.width);
        if self.bytes.capacity() > 4 * self.bytes.len() + 128 {
            self.bytes.shrink_to(mem::grown(self.bytes.len()));
        }
        true
    }

    fn for_each(&self, mut visit: impl FnMut(&[u8])) {
        let mut text = itoa::Buffer::new();
        (0..self.len()).for_each(|i| visit(text.format(self.get(i)).as_bytes()));
    }
}

impl Set {
    pub(crate) const fn new() -> Self {
        Self { repr: Repr::Ints(Ints::new()) }
    }

    /// Members.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.repr {
            Repr::Ints(ints) => ints.len(),
            Repr::Packed(packed) => packed.len(),
            Repr::Table(table) => table.len(),
        }
    }

    /// True without members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Redis's name of the encoding.
    #[must_use]
    pub fn encoding(&self) -> &'static str {
        match self.repr {
            Repr::Ints(_) => "intset",
            Repr::Packed(_) => "listpack",
            Repr::Table(_) => "hashtable",
        }
    }

    /// Heap bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.repr {
            Repr::Ints(ints) => mem::of_vec::<u8>(ints.bytes.capacity()),
            Repr::Packed(packed) => packed.heap_bytes(),
            Repr::Table(table) => mem::charge(size_of::<Table<()>>()) + table.heap_bytes(),
        }
    }

    /// True when it is a member.
    #[must_use]
    #[inline]
    pub fn has(&self, member: &[u8]) -> bool {
        match &self.repr {
            Repr::Ints(ints) => parse_signed(member).is_some_and(|n| ints.find(n).is_ok()),
            Repr::Packed(packed) => packed.find(member, 1).is_some(),
            Repr::Table(table) => table.find(member).is_some(),
        }
    }

    /// Adds; true when it is new.
    pub(crate) fn add(&mut self, member: &[u8], limits: &Limits) -> bool {
        if let Repr::Ints(ints) = &mut self.repr {
            if let Some(number) = parse_signed(member) {
                let is_new = ints.insert(number);
                if is_new && ints.len() > limits.set_max_intset_entries as usize {
                    self.turn_to_table();
                }
                return is_new;
            }
            self.turn_to_packed(limits);
        }
        if matches!(&self.repr, Repr::Packed(packed) if packed.find(member, 1).is_none()
            && (member.len() > limits.set_max_listpack_value as usize
                || packed.len() >= limits.set_max_listpack_entries as usize))
        {
            self.turn_to_table();
        }
        match &mut self.repr {
            Repr::Packed(packed) => {
                let is_new = packed.find(member, 1).is_none();
                if is_new {
                    packed.push_back(member);
                }
                is_new
            }
            Repr::Table(table) => {
                let is_new = table.find(member).is_none();
                if is_new {
                    table.insert(member, b"", ());
                }
                is_new
            }
            Repr::Ints(_) => unreachable!("it turned into something else above"),
        }
    }

    /// Removes; true when it was there.
    pub(crate) fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.repr {
            Repr::Ints(ints) => parse_signed(member).is_some_and(|n| ints.remove(n)),
            Repr::Packed(packed) => {
                let Some(at) = packed.find(member, 1) else { return false };
                packed.remove(at);
                true
            }
            Repr::Table(table) => {
                let Some(at) = table.find(member) else { return false };
                table.remove(at);
                true
            }
        }
    }

    /// Visits all members.
    pub fn for_each(&self, mut visit: impl FnMut(&[u8])) {
        match &self.repr {
            Repr::Ints(ints) => ints.for_each(visit),
            Repr::Packed(packed) => packed.iter().for_each(visit),
            Repr::Table(table) => {
                (0..table.len() as u32).for_each(|at| visit(table.key(at)));
            }
        }
    }

    /// Visits random members; see `Rng::pick`.
    pub(crate) fn random(&self, rng: &mut Rng, count: i64, mut visit: impl FnMut(&[u8])) {
        match &self.repr {
            Repr::Ints(ints) => {
                let mut text = itoa::Buffer::new();
                rng.pick(ints.len(), count, |i| visit(text.format(ints.get(i)).as_bytes()));
            }
            Repr::Packed(packed) if count == 1 => {
                let i = rng.below(packed.len() as u64) as usize;
                if !packed.is_empty() {
                    visit(packed.get(packed.at(i)));
                }
            }
            Repr::Packed(packed) => {
                let all: Vec<&[u8]> = packed.iter().collect();
                rng.pick(all.len(), count, |i| visit(all[i]));
            }
            Repr::Table(table) => rng.pick(table.len(), count, |i| visit(table.key(i as u32))),
        }
    }

    /// Takes random members out and shows them.
    pub(crate) fn pop(&mut self, rng: &mut Rng, count: usize, mut show: impl FnMut(&[u8])) {
        if count >= self.len() {
            self.for_each(show);
            *self = Self::new();
            return;
        }
        for _ in 0..count {
            let i = rng.below(self.len() as u64) as usize;
            match &mut self.repr {
                Repr::Ints(ints) => {
                    let number = ints.get(i);
                    show(itoa::Buffer::new().format(number).as_bytes());
                    ints.remove(number);
                }
                Repr::Packed(packed) => {
                    let at = packed.at(i);
                    show(packed.get(at));
                    packed.remove(at);
                }
                Repr::Table(table) => {
                    show(table.key(i as u32));
                    table.remove(i as u32);
                }
            }
        }
    }

    /// Visits some members from a cursor on; returns the next one.
    pub(crate) fn scan(&self, cursor: u64, budget: u64, mut visit: impl FnMut(&[u8])) -> u64 {
        match &self.repr {
            Repr::Table(table) => table.scan(cursor, budget, |at| visit(table.key(at))),
            _ => {
                self.for_each(visit);
                0
            }
        }
    }

    fn turn_to_packed(&mut self, limits: &Limits) {
        let mut packed = Packed::new();
        self.for_each(|member| packed.push_back(member));
        self.repr = Repr::Packed(packed);
        if self.len() > limits.set_max_listpack_entries as usize {
            self.turn_to_table();
        }
    }

    fn turn_to_table(&mut self) {
        let mut table = Table::new();
        self.for_each(|member| {
            table.insert(member, b"", ());
        });
        self.repr = Repr::Table(Box::new(table));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn it_does_what_a_set_of_strings_does() {
        for seed in 0..40 {
            let mut rng = Rng::new(seed);
            let limits = Limits {
                set_max_intset_entries: 50,
                set_max_listpack_entries: 20,
                ..Limits::default()
            };
            let (mut set, mut model) = (Set::new(), HashSet::<Vec<u8>>::new());
            for step in 0..2000 {
                let wide = [9, 60_000, i64::MAX as u64][rng.below(3) as usize];
                let number = (rng.below(wide) as i64).wrapping_mul([1, -1][rng.below(2) as usize]);
                let member = match (seed % 4, rng.below(100)) {
                    (0, _) | (1..3, 1..) => number.to_string().into_bytes(),
                    (1, 0) if step > 1000 => b"word".to_vec(),
                    (_, n) => format!("{:02}{n}", number % 30).into_bytes(),
                };
                match rng.below(5) {
                    0..3 => assert_eq!(set.add(&member, &limits), model.insert(member)),
                    3 => assert_eq!(set.remove(&member), model.remove(&member)),
                    _ => {
                        let n = rng.below(4) as usize;
                        let mut popped = Vec::new();
                        set.pop(&mut rng, n, |m| popped.push(m.to_vec()));
                        assert_eq!(popped.len(), n.min(model.len()));
                        assert!(popped.iter().all(|m| model.remove(m)));
                    }
                }
                assert_eq!(set.len(), model.len());
            }
            let mut all = HashSet::new();
            set.for_each(|member| assert!(all.insert(member.to_vec())));
            assert_eq!(all, model);
            assert!(model.iter().all(|member| set.has(member)));
            assert!(!set.has(b"01") || model.contains(&b"01"[..]));
            let mut picked = HashSet::new();
            set.random(&mut rng, 5, |m| assert!(picked.insert(m.to_vec())));
            assert!(picked.len() == model.len().min(5) && picked.is_subset(&model));
        }
    }

    #[test]
    fn encodings_follow_redis() {
        let limits = Limits::default();
        let mut set = Set::new();
        (0..512).for_each(|i| assert!(set.add(i.to_string().as_bytes(), &limits)));
        assert_eq!(set.encoding(), "intset");
        assert!((1024..=1280).contains(&set.bytes()), "two bytes each: {}", set.bytes());
        let mut large = set.clone();
        large.add(b"512", &limits);
        assert_eq!(large.encoding(), "hashtable");
        set.add(b"x", &limits);
        assert_eq!(set.encoding(), "hashtable");
        let mut small = Set::new();
        small.add(b"1", &limits);
        small.add(b"x", &limits);
        assert_eq!((small.encoding(), small.len()), ("listpack", 2));
        small.add(&[b'x'; 65], &limits);
        assert_eq!(small.encoding(), "hashtable");
    }
}
