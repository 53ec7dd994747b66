//! The boundary between the Crucible host and its plugins.
//!
//! Two floors:
//!
//! * [`abi`] — what crosses: plain `repr(C)` data and tables of `extern "C"`
//!   functions, described to `abi_stable` so that the loader can check a
//!   plugin's layout before it calls anything in it. Only the host and this
//!   crate's own thunks touch it.
//! * the SDK — what a plugin's author writes against: [`Protocol`] turns bytes
//!   into [`Op`]s and results into replies, [`Backend`] stores. Both are safe
//!   traits; the thunks that carry them over the boundary catch every panic.
//!
//! One *crossing* serves a whole sweep of the worker's event loop: the host
//! hands the protocol all readable connections, the SDK parses them into one
//! array of operations, the backend executes that array in order (hash all,
//! prefetch all, then answer), and the SDK lets the protocol write one reply
//! after the other into memory the host lent. Values stay valid until the
//! crossing returns; nothing is reference-counted on the way.
//!
//! What must always hold: nothing unwinds across the boundary, nothing is
//! freed by the side that did not allocate it, and no integer that crosses is
//! a Rust enum.

#![deny(unsafe_code)]

pub mod abi;
pub mod backend;
mod bump;
pub mod channels;
pub mod decimal;
mod env;
mod error;
mod export;
mod few;
mod item;
mod log;
pub mod metadata;
mod op;
mod out;
mod place;
pub mod protocol;
pub mod semantics;
mod settings;
mod structure;
mod thunk;

pub use abi::caps::Capabilities;
pub use abi::op::{Condition, OpCode, Opts};
pub use abi::status::Status;
pub use abi::structure::{StructFlags, StructOp};
pub use backend::{
    Answers, Backend, Batch, Body, BodyToken, Simple, SimpleBackend, Stored, StructAnswer,
};
pub use env::{CounterId, Env, GaugeId, KeyEvent, KeyEventKind, Waker, WorkerCtx};
pub use error::PluginError;
pub use export::{PluginInfo, backend_root, protocol_root};
pub use item::{Change, Item, ItemKind, Modify, Value};
pub use op::{Decided, Op};
pub use out::Out;
pub use protocol::{
    After, CloseReason, CommandInfo, ConnInfo, Event, Flow, Next, Parsed, Protocol, Queue, Service,
};
pub use settings::{ByteSize, parse_settings, schema_of};
pub use structure::{Datum, Element, KeyChanges, OwnedElements, StructCall};

/// Libraries that the export macros and settings derive need by path.
pub mod re {
    pub use abi_stable;
    pub use schemars;
    pub use serde;
    pub use tracing;
}
