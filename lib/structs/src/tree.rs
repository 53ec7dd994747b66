//! A sequence of (score, place) with counts: ranks in O(log n).
//!
//! A B-tree by position. It compares nothing itself: whoever knows the order says
//! which keys are before what is meant, and the tree finds the way down
//! ([`Seek`]), counting on it what changes.
//!
//! Always true: leaves are equally deep and not empty (but for the root), and
//! each child knows its first key and how many it holds.

use crate::mem;

/// Keys of a leaf; with them its buffer is 2 KiB.
const LEAF_LEN: usize = 128;
/// Children of an inner node.
const INNER_LEN: usize = 64;

/// One member: its score, its place in the table, and its mark: four of its bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) score: f64,
    pub(crate) at: u32,
    pub(crate) mark: u32,
}

#[derive(Debug)]
enum Node {
    Leaf(Vec<Key>),
    Inner(Vec<Child>),
}

#[derive(Clone, Debug)]
pub(crate) struct Child {
    first: Key,
    count: usize,
    node: Node,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    root: Node,
    len: usize,
    leaves: usize,
    inners: usize,
}

/// What splitting and merging does to the number of nodes.
#[derive(Default)]
struct Nodes {
    leaves: isize,
    inners: isize,
}

fn leaf() -> Vec<Key> {
    Vec::with_capacity(LEAF_LEN)
}

fn inner() -> Vec<Child> {
    Vec::with_capacity(INNER_LEN)
}

/// The way from the root to one key.
pub(crate) trait Seek {
    /// Which child it goes on in.
    fn child(&mut self, children: &[Child]) -> usize;
    /// Where it is in its leaf.
    fn key(&self, keys: &[Key]) -> usize;
}

/// The way to a position.
struct Position {
    at: usize,
    /// The end of a child counts as within.
    insert: bool,
}

impl Seek for Position {
    fn child(&mut self, children: &[Child]) -> usize {
        let i;
        (i, self.at) = locate(children, self.at, self.insert);
        i
    }

    fn key(&self, _: &[Key]) -> usize {
        self.at
    }
}

/// The way to where a key belongs that is not there: behind those that are before
/// it.
pub(crate) struct Behind<F>(pub(crate) F);

impl<F: Fn(&Key) -> bool> Seek for Behind<F> {
    fn child(&mut self, children: &[Child]) -> usize {
        // The boundary lies in the last child whose first key is before.
        children.partition_point(|child| self.0(&child.first)).saturating_sub(1)
    }

    fn key(&self, keys: &[Key]) -> usize {
        keys.partition_point(&self.0)
    }
}

/// The way to a key that is there, past those that are before it. In its leaf it
/// is found by its place in the table: keys of the same score lie side by side,
/// and to compare members costs far more than to pass some.
pub(crate) struct Exactly<F>(pub(crate) Key, pub(crate) F);

impl<F: Fn(&Key) -> bool> Seek for Exactly<F> {
    fn child(&mut self, children: &[Child]) -> usize {
        let is_within = |child: &Child| child.first.at == self.0.at || self.1(&child.first);
        children.partition_point(is_within).saturating_sub(1)
    }

    fn key(&self, keys: &[Key]) -> usize {
        let from = keys.partition_point(|key| key.score < self.0.score);
        let found = keys[from..].iter().position(|key| key.at == self.0.at);
        from + found.expect("the key is there")
    }
}

impl Clone for Node {
    /// With buffers as large as those that are counted.
    fn clone(&self) -> Self {
        match self {
            Self::Leaf(keys) => {
                let mut copy = leaf();
                copy.extend_from_slice(keys);
                Self::Leaf(copy)
            }
            Self::Inner(children) => {
                let mut copy = inner();
                copy.extend_from_slice(children);
                Self::Inner(copy)
            }
        }
    }
}

impl Node {
    fn count(&self) -> usize {
        match self {
            Self::Leaf(keys) => keys.len(),
            Self::Inner(children) => children.iter().map(|c| c.count).sum(),
        }
    }

    fn first(&self) -> Option<Key> {
        match self {
            Self::Leaf(keys) => keys.first().copied(),
            Self::Inner(children) => children.first().map(|c| c.first),
        }
    }

    fn width(&self) -> usize {
        match self {
            Self::Leaf(keys) => keys.len(),
            Self::Inner(children) => children.len(),
        }
    }

    fn into_child(self) -> Option<Child> {
        Some(Child { first: self.first()?, count: self.count(), node: self })
    }

    /// Inserts; returns the right part when the node had to split.
    fn insert(&mut self, way: &mut impl Seek, key: Key, nodes: &mut Nodes) -> Option<Child> {
        match self {
            Self::Leaf(keys) => {
                let at = way.key(keys);
                if keys.len() < LEAF_LEN {
                    keys.insert(at, key);
                    return None;
                }
                nodes.leaves += 1;
                let mut right = leaf();
                // Ascending inserts leave full leaves behind.
                let cut = if at == LEAF_LEN { LEAF_LEN } else { LEAF_LEN / 2 };
                right.extend(keys.drain(cut..));
                if at <= cut && at < LEAF_LEN {
                    keys.insert(at, key);
                } else {
                    right.insert(at - cut, key);
                }
                Self::Leaf(right).into_child()
            }
            Self::Inner(children) => {
                let i = way.child(children);
                let child = &mut children[i];
                let right = child.node.insert(way, key, nodes);
                match &right {
                    None => child.count += 1,
                    Some(right) => child.count = child.count + 1 - right.count,
                }
                // Before the first key of another child it is behind the one before it.
                if i == 0 {
                    child.first = child.node.first().unwrap_or(key);
                }
                let right = right?;
                if children.len() < INNER_LEN {
                    children.insert(i + 1, right);
                    return None;
                }
                nodes.inners += 1;
                let mut behind = inner();
                let cut = if i + 1 == INNER_LEN { INNER_LEN } else { INNER_LEN / 2 };
                behind.extend(children.drain(cut..));
                if i < cut && i + 1 < INNER_LEN {
                    children.insert(i + 1, right);
                } else {
                    behind.insert(i + 1 - cut, right);
                }
                Self::Inner(behind).into_child()
            }
        }
    }

    fn remove(&mut self, way: &mut impl Seek, nodes: &mut Nodes) -> Key {
        match self {
            Self::Leaf(keys) => keys.remove(way.key(keys)),
            Self::Inner(children) => {
                let i = way.child(children);
                let child = &mut children[i];
                let key = child.node.remove(way, nodes);
                child.count -= 1;
                match child.node.first() {
                    Some(first) => child.first = first,
                    None => {
                        match child.node {
                            Self::Leaf(_) => nodes.leaves -= 1,
                            Self::Inner(_) => nodes.inners -= 1,
                        }
                        children.remove(i);
                        return key;
                    }
                }
                merge(children, i, nodes);
                key
            }
        }
    }
}

/// The child that holds position `at`, and the position in it. For an insert,
/// the end of a child counts as within.
fn locate(children: &[Child], mut at: usize, insert: bool) -> (usize, usize) {
    for (i, child) in children.iter().enumerate() {
        if at < child.count || insert && at == child.count {
            return (i, at);
        }
        at -= child.count;
    }
    unreachable!("the position is within the node")
}

/// Joins child `i` with a neighbour when it has become thin and both fit.
fn merge(children: &mut Vec<Child>, i: usize, nodes: &mut Nodes) {
    let most = match children[i].node {
        Node::Leaf(_) => LEAF_LEN,
        Node::Inner(_) => INNER_LEN,
    };
    if children[i].node.width() > most / 4 {
        return;
    }
    let fits = |a: usize, b: usize| {
        b < children.len() && children[a].node.width() + children[b].node.width() <= most * 3 / 4
    };
    let left = if fits(i, i + 1) {
        i
    } else if i > 0 && fits(i - 1, i) {
        i - 1
    } else {
        return;
    };
    let right = children.remove(left + 1);
    let child = &mut children[left];
    child.count += right.count;
    match (&mut child.node, right.node) {
        (Node::Leaf(keys), Node::Leaf(mut more)) => {
            keys.append(&mut more);
            nodes.leaves -= 1;
        }
        (Node::Inner(inner), Node::Inner(mut more)) => {
            inner.append(&mut more);
            nodes.inners -= 1;
        }
        _ => unreachable!("leaves are equally deep"),
    }
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self { root: Node::Leaf(leaf()), len: 0, leaves: 1, inners: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Heap bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.leaves * mem::of_vec::<Key>(LEAF_LEN) + self.inners * mem::of_vec::<Child>(INNER_LEN)
    }

    fn counted(&mut self, nodes: &Nodes) {
        self.leaves = self.leaves.wrapping_add_signed(nodes.leaves);
        self.inners = self.inners.wrapping_add_signed(nodes.inners);
    }

    /// Inserts before position `at`, which is at most `len()`.
    pub(crate) fn insert(&mut self, at: usize, key: Key) {
        self.insert_at(&mut Position { at, insert: true }, key);
    }

    /// Inserts at the end of a way.
    pub(crate) fn insert_at(&mut self, way: &mut impl Seek, key: Key) {
        let mut nodes = Nodes::default();
        if let Some(right) = self.root.insert(way, key, &mut nodes) {
            nodes.inners += 1;
            let left = std::mem::replace(&mut self.root, Node::Inner(inner()));
            if let Node::Inner(children) = &mut self.root {
                children.extend(left.into_child());
                children.push(right);
            }
        }
        self.len += 1;
        self.counted(&nodes);
    }

    /// Removes the key at a position below `len()`.
    pub(crate) fn remove(&mut self, at: usize) -> Key {
        self.remove_at(&mut Position { at, insert: false })
    }

    /// Removes the key at the end of a way.
    pub(crate) fn remove_at(&mut self, way: &mut impl Seek) -> Key {
        let mut nodes = Nodes::default();
        let key = self.root.remove(way, &mut nodes);
        while let Node::Inner(children) = &mut self.root
            && children.len() <= 1
        {
            nodes.inners -= 1;
            match children.pop() {
                Some(only) => self.root = only.node,
                None => {
                    nodes.leaves += 1;
                    self.root = Node::Leaf(leaf());
                }
            }
        }
        self.len -= 1;
        self.counted(&nodes);
        key
    }

    /// How many keys are before the end of a way.
    pub(crate) fn rank(&self, way: &mut impl Seek) -> usize {
        let (mut node, mut rank) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(keys) => return rank + way.key(keys),
                Node::Inner(children) => {
                    let i = way.child(children);
                    rank += children[..i].iter().map(|child| child.count).sum::<usize>();
                    node = &children[i].node;
                }
            }
        }
    }

    /// How many keys at the front fulfil `before`, which holds for those alone.
    pub(crate) fn partition(&self, before: impl Fn(&Key) -> bool) -> usize {
        self.rank(&mut Behind(before))
    }

    /// Says that the key at the end of a way has another place now, after which the
    /// way no longer leads to it.
    pub(crate) fn set_place(&mut self, way: &mut impl Seek, place: u32) {
        fn set(node: &mut Node, way: &mut impl Seek, place: u32) -> bool {
            match node {
                Node::Leaf(keys) => {
                    let at = way.key(keys);
                    keys[at].at = place;
                    at == 0
                }
                Node::Inner(children) => {
                    let i = way.child(children);
                    let child = &mut children[i];
                    let is_first = set(&mut child.node, way, place);
                    if is_first {
                        child.first.at = place;
                    }
                    is_first && i == 0
                }
            }
        }
        set(&mut self.root, way, place);
    }

    /// Gives every key the mark that its place has now.
    pub(crate) fn remark(&mut self, mark: &impl Fn(u32) -> u32) {
        fn set(node: &mut Node, mark: &impl Fn(u32) -> u32) {
            match node {
                Node::Leaf(keys) => keys.iter_mut().for_each(|key| key.mark = mark(key.at)),
                Node::Inner(children) => children.iter_mut().for_each(|child| {
                    child.first.mark = mark(child.first.at);
                    set(&mut child.node, mark);
                }),
            }
        }
        set(&mut self.root, mark);
    }

    /// The leaf that holds a position below `len()`, and the position in it.
    fn leaf_at(&self, mut at: usize) -> (&[Key], usize) {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(keys) => return (keys, at),
                Node::Inner(children) => {
                    let (i, within) = locate(children, at, false);
                    (node, at) = (&children[i].node, within);
                }
            }
        }
    }

    /// Visits the keys of `from..to`, backwards if asked.
    pub(crate) fn visit(
        &self,
        mut from: usize,
        mut to: usize,
        back: bool,
        mut visit: impl FnMut(Key),
    ) {
        to = to.min(self.len);
        while from < to {
            if back {
                let (keys, at) = self.leaf_at(to - 1);
                let n = (at + 1).min(to - from);
                keys[at + 1 - n..=at].iter().rev().for_each(|key| visit(*key));
                to -= n;
            } else {
                let (keys, at) = self.leaf_at(from);
                let n = (keys.len() - at).min(to - from);
                keys[at..at + n].iter().for_each(|key| visit(*key));
                from += n;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn check(
        node: &Node,
        depth: usize,
        leaf_depth: &mut Option<usize>,
        found: &mut (usize, usize),
    ) {
        match node {
            Node::Leaf(keys) => {
                assert_eq!(*leaf_depth.get_or_insert(depth), depth, "equally deep");
                assert_eq!(keys.capacity(), LEAF_LEN, "as it is counted");
                found.0 += 1;
            }
            Node::Inner(children) => {
                assert_eq!(children.capacity(), INNER_LEN, "as it is counted");
                found.1 += 1;
                for child in children {
                    assert_eq!(child.count, child.node.count());
                    assert_eq!(Some(child.first), child.node.first());
                    check(&child.node, depth + 1, leaf_depth, found);
                }
            }
        }
    }

    #[test]
    fn it_does_what_a_vector_does() {
        for seed in 0..8 {
            let mut rng = Rng::new(seed);
            let (mut tree, mut model) = (Tree::new(), Vec::new());
            for step in 0..30_000u32 {
                let grows = step < 16_000;
                let at = rng.below(model.len() as u64 + 1) as usize;
                let at = if seed == 0 { model.len() } else { at };
                if model.is_empty() || rng.below(100) < if grows { 80 } else { 15 } {
                    let key = Key { score: f64::from(step), at: step, mark: 0 };
                    tree.insert(at, key);
                    model.insert(at, key);
                } else {
                    let at = at.min(model.len() - 1);
                    if rng.below(4) == 0 {
                        tree.set_place(&mut Position { at, insert: false }, step);
                        model[at].at = step;
                    }
                    let (keys, within) = tree.leaf_at(at);
                    assert_eq!(keys[within], model[at]);
                    assert_eq!(tree.remove(at), model.remove(at));
                }
                assert_eq!(tree.len(), model.len());
                if step % 997 == 0 || model.len() < 3 {
                    let mut found = (0, 0);
                    check(&tree.root, 0, &mut None, &mut found);
                    assert_eq!(found, (tree.leaves, tree.inners));
                    let from = rng.below(model.len() as u64 + 1) as usize;
                    let to = from + rng.below(400) as usize;
                    for back in [false, true] {
                        let mut got = Vec::new();
                        tree.visit(from, to, back, |key| got.push(key));
                        let mut want = model[from..to.min(model.len())].to_vec();
                        if back {
                            want.reverse();
                        }
                        assert_eq!(got, want);
                    }
                }
            }
        }
    }

    #[test]
    fn ways_by_order_lead_to_where_positions_do() {
        let order = |a: &Key, b: &Key| (a.score, a.at) < (b.score, b.at);
        for seed in 0..4 {
            let mut rng = Rng::new(seed);
            let (mut tree, mut model) = (Tree::new(), Vec::<Key>::new());
            // Few scores, so that many keys share one.
            let scores = [1, 5, 300, 100_000][seed as usize];
            for step in 0..30_000u32 {
                let grows = step < 18_000;
                if model.is_empty() || rng.below(100) < if grows { 80 } else { 15 } {
                    let at = rng.next() as u32;
                    let key = Key { score: rng.below(scores) as f64, at, mark: 0 };
                    let rank = model.partition_point(|other| order(other, &key));
                    assert_eq!(tree.partition(|other| order(other, &key)), rank);
                    tree.insert_at(&mut Behind(|other: &Key| order(other, &key)), key);
                    model.insert(rank, key);
                } else {
                    let rank = rng.below(model.len() as u64) as usize;
                    let key = model[rank];
                    let before = |other: &Key| order(other, &key);
                    assert_eq!(tree.rank(&mut Exactly(key, before)), rank);
                    assert_eq!(tree.remove_at(&mut Exactly(key, before)), model.remove(rank));
                }
                if step % 997 == 0 {
                    let mut found = (0, 0);
                    check(&tree.root, 0, &mut None, &mut found);
                    assert_eq!(found, (tree.leaves, tree.inners));
                    let mut all = Vec::new();
                    tree.visit(0, tree.len(), false, |key| all.push(key));
                    assert_eq!(all, model);
                }
            }
        }
    }

    #[test]
    fn a_partition_counts_what_is_before() {
        let mut tree = Tree::new();
        for i in 0..5000 {
            tree.insert(i, Key { score: (i / 3) as f64, at: i as u32, mark: 0 });
        }
        for limit in [0.0, 0.5, 1.0, 700.0, 1666.0, 5000.0] {
            let want = (0..5000).filter(|i| ((i / 3) as f64) < limit).count();
            assert_eq!(tree.partition(|key| key.score < limit), want);
        }
    }
}
