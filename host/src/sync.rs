//! The primitives of `gate`, named in one place: its model in `tests/gate.rs` names loom's instead.

pub(crate) use std::sync::atomic::{AtomicU32, Ordering, fence};
pub(crate) use std::sync::{Mutex, MutexGuard};
