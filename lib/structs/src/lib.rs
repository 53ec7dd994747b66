//! Hashes, lists, sets and sorted sets, for backends that hold structures.
//!
//! An [`Object`] is one structure; [`apply`] runs one operation of the plugin
//! boundary ([`StructCall`](crucible_plugin_api::StructCall)) on the objects of
//! its keys. Small structures are one packed buffer, large ones are proper
//! tables, deques and trees; thresholds and names are Redis's ([`Limits`]).
//!
//! What must always hold: an object is never kept empty; it knows its heap
//! bytes ([`Object::bytes`]) in the allocator's own sizes; nothing here locks,
//! reads a clock or draws random numbers of its own: the backend holds the
//! keys' locks for the whole call and passes time and chance in.

#![deny(unsafe_code)]

mod apply;
mod hash;
mod list;
mod mem;
mod packed;
mod rng;
mod set;
mod table;
mod tree;
mod zset;

use crucible_plugin_api::ItemKind;
use crucible_plugin_api::re::{schemars, serde};

pub use apply::{Ctx, Held, Slot, apply, apply_to, is_of_one_object};
pub use hash::Hash;
pub use list::List;
pub use mem::set_good_size;
pub use rng::Rng;
pub use set::Set;
pub use zset::ZSet;

/// When a small structure becomes a large one. Names and defaults are Redis's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[schemars(crate = "schemars")]
pub struct Limits {
    /// Fields of a packed hash at the most.
    pub hash_max_listpack_entries: u32,
    /// Longest field or value of a packed hash, bytes.
    pub hash_max_listpack_value: u32,
    /// Size of a list's chunk: -1 to -5 = 4, 8, 16, 32, 64 KiB; above zero, so
    /// many entries (and at most 8 KiB).
    pub list_max_listpack_size: i32,
    /// Members of a set of integers at the most.
    pub set_max_intset_entries: u32,
    /// Members of a packed set at the most.
    pub set_max_listpack_entries: u32,
    /// Longest member of a packed set, bytes.
    pub set_max_listpack_value: u32,
    /// Members of a packed sorted set at the most.
    pub zset_max_listpack_entries: u32,
    /// Longest member of a packed sorted set, bytes.
    pub zset_max_listpack_value: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hash_max_listpack_entries: 128,
            hash_max_listpack_value: 64,
            list_max_listpack_size: -2,
            set_max_intset_entries: 512,
            set_max_listpack_entries: 128,
            set_max_listpack_value: 64,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value: 64,
        }
    }
}

impl Limits {
    /// Bytes of a list's chunk.
    pub(crate) fn list_chunk_bytes(&self) -> usize {
        match self.list_max_listpack_size {
            -1 => 4 << 10,
            -3 => 16 << 10,
            -4 => 32 << 10,
            ..=-5 => 64 << 10,
            _ => 8 << 10,
        }
    }
}

/// One structure.
#[derive(Clone, Debug)]
pub enum Object {
    /// Fields with values.
    Hash(Hash),
    /// Values in their order.
    List(List),
    /// Members.
    Set(Set),
    /// Members with scores.
    ZSet(ZSet),
}

impl Object {
    /// What kind it is.
    #[must_use]
    pub fn kind(&self) -> ItemKind {
        match self {
            Self::Hash(_) => ItemKind::Hash,
            Self::List(_) => ItemKind::List,
            Self::Set(_) => ItemKind::Set,
            Self::ZSet(_) => ItemKind::SortedSet,
        }
    }

    /// Elements: fields, values or members.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Hash(hash) => hash.len(),
            Self::List(list) => list.len(),
            Self::Set(set) => set.len(),
            Self::ZSet(zset) => zset.len(),
        }
    }

    /// True without elements, which no key holds.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Heap bytes that it owns, without itself.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Hash(hash) => hash.bytes(),
            Self::List(list) => list.bytes(),
            Self::Set(set) => set.bytes(),
            Self::ZSet(zset) => zset.bytes(),
        }
    }

    /// Redis's name of its encoding.
    #[must_use]
    pub fn encoding(&self) -> &'static str {
        match self {
            Self::Hash(hash) => hash.encoding(),
            Self::List(list) => list.encoding(),
            Self::Set(set) => set.encoding(),
            Self::ZSet(zset) => zset.encoding(),
        }
    }

    /// A time before which no field's deadline passes, unix ms; 0 = never.
    #[must_use]
    pub fn next_deadline_ms(&self) -> u64 {
        if let Self::Hash(hash) = self { hash.next_deadline_ms() } else { 0 }
    }

    /// Removes what has expired within; says how many elements. An object that
    /// is empty afterwards is to be removed.
    pub fn purge(&mut self, now_ms: u64) -> usize {
        if let Self::Hash(hash) = self { hash.purge(now_ms) } else { 0 }
    }
}
