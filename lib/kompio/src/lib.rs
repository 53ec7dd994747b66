//! A push-based io_uring event loop for servers and clients.
//!
//! A worker is a thread with a ring, its connections and one [`EventHandler`]. The loop pushes
//! events into the handler; what the handler queues leaves in the same system call that waits for
//! the next events. Nothing is global: several servers live in one process.
//!
//! ```
//! use kompio::{Config, ConnToken, Consumed, DriverCtx, EventHandler, KompioBuilder, Shutdown};
//!
//! struct Echo;
//!
//! impl EventHandler for Echo {
//!     fn on_data(&mut self, ctx: &mut DriverCtx, conn: ConnToken, data: &[u8]) -> Consumed {
//!         ctx.send(conn, data);
//!         Consumed::Bytes(data.len())
//!     }
//! }
//!
//! # fn main() -> Result<(), kompio::Error> {
//! let server = KompioBuilder::new(Config::default())
//!     .bind("127.0.0.1:0".parse().unwrap())
//!     .launch(|_worker| Echo)?;
//! println!("listening on {}", server.addresses()[0]);
//! server.shutdown(Shutdown::Now);
//! assert!(server.join().drained);
//! # Ok(())
//! # }
//! ```
//!
//! # Contracts
//! * One send and one receive of a connection are with the kernel at most. Output gathers in the
//!   other half of a double buffer meanwhile.
//! * A sweep is: all completions, then [`on_sweep`](EventHandler::on_sweep). Input of the sweep
//!   stays unmoved until that returns, so all ready connections can be worked on as one batch.
//! * By-reference output is released when the kernel is done with it: after the completion of a
//!   plain send, after the *notification* of a zero-copy one; each id exactly once.
//! * [`on_close`](EventHandler::on_close) comes exactly once for every token, as the last word.
//! * A token of a closed connection is harmless; generations keep it from naming the next one.
//!
//! What must always be true in this crate: `unsafe` is denied here and allowed by name in the
//! files that need it. Called by servers and load generators; it knows nothing of caches.
#![deny(unsafe_code)]

mod addr;
mod buffers;
mod config;
mod conn;
mod cpus;
mod ctx;
mod error;
mod handler;
mod input;
mod kernel;
pub mod limits;
mod listen;
mod out;
mod pace;
#[cfg(any(test, feature = "fuzzing"))]
#[cfg_attr(not(test), allow(dead_code, reason = "a part of it is for tests"))]
mod scripted;
mod server;
mod settle;
mod shared;
mod stamps;
mod stats;
mod sys;
mod timer;
mod token;
mod uring;
mod wake;
mod worker;
mod zero_copy;

/// The loop under a kernel that does anything, for the fuzzer.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    /// Plays what the bytes say.
    ///
    /// # Panics
    /// When the loop breaks a promise.
    pub fn run(bytes: &[u8]) {
        crate::scripted::any::run(bytes);
    }
}

pub use addr::Addr;
pub use config::{AcceptMode, Config, ZeroCopy};
pub use cpus::{CPU_MAX, CpuList, CpuListError};
pub use ctx::{DriverCtx, Fill};
pub use error::{ConnectError, Error};
pub use handler::{
    CloseReason, Consumed, EventHandler, FillOutcome, FillResult, ListenerId, WorkerInfo,
};
pub use out::{OutBuf, SendPart};
pub use server::{Handle, JoinReport, KompioBuilder, LocalWorker, Server};
pub use shared::Shutdown;
pub use stats::Stats;
pub use sys::affinity;
pub use timer::TimerId;
pub use token::ConnToken;
