//! Caches: namespaces over one backend.
//!
//! Each cache has a number that is never used again; a stored key is
//! `0x00 'm' number(u32 BE)` and then the caller's key, so caches cannot see
//! each other, nor keys of other protocols that begin otherwise. Flushing gives
//! the cache a new number: its items are unreachable at once, and the store
//! evicts them in its own time.
//!
//! Always true: a number belongs to at most one cache, for the life of the
//! instance. Workers look names up in their own snapshot and renew it when
//! `version` moved, so a lookup writes nothing shared.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crucible_plugin_api::{CounterId, Env};

use crate::status::{Failure, code};

/// Longest name of a cache, bytes.
pub(crate) const NAME_LEN_MAX: usize = 255;
/// Most caches of an instance: each is a few hundred bytes on every worker.
pub(crate) const CACHES_MAX: usize = 4096;
/// Caches with counters of their own, in all that a process has seen: three numbers each, of the
/// thousand or so that a host has for all plugins. Further ones share `others`.
pub(crate) const COUNTED_MAX: usize = 128;
/// Length of the prefix before the caller's key.
pub(crate) const PREFIX_LEN: usize = 6;

/// Where a cache's requests are counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counters {
    pub(crate) hits: CounterId,
    pub(crate) misses: CounterId,
    pub(crate) writes: CounterId,
}

impl Counters {
    fn register(env: &Env, part: &str) -> Self {
        let name = |what: &str| format!("momento_{what}_{part}");
        Self {
            hits: env.counter(&name("hits"), "Reads that found their item"),
            misses: env.counter(&name("misses"), "Reads that found nothing"),
            writes: env.counter(&name("writes"), "Requests that write"),
        }
    }
}

/// Which cache counts under which name. A name is a cache's for ever: one that is deleted and made
/// again counts on.
#[derive(Debug)]
struct Counted {
    env: Env,
    /// The caches that have counters, by the part of the metric's name.
    caches: BTreeMap<String, (String, Counters)>,
    others: Counters,
}

/// The part that the caches share which have no counters of their own.
const OTHERS: &str = "others";

impl Counted {
    fn new(env: &Env) -> Self {
        let others = Counters::register(env, OTHERS);
        Self { env: env.clone(), caches: BTreeMap::new(), others }
    }

    /// The counters of a cache. Two whose names differ in other signs than letters and digits
    /// alone are told apart by a number behind.
    fn of(&mut self, cache: &str) -> Counters {
        let plain: String =
            cache.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let mut part = plain.clone();
        for number in 2.. {
            match self.caches.get(&part) {
                Some((owner, counters)) if owner == cache => return *counters,
                None if part != OTHERS => break,
                _ => part = format!("{plain}_{number}"),
            }
        }
        if self.caches.len() >= COUNTED_MAX {
            return self.others;
        }
        let counters = Counters::register(&self.env, &part);
        self.caches.insert(part, (cache.to_owned(), counters));
        counters
    }
}

/// One cache.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    pub(crate) prefix: [u8; PREFIX_LEN],
    pub(crate) counters: Counters,
}

#[derive(Debug)]
struct Registry {
    caches: Arc<BTreeMap<String, Cache>>,
    next_number: u32,
    counted: Counted,
}

/// All caches of an instance.
#[derive(Debug)]
pub(crate) struct Caches {
    registry: Mutex<Registry>,
    version: AtomicU64,
}

/// A worker's view of the caches.
#[derive(Debug)]
pub(crate) struct Snapshot {
    caches: Arc<BTreeMap<String, Cache>>,
    version: u64,
}

fn prefix(number: u32) -> [u8; PREFIX_LEN] {
    let [a, b, c, d] = number.to_be_bytes();
    [0, b'm', a, b, c, d]
}

impl Caches {
    pub(crate) fn new(names: &[String], env: &Env) -> Result<Self, Failure> {
        let caches = Self {
            registry: Mutex::new(Registry {
                caches: Arc::default(),
                next_number: 1,
                counted: Counted::new(env),
            }),
            version: AtomicU64::new(1),
        };
        names.iter().try_for_each(|name| caches.create(name))?;
        Ok(caches)
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // A panic elsewhere leaves the map as it was: it is replaced whole.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let registry = self.registry();
        let version = self.version.load(Ordering::Acquire);
        Snapshot { caches: Arc::clone(&registry.caches), version }
    }

    fn change(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, Cache>, &mut u32, &mut Counted) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut registry = self.registry();
        let mut caches = (*registry.caches).clone();
        let mut next_number = registry.next_number;
        change(&mut caches, &mut next_number, &mut registry.counted)?;
        registry.caches = Arc::new(caches);
        registry.next_number = next_number;
        self.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    pub(crate) fn create(&self, name: &str) -> Result<(), Failure> {
        check_name(name)?;
        self.change(|caches, next_number, counted| {
            if caches.contains_key(name) {
                return Err(Failure::new(
                    code::ALREADY_EXISTS,
                    format!("Cache with name: {name} already exists"),
                ));
            }
            if caches.len() >= CACHES_MAX {
                let message = format!("there are {CACHES_MAX} caches already");
                return Err(Failure::new(code::RESOURCE_EXHAUSTED, message));
            }
            let number = take_number(next_number)?;
            let cache = Cache { prefix: prefix(number), counters: counted.of(name) };
            caches.insert(name.to_owned(), cache);
            Ok(())
        })
    }

    pub(crate) fn delete(&self, name: &str) -> Result<(), Failure> {
        check_name(name)?;
        self.change(|caches, _, _| caches.remove(name).map(drop).ok_or_else(|| not_found(name)))
    }

    pub(crate) fn flush(&self, name: &str) -> Result<(), Failure> {
        check_name(name)?;
        self.change(|caches, next_number, _| {
            let cache = caches.get_mut(name).ok_or_else(|| not_found(name))?;
            cache.prefix = prefix(take_number(next_number)?);
            Ok(())
        })
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.registry().caches.keys().cloned().collect()
    }
}

fn take_number(next: &mut u32) -> Result<u32, Failure> {
    let number = *next;
    *next = number
        .checked_add(1)
        .ok_or_else(|| Failure::new(code::RESOURCE_EXHAUSTED, "all cache numbers are used up"))?;
    Ok(number)
}

impl Snapshot {
    /// The cache of that name.
    pub(crate) fn find<'s>(
        &'s mut self,
        caches: &Caches,
        name: &str,
    ) -> Result<&'s Cache, Failure> {
        if self.version != caches.version.load(Ordering::Acquire) {
            *self = caches.snapshot();
        }
        self.caches.get(name).ok_or_else(|| not_found(name))
    }
}

fn not_found(name: &str) -> Failure {
    Failure::new(code::NOT_FOUND, format!("Cache with name: {name} does not exist"))
}

fn check_name(name: &str) -> Result<(), Failure> {
    if name.trim().is_empty() {
        return Err(Failure::invalid("a cache name must not be empty"));
    }
    if name.len() > NAME_LEN_MAX {
        return Err(Failure::invalid(format!("a cache name has at most {NAME_LEN_MAX} bytes")));
    }
    Ok(())
}
