//! A store that forgets what was used least recently.
//!
//! Keys are spread over shards, each a mutex around an `lru::LruCache`. Always
//! true: the bytes of keys, values and bookkeeping stay below the share of the
//! shard; what does not fit pushes out the least recently used items, and a
//! value larger than a shard is refused.

#![deny(unsafe_code)]

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crucible_plugin_api::re::{schemars, serde};
use crucible_plugin_api::{Change, Env, PluginError, Simple, SimpleBackend, Status, Stored};
use lru::LruCache;

/// What an item costs beside its key and value, bytes.
const ITEM_OVERHEAD_BYTES: usize = 160;
const SHARDS: usize = 64;

/// The settings of `[cache]` when the store is `lru`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[schemars(crate = "schemars")]
pub struct Settings {
    /// Memory for items: bytes, or a text like "64MB".
    #[serde(deserialize_with = "size")]
    #[schemars(with = "String")]
    pub heap_size: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { heap_size: 64 << 20 }
    }
}

/// Reads a size: a number of bytes, or a number with kB, MB, GB, KiB, MiB, GiB.
fn size<'de, D: serde::Deserializer<'de>>(input: D) -> Result<u64, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(crate = "serde", untagged)]
    enum Size {
        Bytes(u64),
        Text(String),
    }
    let text = match <Size as serde::Deserialize>::deserialize(input)? {
        Size::Bytes(bytes) => return Ok(bytes),
        Size::Text(text) => text,
    };
    let digits = text.trim().find(|c: char| !c.is_ascii_digit()).unwrap_or(text.trim().len());
    let (number, unit) = text.trim().split_at(digits);
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err(serde::de::Error::custom(format!("{text:?} is not a size"))),
    };
    let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
    bytes.ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a size")))
}

/// The store.
#[derive(Debug)]
pub struct Lru {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    shard_bytes_max: usize,
    last_cas: AtomicU64,
    evicted: AtomicU64,
    expired: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Debug)]
struct Shard {
    items: LruCache<Box<[u8]>, Stored>,
    bytes: usize,
}

fn cost(key: &[u8], item: &Stored) -> usize {
    key.len() + item.value.len() + ITEM_OVERHEAD_BYTES
}

impl Shard {
    fn remove(&mut self, key: &[u8]) -> Option<Stored> {
        let item = self.items.pop(key)?;
        self.bytes -= cost(key, &item);
        Some(item)
    }

    /// Takes the item away when its time is over.
    fn settle(&mut self, key: &[u8], now_ms: u64) -> bool {
        let over = self.items.peek(key).is_some_and(|item| item.is_expired(now_ms));
        over && self.remove(key).is_some()
    }

    fn insert(&mut self, key: &[u8], item: Stored) {
        self.remove(key);
        self.bytes += cost(key, &item);
        self.items.put(key.into(), item);
    }

    fn evict_one(&mut self) -> bool {
        let Some((key, item)) = self.items.pop_lru() else { return false };
        self.bytes -= cost(&key, &item);
        true
    }
}

impl Lru {
    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        let at = self.hasher.hash_one(key) as usize % SHARDS;
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Simple for Lru {
    type Settings = Settings;

    fn create(settings: Settings, _: &Env) -> Result<Self, PluginError> {
        let shard_bytes_max = usize::try_from(settings.heap_size).unwrap_or(usize::MAX) / SHARDS;
        if shard_bytes_max < 4096 {
            return Err(PluginError::setting("heap_size", "at least 256KiB, please"));
        }
        let shard = || Mutex::new(Shard { items: LruCache::unbounded(), bytes: 0 });
        Ok(Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: RandomState::new(),
            shard_bytes_max,
            last_cas: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        })
    }

    fn limits(&self) -> (u32, u64) {
        (1024, self.shard_bytes_max.saturating_sub(1024 + ITEM_OVERHEAD_BYTES) as u64)
    }

    fn get(&self, key: &[u8], now_ms: u64, touch: bool) -> Option<Stored> {
        let mut shard = self.shard(key);
        if shard.settle(key, now_ms) {
            bump(&self.expired);
        }
        let item = if touch { shard.items.get_mut(key) } else { shard.items.peek_mut(key) };
        bump(if item.is_some() { &self.hits } else { &self.misses });
        let item = item?;
        let shown = item.clone();
        item.seen |= touch;
        Some(shown)
    }

    fn update(
        &self,
        key: &[u8],
        now_ms: u64,
        decide: &mut dyn FnMut(Option<&Stored>) -> Change,
    ) -> Result<(Option<Stored>, Option<Stored>), Status> {
        let mut shard = self.shard(key);
        if shard.settle(key, now_ms) {
            bump(&self.expired);
        }
        let before = shard.items.get(key).cloned();
        let change = decide(before.as_ref());
        let fresh_cas = self.last_cas.fetch_add(1, Ordering::Relaxed) + 1;
        let after = Stored::after(before.as_ref(), &change, fresh_cas);
        match &after {
            Some(item) => {
                shard.insert(key, item.clone());
                // What was just used is the last to go, and fits by itself.
                while shard.bytes > self.shard_bytes_max && shard.evict_one() {
                    bump(&self.evicted);
                }
            }
            None => drop(shard.remove(key)),
        }
        Ok((before, after))
    }

    fn clear(&self) {
        for mut shard in self.all() {
            shard.items.clear();
            shard.bytes = 0;
        }
    }

    fn scan(
        &self,
        cursor: u64,
        budget: u32,
        now_ms: u64,
        visit: &mut dyn FnMut(&[u8], &Stored) -> bool,
    ) -> u64 {
        // A shard at a time, so that a key is never skipped while others move.
        let mut visited = 0;
        for (at, shard) in self.all().enumerate().skip(cursor as usize) {
            for (key, item) in shard.items.iter().filter(|(_, item)| !item.is_expired(now_ms)) {
                visited += 1;
                if !visit(key, item) {
                    return at as u64 + 1;
                }
            }
            if visited >= budget && at + 1 < SHARDS {
                return at as u64 + 1;
            }
        }
        0
    }

    fn stats(&self, visit: &mut dyn FnMut(&str, &str)) {
        let (mut items, mut bytes) = (0, 0);
        for shard in self.all() {
            items += shard.items.len();
            bytes += shard.bytes;
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed).to_string();
        visit("items", &items.to_string());
        visit("memory_used_bytes", &bytes.to_string());
        visit("memory_limit_bytes", &(self.shard_bytes_max * SHARDS).to_string());
        visit("evictions", &count(&self.evicted));
        visit("expired", &count(&self.expired));
        visit("hits", &count(&self.hits));
        visit("misses", &count(&self.misses));
        visit("policy", "lru");
    }
}

crucible_plugin_api::export_backend!("lru", SimpleBackend<Lru>);

#[cfg(test)]
mod tests {
    use crucible_plugin_api::{Op, PluginInfo, SimpleBackend, Status, backend_root};
    use crucible_plugin_testkit::{Contract, Store};

    use super::Lru;

    type Backend = SimpleBackend<Lru>;
    const INFO: PluginInfo = PluginInfo { name: "lru", version: "0" };

    #[test]
    fn the_backend_contract_holds() {
        Contract::of::<Backend>(r#"{"heap_size":"256MiB"}"#).run();
    }

    #[test]
    fn the_contract_holds_while_memory_is_short() {
        let contract = Contract::of::<Backend>(r#"{"heap_size":"512KiB"}"#).evicts();
        let random = crucible_plugin_testkit::contract::PARTS
            .iter()
            .filter(|part| part.name.starts_with("random"));
        random.for_each(|part| part.check(&contract));
    }

    #[test]
    fn the_least_recently_used_goes_first_and_memory_stays_bounded() {
        let store = Store::create(backend_root::<Backend>(INFO), r#"{"heap_size":"1MiB"}"#, 1)
            .expect("good settings");
        let mut worker = store.worker(0);
        worker.run(Op::store(b"favourite", b"v"));
        for n in 0..50_000 {
            worker.run(Op::store(format!("key-{n}").as_bytes(), &[0; 100]));
            assert_eq!(worker.run(Op::get(b"favourite")).status, Status::OK, "used all the time");
        }
        let stats = worker.stats("");
        let number = |name: &str| stats[name].parse::<u64>().expect("a number");
        assert!(number("memory_used_bytes") <= 1 << 20);
        assert!(number("evictions") > 40_000);
        assert_eq!(worker.run(Op::get(b"key-0")).status, Status::MISS);
    }

    #[test]
    fn bad_sizes_are_refused_by_name() {
        for bad in [r#"{"heap_size":"lots"}"#, r#"{"heap_size":5}"#] {
            let why = Store::create(backend_root::<Backend>(INFO), bad, 1).expect_err("too odd");
            assert!(why.starts_with("setting heap_size: "), "{why}");
        }
    }
}
