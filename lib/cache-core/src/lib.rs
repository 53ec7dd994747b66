//! Hashtable, segments, pools and eviction for in-memory caches.
//!
//! ```text
//!            key ──hash──> table (index of entries: tag, hits, location)
//!                                                        │
//!  small log (admission) ──hits──> main log (TTL groups) │  segments in one pool
//!        │ no hits                        │ no hits      │
//!        v                                v              │
//!     ghosts                             gone    <───────┘
//! ```
//! A [`Cache`] is shared; each thread works through its own [`Worker`]. Readers
//! take no lock and write no shared line (save a hit count that soon is full);
//! writers of one key are one after another; memory is reused only after every
//! worker has passed a quiescent point (`epoch`).
//!
//! The library knows nothing of sockets, protocols or plugins; time is passed in.

#![deny(unsafe_code)]

mod cache;
mod config;
mod duel;
mod epoch;
mod error;
mod hash;
#[cfg(all(test, loom))]
mod loom_models;
mod memory;
mod mini;
mod mrc;
mod persist;
mod policy;
pub mod prefetch;
mod resize;
mod sample;
mod segment;
mod stats;
mod sync;
mod table;
mod ttl;
mod view;
mod worker;

pub use cache::{Cache, Retained};
pub use config::{
    Config, HEAP_SIZE_MIN, Observer, PolicyKind, Reason, SEGMENT_SIZE_MAX, SEGMENT_SIZE_MIN,
};
pub use epoch::Epochs;
pub use error::Error;
pub use hash::{KeyHash, KeyHasher, scale};
pub use memory::{HugePages, MapOptions, Region};
pub use mrc::MissRatioPoint;
pub use persist::WarmStart;
pub use segment::item::{KEY_LEN_MAX, MARKS_MASK};
pub use segment::state::Layer;
pub use stats::{Counters, GroupOccupancy, STATE_NAMES, Stats};
pub use table::chain::{ChainSlot, ChainTable};
pub use table::ghost::Ghosts;
pub use table::simd::{SLOTS, match_tags};
pub use view::{Item, Parts};
pub use worker::{
    Condition, Cursor, DeadlineCondition, Edit, Meta, NewValue, Outcome, Reservation,
    ReserveRequest, Sought, Status, Store, Worker,
};
