//! Tests for Crucible plugins, without a server.
//!
//! * [`Script`]: a table of bytes in and bytes out for a protocol, played whole,
//!   split, batched, side by side, with tiny output, late answers, ...
//! * [`TestHost`]: a host in the test's thread with a clock of its own, for
//!   everything a script cannot say: timers, wakes, several connections, key
//!   events, users, bodies.
//! * [`Contract`]: the suite that every backend must pass; [`Robustness`]: the one
//!   for protocols, whatever they speak.
//! * [`linear::check`]: whether some order explains what threads see of a key.
//! * [`ModelBackend`]: the rules as a backend; [`Faulty`]: any backend in
//!   trouble; [`sample::Sample`]: a protocol that does everything.
//!
//! Always true: plugins run through their real tables, as in production, so a
//! test that passes here has crossed the boundary.

#![deny(unsafe_code)]

mod bare;
mod callback;
pub mod contract;
pub mod crossing;
mod faulty;
mod host;
pub mod linear;
mod model;
mod random;
pub mod robust;
pub mod sample;
mod script;
mod services;
pub mod speed;
mod store;

pub use bare::Bare;
pub use contract::Contract;
pub use faulty::{FaultSettings, Faulty, FaultyWorker};
pub use host::{Conn, HostOptions, Peer, ProtocolId, StoreId, TestHost};
pub use model::{ModelBackend, ModelSettings, ModelStore, ModelWorker};
pub use robust::Robustness;
pub use script::Script;
pub use services::{EmittedEvent, LogLine};
pub use store::{Answer, Lent, Reserved, Shown, Store, StoreWorker};

/// The clock of a test at its start, unix milliseconds (September 2001).
pub const START_MS: u64 = 1_000_000_000_000;
