//! Timers of one worker: a heap of deadlines over slots with generations.
//!
//! What must always be true: a timer fires once or is cancelled once; a cancelled entry stays in
//! the heap until its deadline or until half of the heap is dead, when the heap is rebuilt. Called
//! by the context (set, cancel) and by the loop (next deadline, expiry).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::token::ConnToken;

/// Name of a timer that was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    slot: u32,
    generation: u32,
}

/// Whom a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The handler's own.
    User(u64),
    /// An outgoing connection took too long.
    Connect(ConnToken),
    /// A closed connection's peer did not hang up.
    Linger(ConnToken),
    /// A listener rests after running out of descriptors.
    Accept(usize),
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    purpose: Option<Purpose>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    deadline: Instant,
    /// Equal deadlines fire in the order they were set.
    order: u64,
    slot: u32,
    generation: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<Entry>>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    order: u64,
    live: usize,
}

impl Timers {
    pub(crate) fn set(&mut self, deadline: Instant, purpose: Purpose) -> TimerId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, purpose: None });
            (self.slots.len() - 1) as u32
        });
        let generation = self.slots[slot as usize].generation;
        self.slots[slot as usize].purpose = Some(purpose);
        self.order += 1;
        self.live += 1;
        self.heap.push(Reverse(Entry { deadline, order: self.order, slot, generation }));
        TimerId { slot, generation }
    }

    /// True when the timer had not fired yet.
    pub(crate) fn cancel(&mut self, id: TimerId) -> bool {
        if self.close(id.slot, id.generation).is_none() {
            return false;
        }
        if self.heap.len() > 64 && self.heap.len() > 2 * self.live {
            let slots = &self.slots;
            self.heap.retain(|Reverse(e)| slots[e.slot as usize].generation == e.generation);
        }
        true
    }

    /// The next deadline of a live timer.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Instant> {
        while let Some(Reverse(entry)) = self.heap.peek() {
            if self.slots[entry.slot as usize].generation == entry.generation {
                return Some(entry.deadline);
            }
            self.heap.pop();
        }
        None
    }

    /// The purpose of one timer that is due.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Purpose> {
        if self.next()? > now {
            return None;
        }
        let Reverse(entry) = self.heap.pop()?;
        self.close(entry.slot, entry.generation)
    }

    fn close(&mut self, slot: u32, generation: u32) -> Option<Purpose> {
        let entry = self.slots.get_mut(slot as usize)?;
        if entry.generation != generation {
            return None;
        }
        let purpose = entry.purpose.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(slot);
        self.live -= 1;
        Some(purpose)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn fired(timers: &mut Timers, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| timers.expire(now))
            .map(|p| match p {
                Purpose::User(token) => token,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn timers_fire_in_order_of_deadline_then_of_setting() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        for (ms, token) in [(30, 3), (10, 1), (10, 2), (40, 4)] {
            timers.set(at(ms), Purpose::User(token));
        }
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(fired(&mut timers, at(9)), []);
        assert_eq!(fired(&mut timers, at(30)), [1, 2, 3]);
        assert_eq!(fired(&mut timers, at(100)), [4]);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_cancelled_timer_never_fires_and_its_slot_never_answers_for_the_next() {
        let start = Instant::now();
        let mut timers = Timers::default();
        let first = timers.set(start, Purpose::User(1));
        assert!(timers.cancel(first));
        assert!(!timers.cancel(first));
        let second = timers.set(start, Purpose::User(2));
        assert!(!timers.cancel(first), "a stale id must not cancel the slot's next timer");
        assert_eq!(fired(&mut timers, start), [2]);
        assert!(!timers.cancel(second));
    }

    #[test]
    fn timers_set_and_cancelled_for_ever_take_bounded_memory() {
        let start = Instant::now();
        let mut timers = Timers::default();
        for i in 0..100_000u64 {
            let id = timers.set(start + Duration::from_secs(3600), Purpose::User(i));
            assert!(timers.cancel(id));
        }
        assert!(timers.heap.len() <= 128, "{}", timers.heap.len());
        assert_eq!(timers.slots.len(), 1);
    }
}
