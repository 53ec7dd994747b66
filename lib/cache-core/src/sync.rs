//! The one switch between the standard library's atomics and loom's.
//!
//! Every module that shares memory between threads takes its atomics from
//! here, so that `RUSTFLAGS="--cfg loom"` model-checks the very code that ships.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

/// A mutex for cold paths (growth, flush, the miss-ratio curve). Workers only
/// ever `try_lock` it on their hot path.
#[cfg(loom)]
pub(crate) use loom::sync::Mutex;
#[cfg(not(loom))]
pub(crate) use std::sync::Mutex;

/// Tells the processor (or loom's scheduler) that this thread waits for another.
///
/// `round` counts the waits so far: short waits stay on the processor, longer
/// ones offer it to the thread that holds what we wait for.
#[inline]
pub(crate) fn relax(round: u32) {
    #[cfg(loom)]
    {
        let _ = round;
        loom::thread::yield_now();
    }
    #[cfg(not(loom))]
    if round < 64 {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}
