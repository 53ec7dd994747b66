//! Numbers that plugins register, with one slot a worker.
//!
//! What must always be true: an id is an index below [`SLOTS`] in every worker's
//! slots; a slot has one writer, its worker, and any number of readers. Slots of
//! different workers share no cache line. Called through the tables; read by
//! the admin server.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::lock;

/// Slots of each worker: 1024 × 8 B = 8 KiB. A plugin has some dozens, and a
/// plugin that is loaded again gets its old ones.
pub const SLOTS: usize = 1024;

/// What is known of a number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Described {
    /// The plugin that registered it.
    pub plugin: String,
    /// Its name.
    pub name: String,
    /// What it counts.
    pub help: String,
    /// Goes both ways.
    pub gauge: bool,
}

#[derive(Debug)]
#[repr(align(128))]
struct Slots([AtomicU64; SLOTS]);

/// All registered numbers.
#[derive(Debug)]
pub struct Counters {
    names: Mutex<Vec<Described>>,
    slots: Vec<Box<Slots>>,
}

impl Counters {
    /// Slots for so many workers and service threads.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let slots = || Box::new(Slots([const { AtomicU64::new(0) }; SLOTS]));
        Self { names: Mutex::default(), slots: (0..threads).map(|_| slots()).collect() }
    }

    /// The id of a number; the same again for the same plugin and name. When
    /// all slots are taken, an id that no worker has: its counts go nowhere.
    pub fn register(&self, number: Described) -> u32 {
        let mut names = lock(&self.names);
        let same = |n: &Described| n.plugin == number.plugin && n.name == number.name;
        if let Some(at) = names.iter().position(same) {
            return at as u32;
        }
        if names.len() >= SLOTS {
            tracing::warn!(
                plugin = number.plugin,
                name = number.name,
                "no slot left for a counter"
            );
            return u32::MAX;
        }
        names.push(number);
        names.len() as u32 - 1
    }

    /// One worker's slots, to lend out.
    #[must_use]
    pub fn slots(&self, worker: usize) -> &[AtomicU64] {
        &self.slots[worker].0
    }

    /// Every number with its sum over the workers.
    #[must_use]
    pub fn read(&self) -> Vec<(Described, u64)> {
        let names = lock(&self.names).clone();
        let sum = |id: usize| {
            self.slots
                .iter()
                .fold(0u64, |sum, slots| sum.wrapping_add(slots.0[id].load(Ordering::Relaxed)))
        };
        names.into_iter().enumerate().map(|(id, number)| (number, sum(id))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(name: &str) -> Described {
        Described { plugin: "p".into(), name: name.into(), help: "h".into(), gauge: false }
    }

    #[test]
    fn a_number_keeps_its_id_and_adds_up_over_workers() {
        let counters = Counters::new(2);
        let (a, b) = (counters.register(number("a")), counters.register(number("b")));
        assert_eq!((a, b, counters.register(number("a"))), (0, 1, 0));
        counters.slots(0)[a as usize].store(3, Ordering::Relaxed);
        counters.slots(1)[a as usize].store(4, Ordering::Relaxed);
        let read: Vec<u64> = counters.read().into_iter().map(|(_, sum)| sum).collect();
        assert_eq!(read, [7, 0]);
    }

    #[test]
    fn a_number_too_many_gets_an_id_that_no_worker_has() {
        let counters = Counters::new(1);
        for i in 0..SLOTS {
            assert_eq!(counters.register(number(&i.to_string())) as usize, i);
        }
        assert!(counters.register(number("more")) as usize >= SLOTS);
    }
}
