//! Sorted sets: members ordered by score, equal scores by their bytes.
//!
//! ```text
//!   small   one buffer: member, score (8 bytes), .. in order
//!   large   a table of members with their scores, and a tree in order: `large`
//! ```
//! Always true: no score is NaN, and a small one has few and short members.

mod large;

use std::cmp::Ordering;

use self::large::Large;
use crate::packed::Packed;
use crate::{Limits, Rng, mem};

/// A sorted set.
#[derive(Clone, Debug)]
pub struct ZSet {
    repr: Repr,
}

#[derive(Clone, Debug)]
enum Repr {
    Packed(Packed),
    Large(Box<Large>),
}

fn score_of(bytes: &[u8]) -> f64 {
    bytes.try_into().map_or(0.0, f64::from_le_bytes)
}

/// How a member compares with another: `-0` equals `0`, NaN is never kept.
fn order(a: (f64, &[u8]), b: (f64, &[u8])) -> Ordering {
    a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal).then_with(|| a.1.cmp(b.1))
}

/// The end of a range of members.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LexBound<'a> {
    Lowest,
    Highest,
    At(&'a [u8]),
}

impl ZSet {
    pub(crate) const fn new() -> Self {
        Self { repr: Repr::Packed(Packed::new()) }
    }

    /// Members.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.repr {
            Repr::Packed(packed) => packed.len() / 2,
            Repr::Large(large) => large.tree.len(),
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
            Repr::Packed(_) => "listpack",
            Repr::Large(_) => "skiplist",
        }
    }

    /// Heap bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.repr {
            Repr::Packed(packed) => packed.heap_bytes(),
            Repr::Large(large) => {
                mem::charge(size_of::<Large>()) + large.table.heap_bytes() + large.tree.heap_bytes()
            }
        }
    }

    /// A member's score.
    #[must_use]
    #[inline]
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.repr {
            Repr::Packed(packed) => {
                let at = packed.find(member, 2)?;
                Some(score_of(packed.get(packed.next(at))))
            }
            Repr::Large(large) => large.table.find(member).map(|at| *large.table.with(at)),
        }
    }

    /// Sets a member's score, which is not NaN; returns the one before.
    pub(crate) fn set(&mut self, member: &[u8], score: f64, limits: &Limits) -> Option<f64> {
        debug_assert!(!score.is_nan());
        if let Repr::Packed(packed) = &mut self.repr {
            let found = packed.find(member, 2);
            let old = found.map(|at| score_of(packed.get(packed.next(at))));
            if old == Some(score) {
                return old;
            }
            let is_small = member.len() <= limits.zset_max_listpack_value as usize
                && (found.is_some()
                    || packed.len() / 2 < limits.zset_max_listpack_entries as usize);
            if is_small {
                if let Some(at) = found {
                    packed.remove_range(at, packed.next(packed.next(at)), 2);
                }
                let mut at = 0;
                while at < packed.end() {
                    let score_at = packed.next(at);
                    let here = (score_of(packed.get(score_at)), packed.get(at));
                    if order(here, (score, member)).is_gt() {
                        break;
                    }
                    at = packed.next(score_at);
                }
                packed.insert(at, member);
                packed.insert(packed.next(at), &score.to_le_bytes());
                return old;
            }
            self.turn_to_large();
        }
        let Repr::Large(large) = &mut self.repr else { return None };
        let found = large.table.find(member);
        let old = found.map(|at| *large.table.with(at));
        large.set(found, member, score);
        old
    }

    /// Shows a member's score to `decide`, which says the new one, if there shall be
    /// one: with one look for the member where that costs something.
    pub(crate) fn change(
        &mut self,
        member: &[u8],
        limits: &Limits,
        decide: impl FnOnce(Option<f64>) -> Option<f64>,
    ) {
        if let Repr::Large(large) = &mut self.repr {
            let found = large.table.find(member);
            if let Some(score) = decide(found.map(|at| *large.table.with(at))) {
                large.set(found, member, score);
            }
        } else if let Some(score) = decide(self.score(member)) {
            self.set(member, score, limits);
        }
    }

    /// Removes a member; returns its score.
    pub(crate) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match &mut self.repr {
            Repr::Packed(packed) => {
                let at = packed.find(member, 2)?;
                let score_at = packed.next(at);
                let score = score_of(packed.get(score_at));
                packed.remove_range(at, packed.next(score_at), 2);
                Some(score)
            }
            Repr::Large(large) => {
                let at = large.table.find(member)?;
                let score = *large.table.with(at);
                large.unlink(at);
                large.forget(at);
                Some(score)
            }
        }
    }

    /// A member's rank from the lowest, and its score.
    #[must_use]
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        match &self.repr {
            Repr::Packed(packed) => {
                let mut entries = packed.iter();
                let mut rank = 0;
                while let (Some(here), Some(score)) = (entries.next(), entries.next()) {
                    if here == member {
                        return Some((rank, score_of(score)));
                    }
                    rank += 1;
                }
                None
            }
            Repr::Large(large) => {
                let at = large.table.find(member)?;
                let score = *large.table.with(at);
                Some((large.rank(at), score))
            }
        }
    }

    /// How many members at the front fulfil `before`, which holds for those
    /// alone.
    fn partition(&self, before: impl Fn(f64, &[u8]) -> bool) -> usize {
        match &self.repr {
            Repr::Packed(packed) => {
                let mut entries = packed.iter();
                let mut rank = 0;
                while let (Some(member), Some(score)) = (entries.next(), entries.next()) {
                    if !before(score_of(score), member) {
                        break;
                    }
                    rank += 1;
                }
                rank
            }
            Repr::Large(large) => {
                large.tree.partition(|key| before(key.score, large.table.key(key.at)))
            }
        }
    }

    /// Members with a score below the bound; an open lower bound, or a closed
    /// upper one, counts the bound itself.
    pub(crate) fn below_score(&self, bound: f64, with_bound: bool) -> usize {
        let before = |score: f64| score < bound || with_bound && score == bound;
        match &self.repr {
            Repr::Large(large) => large.tree.partition(|key| before(key.score)),
            Repr::Packed(_) => self.partition(|score, _| before(score)),
        }
    }

    /// The same of members.
    pub(crate) fn below_member(&self, bound: LexBound<'_>, with_bound: bool) -> usize {
        match bound {
            LexBound::Lowest => 0,
            LexBound::Highest => self.len(),
            LexBound::At(bound) => {
                self.partition(|_, member| member < bound || with_bound && member == bound)
            }
        }
    }

    /// Visits the members of ranks `from..to`, backwards if asked.
    pub(crate) fn visit(
        &self,
        from: usize,
        to: usize,
        back: bool,
        mut visit: impl FnMut(&[u8], f64),
    ) {
        let to = to.min(self.len());
        if from >= to {
            return;
        }
        match &self.repr {
            Repr::Packed(packed) if back => {
                let mut entries = packed.iter_back_from(packed.at(2 * to));
                for _ in from..to {
                    if let (Some(score), Some(member)) = (entries.next(), entries.next()) {
                        visit(member, score_of(score));
                    }
                }
            }
            Repr::Packed(packed) => {
                let mut entries = packed.iter_from(packed.at(2 * from));
                for _ in from..to {
                    if let (Some(member), Some(score)) = (entries.next(), entries.next()) {
                        visit(member, score_of(score));
                    }
                }
            }
            Repr::Large(large) => {
                large.tree.visit(from, to, back, |key| visit(large.table.key(key.at), key.score))
            }
        }
    }

    /// Removes the members of ranks `from..to`.
    pub(crate) fn remove_ranks(&mut self, from: usize, to: usize) -> usize {
        let to = to.min(self.len());
        let count = to.saturating_sub(from);
        match &mut self.repr {
            Repr::Packed(packed) if count > 0 => {
                packed.remove_range(packed.at(2 * from), packed.at(2 * to), 2 * count);
            }
            Repr::Packed(_) => {}
            Repr::Large(large) => {
                for _ in 0..count {
                    let key = large.tree.remove(from);
                    large.forget(key.at);
                }
            }
        }
        count
    }

    /// Visits random members; see `Rng::pick`.
    pub(crate) fn random(&self, rng: &mut Rng, count: i64, mut visit: impl FnMut(&[u8], f64)) {
        match &self.repr {
            Repr::Packed(packed) => {
                let all: Vec<&[u8]> = packed.iter().collect();
                rng.pick(self.len(), count, |i| visit(all[2 * i], score_of(all[2 * i + 1])));
            }
            Repr::Large(large) => rng.pick(self.len(), count, |i| {
                visit(large.table.key(i as u32), *large.table.with(i as u32));
            }),
        }
    }

    /// Visits some members from a cursor on; returns the next one.
    pub(crate) fn scan(&self, cursor: u64, budget: u64, mut visit: impl FnMut(&[u8], f64)) -> u64 {
        match &self.repr {
            Repr::Packed(_) => {
                self.visit(0, usize::MAX, false, visit);
                0
            }
            Repr::Large(large) => large
                .table
                .scan(cursor, budget, |at| visit(large.table.key(at), *large.table.with(at))),
        }
    }

    fn turn_to_large(&mut self) {
        let large = match &self.repr {
            Repr::Packed(packed) => {
                let mut entries = packed.iter();
                let members: Vec<_> =
                    std::iter::from_fn(|| Some((entries.next()?, score_of(entries.next()?))))
                        .collect();
                Large::of(&members)
            }
            Repr::Large(_) => return,
        };
        self.repr = Repr::Large(Box::new(large));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn sorted(model: &BTreeMap<Vec<u8>, f64>) -> Vec<(Vec<u8>, f64)> {
        let mut all: Vec<_> = model.iter().map(|(m, s)| (m.clone(), *s)).collect();
        all.sort_by(|a, b| order((a.1, &a.0), (b.1, &b.0)));
        all
    }

    fn listed(zset: &ZSet, from: usize, to: usize, back: bool) -> Vec<(Vec<u8>, f64)> {
        let mut all = Vec::new();
        zset.visit(from, to, back, |member, score| all.push((member.to_vec(), score)));
        all
    }

    #[test]
    fn it_does_what_a_sorted_vector_does() {
        for seed in 0..24 {
            let mut rng = Rng::new(seed);
            let limits = Limits { zset_max_listpack_entries: 30, ..Limits::default() };
            let (mut zset, mut model) = (ZSet::new(), BTreeMap::<Vec<u8>, f64>::new());
            let (members, steps) = [(25, 1500), (400, 3000), (3000, 8000)][seed as usize % 3];
            let scores = [f64::NEG_INFINITY, -1.5, -0.0, 0.0, 1e-300, 2.0, f64::INFINITY];
            for step in 0..steps {
                let member = rng.below(members).to_string().into_bytes();
                let score = match seed % 2 {
                    0 => scores[rng.below(7) as usize],
                    _ => rng.below(1000) as f64 / 8.0,
                };
                match rng.below(if step < steps / 2 { 5 } else { 8 }) {
                    0..4 => {
                        let old = zset.set(&member, score, &limits);
                        assert_eq!(old, model.get(&member).copied());
                        // An equal score leaves the one that is there: -0 and 0.
                        if old != Some(score) {
                            model.insert(member, score);
                        }
                    }
                    4 if step % 10 == 0 => {
                        let from = rng.below(model.len() as u64 + 1) as usize;
                        let to = from + rng.below(8) as usize;
                        let gone: Vec<_> = sorted(&model).into_iter().take(to).skip(from).collect();
                        assert_eq!(listed(&zset, from, to, false), gone);
                        assert_eq!(zset.remove_ranks(from, to), gone.len());
                        for (member, _) in &gone {
                            model.remove(member);
                        }
                    }
                    _ => assert_eq!(zset.remove(&member), model.remove(&member)),
                }
                assert_eq!(zset.len(), model.len());
                if step % 100 == 0 {
                    let all = sorted(&model);
                    assert_eq!(listed(&zset, 0, usize::MAX, false), all);
                    let mut back = listed(&zset, 0, usize::MAX, true);
                    back.reverse();
                    assert_eq!(back, all);
                    for (rank, (member, score)) in all.iter().enumerate().step_by(7) {
                        assert_eq!(zset.rank(member), Some((rank, *score)));
                        assert_eq!(zset.score(member), Some(*score));
                        let below = all.iter().filter(|(_, s)| s < score).count();
                        assert_eq!(zset.below_score(*score, false), below);
                        let within = all.iter().filter(|(_, s)| s <= score).count();
                        assert_eq!(zset.below_score(*score, true), within);
                    }
                }
            }
            assert_eq!(listed(&zset.clone(), 0, usize::MAX, false), sorted(&model));
        }
    }

    #[test]
    fn equal_scores_are_in_the_order_of_their_bytes() {
        for n in [10, 500] {
            let mut zset = ZSet::new();
            for i in (0..n).rev() {
                zset.set(format!("{i:04}").as_bytes(), 0.0, &Limits::default());
            }
            zset.set(b"", -0.0, &Limits::default());
            let all = listed(&zset, 0, usize::MAX, false);
            assert_eq!(all.len(), n + 1);
            assert!(all.is_sorted_by(|a, b| a.0 < b.0));
            let bound = LexBound::At(b"0005");
            assert_eq!(zset.below_member(bound, false), 6);
            assert_eq!(zset.below_member(bound, true), 7);
            assert_eq!(zset.below_member(LexBound::Lowest, true), 0);
            assert_eq!(zset.below_member(LexBound::Highest, false), n + 1);
        }
    }

    #[test]
    fn encodings_follow_redis() {
        let limits = Limits::default();
        let mut zset = ZSet::new();
        for i in 0..128 {
            zset.set(format!("{i}").as_bytes(), 1.0, &limits);
        }
        assert_eq!(zset.encoding(), "listpack");
        let mut longer = zset.clone();
        longer.set(&[b'x'; 65], 1.0, &limits);
        assert_eq!(longer.encoding(), "skiplist");
        zset.set(b"one more", 1.0, &limits);
        assert_eq!((zset.encoding(), zset.len()), ("skiplist", 129));
    }
}
