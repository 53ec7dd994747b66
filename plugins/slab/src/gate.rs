//! The gate: when may a worker write over an item that is in the index?
//!
//! Readers hold no item; they are inside a sweep. So a worker that is the only one
//! inside may change what it has not lent itself, while the others wait to enter:
//!
//! ```text
//! writer   writing += 1 ; fence ; all others outside? ── yes ──> write ; writing -= 1
//!                                                     └─ no ───> writing -= 1, and copies
//! reader   local epoch = now ; fence ; wait until writing == 0 ; ... reads ...
//! ```
//! The fences are partners: the writer sees that the reader is inside, or the reader
//! sees that the writer writes. A writer writes one value; it never waits.
//!
//! # Safety
//! Only the models have unsafe code: a cell that the gate alone protects, so that
//! loom finds any race.

use cache_core::Epochs;

#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// The gate of one store.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Workers that write or try to.
    writing: AtomicU32,
}

/// Nobody else is inside while this lives.
#[derive(Debug)]
pub(crate) struct Closed<'g>(&'g Gate);

impl Gate {
    pub(crate) fn new() -> Self {
        Self { writing: AtomicU32::new(0) }
    }

    /// Makes a worker a reader.
    #[inline]
    pub(crate) fn enter(&self, epochs: &Epochs, worker: usize) {
        // Ends with a fence, the partner of the one in `close`.
        epochs.enter(worker);
        let mut round = 0u32;
        // Acquire: partner of the release in `drop`.
        while self.writing.load(Ordering::Acquire) != 0 {
            relax(round);
            round = round.saturating_add(1);
        }
    }

    /// Closes the gate, if no other worker is inside.
    #[inline]
    pub(crate) fn close(&self, epochs: &Epochs, worker: usize) -> Option<Closed<'_>> {
        // Others' lines are read before a shared one is written in vain.
        if !epochs.is_alone(worker) {
            return None;
        }
        self.writing.fetch_add(1, Ordering::Relaxed);
        let closed = Closed(self);
        // Partner: the fence in `Epochs::enter`.
        fence(Ordering::SeqCst);
        epochs.is_alone(worker).then_some(closed)
    }
}

impl Drop for Closed<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release: who enters sees what was written.
        self.0.writing.fetch_sub(1, Ordering::Release);
    }
}

#[inline]
fn relax(round: u32) {
    #[cfg(loom)]
    {
        let _ = round;
        loom::thread::yield_now();
    }
    #[cfg(not(loom))]
    if round < 256 {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_gate_closes_for_a_worker_that_is_alone() {
        let (gate, epochs) = (Gate::new(), Epochs::new(2));
        gate.enter(&epochs, 0);
        assert!(gate.close(&epochs, 0).is_some());
        gate.enter(&epochs, 1);
        assert!(gate.close(&epochs, 0).is_none());
        epochs.leave(1);
        assert!(gate.close(&epochs, 0).is_some());
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    struct Shared {
        gate: Gate,
        epochs: Epochs,
        value: UnsafeCell<u32>,
    }

    // SAFETY: the gate is what the model is about: loom finds any race.
    #[allow(unsafe_code)]
    unsafe impl Sync for Shared {}
    // SAFETY: as above.
    #[allow(unsafe_code)]
    unsafe impl Send for Shared {}

    fn shared(workers: usize) -> Arc<Shared> {
        Arc::new(Shared {
            gate: Gate::new(),
            epochs: Epochs::new(workers),
            value: UnsafeCell::new(0),
        })
    }

    #[allow(unsafe_code)]
    fn write(shared: &Shared, worker: usize) {
        shared.gate.enter(&shared.epochs, worker);
        if let Some(_closed) = shared.gate.close(&shared.epochs, worker) {
            // SAFETY: nobody else is inside.
            shared.value.with_mut(|value| unsafe { *value += 1 });
        }
        shared.epochs.leave(worker);
    }

    #[allow(unsafe_code)]
    fn read(shared: &Shared, worker: usize) {
        shared.gate.enter(&shared.epochs, worker);
        // SAFETY: inside, so nobody writes.
        let seen = shared.value.with(|value| unsafe { *value });
        assert!(seen <= 2);
        shared.epochs.leave(worker);
    }

    #[test]
    fn nobody_reads_while_a_value_is_written_over() {
        loom::model(|| {
            let shared = shared(2);
            let other = Arc::clone(&shared);
            let reader = loom::thread::spawn(move || read(&other, 1));
            write(&shared, 0);
            reader.join().expect("the reader ends");
        });
    }

    #[test]
    fn two_writers_never_write_at_once_and_neither_opens_the_others_gate() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.max_branches = 10_000;
        model.check(|| {
            let shared = shared(2);
            let other = Arc::clone(&shared);
            // What one tries in vain must not let it in again while the other writes.
            let writer = loom::thread::spawn(move || {
                write(&other, 1);
                read(&other, 1);
            });
            write(&shared, 0);
            writer.join().expect("the writer ends");
        });
    }
}
