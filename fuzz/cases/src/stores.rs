//! Store operations against the rules: the random part of the testkit's contract, played as bytes say.

use crate::sessions::TINY;
use crucible_heap::Heap;
use crucible_plugin_testkit::Contract;
use crucible_segcache::Segcache;
use crucible_slab::Slab;

/// Operations of one input: enough for every bit of state, few enough for thousands of inputs a second.
const INPUT_LEN_MAX: usize = 4096;

fn bounded(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(INPUT_LEN_MAX)]
}

pub(crate) fn segcache(bytes: &[u8]) {
    Contract::of::<Segcache>(r#"{"heap_size":"8MB","segment_size":"128KB"}"#).play(bounded(bytes));
}

pub(crate) fn segcache_tiny(bytes: &[u8]) {
    Contract::of::<Segcache>(TINY).evicts().play(bounded(bytes));
}

pub(crate) fn heap(bytes: &[u8]) {
    Contract::of::<Heap>(r#"{"heap_size":"16MB"}"#).play(bounded(bytes));
}

pub(crate) fn slab(bytes: &[u8]) {
    Contract::of::<Slab>(r#"{"heap_size":"32MB","slab_size":"1MB"}"#).play(bounded(bytes));
}

pub(crate) fn structures(bytes: &[u8]) {
    Contract::of::<Heap>(r#"{"heap_size":"16MB"}"#).play_structures(bounded(bytes));
}
