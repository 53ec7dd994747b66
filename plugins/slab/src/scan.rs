//! Visits items with a cursor that outlives the growth of tables.
//!
//! ```text
//! cursor: shard 32 | hash bits of the next key 32        0 = the beginning, the end
//! ```
//! A shard's keys are visited in the order of the hash bits that choose their home
//! bucket. That order is the same in a table of any size, so an item that stays is
//! visited once, however often the table is replaced between two pages.

use crate::item::ItemRef;
use crate::ops::with_item;
use crate::store::Store;
use crate::worker::Worker;
use crucible_plugin_api::Item;

/// Empty buckets that count as one item of the budget.
const BUCKETS_PER_ITEM: u64 = 8;

/// Visits about `budget` items from the cursor on; the next cursor.
pub(crate) fn scan(
    store: &Store,
    worker: &Worker,
    cursor: u64,
    budget: u32,
    visit: &mut dyn FnMut(&[u8], &Item<'_>) -> bool,
) -> u64 {
    let shards = store.shards();
    let (mut index, mut bits) = ((cursor >> 32) as usize, cursor & u64::from(u32::MAX));
    let (mut locations, mut page) = (Vec::new(), Vec::<(u64, u64)>::new());
    let mut left = u64::from(budget.max(1)) * BUCKETS_PER_ITEM;
    while index < shards.len() {
        let Some(table) = shards[index].table() else {
            (index, bits) = (index + 1, 0);
            left = left.saturating_sub(1);
            continue;
        };
        while bits <= u64::from(u32::MAX) {
            if left == 0 {
                return (index as u64) << 32 | bits;
            }
            let home = cache_core::scale(bits as u32, table.homes());
            let next = table.first_bits_of(home + 1);
            table.locations_of_home(home, &mut locations);
            page.clear();
            page.extend(locations.iter().filter_map(|at| {
                let key = store.slabs.item(*at).key();
                let of_item = u64::from(store.hasher.hash(key).index_bits());
                (bits..next).contains(&of_item).then_some((of_item, *at))
            }));
            page.sort_unstable();
            page.dedup();
            for (of_item, at) in &page {
                let item: ItemRef = store.slabs.item(*at);
                if left == 0 {
                    return (index as u64) << 32 | of_item;
                }
                if item.is_expired(worker.now_ms) {
                    continue;
                }
                left = left.saturating_sub(BUCKETS_PER_ITEM);
                if !with_item(store, item, worker.now_s(), |shown| visit(item.key(), shown)) {
                    left = 0;
                }
            }
            left = left.saturating_sub(1);
            bits = next;
        }
        (index, bits) = (index + 1, 0);
    }
    0
}
