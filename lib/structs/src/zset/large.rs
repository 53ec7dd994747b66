//! A sorted set of many members: a table of members with their scores, and a tree
//! of (score, place in the table) in order.
//!
//! Always true: both hold the same members, and the tree names the place where the
//! table has each. A removal moves the table's last entry; the tree is told.
//!
//! Members of the same score are in the order of their bytes, and to read a member
//! costs three lines of memory that are seldom at hand. So each key of the tree
//! carries a *mark*: four bytes of the member behind those that all members share.
//! Always true, unless marks are out of use: all members have the first `skip`
//! bytes in common, and each mark is [`mark_of`] its member, so that members whose
//! marks differ are in the order of their marks.

use crate::table::Table;
use crate::tree::{Behind, Exactly, Key, Tree};

/// Most bytes that are looked at to see what members have in common.
const SKIP_MAX: usize = 255;
/// Marks of more members than this are not made anew: it would take milliseconds.
const REMARK_MAX: usize = 1 << 17;
/// Nor unless so many members at most stand against each that came since the last time.
const REMARK_SHARE: usize = 4;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Large {
    pub(super) table: Table<f64>,
    pub(super) tree: Tree,
    marks: Marks,
    /// Members added since marks were made.
    fresh: u32,
}

/// How marks are made.
#[derive(Clone, Copy, Debug)]
struct Marks {
    /// Bytes that all members have in common, at least.
    skip: u32,
    /// All bits while marks are in use, none when they are no more.
    mask: u32,
}

/// A member's place in the order.
struct Place<'t> {
    key: Key,
    member: &'t [u8],
    table: &'t Table<f64>,
    mask: u32,
}

impl<'t> Place<'t> {
    /// That of the member that the table has at a place.
    #[inline]
    fn of(table: &'t Table<f64>, marks: Marks, at: u32) -> Self {
        let member = table.key(at);
        let key = Key { score: *table.with(at), at, mark: mark_of(member, marks.skip as usize) };
        Self { key, member, table, mask: marks.mask }
    }

    /// Whether a key of the tree is before it.
    #[inline]
    fn is_behind(&self, other: &Key) -> bool {
        if other.score != self.key.score {
            return other.score < self.key.score;
        }
        let (theirs, ours) = (other.mark & self.mask, self.key.mark & self.mask);
        if theirs == ours { self.table.key(other.at) < self.member } else { theirs < ours }
    }

    /// The way to its key, which is in the tree.
    #[inline]
    fn exactly(&self) -> Exactly<impl Fn(&Key) -> bool> {
        Exactly(self.key, |other: &Key| self.is_behind(other))
    }
}

/// The four bytes of a member behind `skip`, the first the highest; past its end
/// there are zeros.
#[inline]
fn mark_of(member: &[u8], skip: usize) -> u32 {
    let rest = member.get(skip..).unwrap_or(&[]);
    if let Some(four) = rest.first_chunk::<4>() {
        return u32::from_be_bytes(*four);
    }
    let mut four = [0; 4];
    four[..rest.len()].copy_from_slice(rest);
    u32::from_be_bytes(four)
}

/// How many bytes two members have in common, of those that are looked at.
fn shared(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take(SKIP_MAX).take_while(|(a, b)| a == b).count()
}

impl Large {
    /// Of members in their order.
    pub(super) fn of(members: &[(&[u8], f64)]) -> Self {
        let first = members.first().map_or(&[][..], |(member, _)| member);
        let len = first.len().min(SKIP_MAX);
        let skip = members.iter().fold(len, |len, (member, _)| len.min(shared(first, member)));
        let marks = Marks { skip: skip as u32, mask: !0 };
        let (mut table, mut tree) = (Table::new(), Tree::new());
        for (member, score) in members {
            let at = table.insert(member, b"", *score);
            tree.insert(tree.len(), Place::of(&table, marks, at).key);
        }
        Self { table, tree, marks, fresh: members.len() as u32 }
    }

    /// The rank of the member at a place.
    pub(super) fn rank(&self, at: u32) -> usize {
        self.tree.rank(&mut Place::of(&self.table, self.marks, at).exactly())
    }

    /// Sets the score of a member that the table has at a place, or has not.
    pub(super) fn set(&mut self, found: Option<u32>, member: &[u8], score: f64) {
        match found {
            None => {
                let at = self.table.insert(member, b"", score);
                self.share(member);
                self.link(at);
            }
            Some(at) if *self.table.with(at) != score => {
                self.unlink(at);
                *self.table.with_mut(at) = score;
                self.link(at);
            }
            Some(_) => {}
        }
    }

    /// Keeps marks true when a member has come.
    fn share(&mut self, member: &[u8]) {
        self.fresh = self.fresh.saturating_add(1);
        let skip = self.marks.skip as usize;
        if self.marks.mask != 0 && member.get(..skip) != self.table.key(0).get(..skip) {
            self.share_less(member);
        }
    }

    /// Makes marks anew, or does without from here on.
    #[cold]
    fn share_less(&mut self, member: &[u8]) {
        let len = self.tree.len();
        if len > REMARK_MAX || len / REMARK_SHARE > self.fresh as usize {
            self.marks.mask = 0;
            return;
        }
        let skip = shared(self.table.key(0), member);
        (self.marks.skip, self.fresh) = (skip as u32, 0);
        let table = &self.table;
        self.tree.remark(&|at| mark_of(table.key(at), skip));
    }

    /// Puts a member of the table into the tree.
    fn link(&mut self, at: u32) {
        let place = Place::of(&self.table, self.marks, at);
        self.tree.insert_at(&mut Behind(|other: &Key| place.is_behind(other)), place.key);
    }

    /// Takes the member at a place out of the tree.
    pub(super) fn unlink(&mut self, at: u32) {
        self.tree.remove_at(&mut Place::of(&self.table, self.marks, at).exactly());
    }

    /// Removes a member from the table that the tree has no more.
    pub(super) fn forget(&mut self, at: u32) {
        let last = self.table.len() as u32 - 1;
        if at != last {
            // Before the table moves it: its key is read at its old place.
            let place = Place::of(&self.table, self.marks, last);
            self.tree.set_place(&mut place.exactly(), at);
        }
        self.table.remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use std::collections::BTreeMap;

    /// Checks order and marks against the members that there should be.
    fn check(large: &Large, model: &BTreeMap<Vec<u8>, f64>) {
        let mut want: Vec<(f64, &[u8])> = model.iter().map(|(m, s)| (*s, &m[..])).collect();
        want.sort_by(|a, b| a.partial_cmp(b).expect("no score is NaN"));
        let mut got = Vec::new();
        large.tree.visit(0, usize::MAX, false, |key| {
            let place = Place::of(&large.table, large.marks, key.at);
            assert!(large.marks.mask == 0 || place.key == key, "its mark is the member's");
            got.push((key.score, place.member));
        });
        assert_eq!(got, want);
        for (rank, (_, member)) in got.iter().enumerate().step_by(7) {
            let at = large.table.find(member).expect("it is in both");
            assert_eq!(large.rank(at), rank);
        }
    }

    #[test]
    fn members_of_one_score_keep_their_order_whatever_they_begin_with() {
        let names: [fn(u64) -> String; 6] = [
            |n| format!("element:{n:012}"),
            |n| format!("user:{n}"),
            |n| "a".repeat(n as usize % 300) + &n.to_string(),
            |n| format!("p\0{}", "\0".repeat(n as usize % 9)),
            |n| n.to_string(),
            |n| format!("{}{n}", ["same", "other", ""][n as usize % 3]),
        ];
        for (kind, name) in names.iter().enumerate() {
            let mut rng = Rng::new(kind as u64);
            let mut model: BTreeMap<_, _> = (0..3).map(|n| (name(n).into_bytes(), 0.0)).collect();
            let first: Vec<_> = model.iter().map(|(m, score)| (&m[..], *score)).collect();
            let mut large = Large::of(&first);
            for step in 0..3000u64 {
                // In order first, then anywhere.
                let n = if step < 1500 { step } else { rng.below(3000) };
                let (member, score) = (name(n).into_bytes(), rng.below(3) as f64);
                let found = large.table.find(&member);
                if step > 2000 && rng.below(2) == 0 {
                    if let Some(at) = found {
                        large.unlink(at);
                        large.forget(at);
                        model.remove(&member);
                    }
                } else {
                    large.set(found, &member, score);
                    model.insert(member, score);
                }
                if step % 250 == 0 {
                    check(&large, &model);
                }
            }
            check(&large, &model);
            check(&large.clone(), &model);
        }
    }

    #[test]
    fn marks_are_made_anew_seldom_and_then_no_more() {
        let set = |large: &mut Large, member: &str| {
            large.set(large.table.find(member.as_bytes()), member.as_bytes(), 0.0);
        };
        let mut large = Large::of(&[(b"element:000", 0.0), (b"element:001", 0.0)]);
        assert_eq!(large.marks.skip, 10);
        for n in 0..1000 {
            set(&mut large, &format!("element:{n:03}"));
        }
        assert_eq!((large.marks.skip, large.marks.mask), (8, !0), "as numbers got digits");
        set(&mut large, "elements");
        assert_eq!((large.marks.skip, large.marks.mask), (7, !0));
        set(&mut large, "elephant");
        assert_eq!(large.marks.mask, 0, "twice in a row is once too often");
        let model: BTreeMap<_, _> = (0..1000)
            .map(|n| format!("element:{n:03}"))
            .chain(["elements".into(), "elephant".into()])
            .map(|member| (member.into_bytes(), 0.0))
            .collect();
        check(&large, &model);
    }
}
