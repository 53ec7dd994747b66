//! The memcache protocol: classic text, meta and binary commands, told apart by the first byte.
//!
//! ```text
//!            values: no store, no socket          the store's side
//!  bytes -> line, text, meta, binary -> serve_text, serve_meta, serve_binary -> operations
//!  bytes <-            reply_text, reply_meta, reply_binary                  <- operations, done
//! ```
//! Must hold: what memcached answers is answered to the byte, except where `docs/memcache.md` says
//! otherwise; nothing a client sends panics, allocates in advance or desynchronises the connection.

#![deny(unsafe_code)]

pub mod auth;
pub mod base64;
pub mod binary;
pub mod counter;
pub mod counters;
pub mod dump;
pub mod exptime;
pub mod limits;
pub mod line;
pub mod marks;
pub mod meta;
pub mod number;
pub mod plugin;
pub mod reply_binary;
pub mod reply_meta;
pub mod reply_text;
pub mod serve_binary;
pub mod serve_meta;
pub mod serve_text;
pub mod session;
pub mod settings;
pub mod stale;
pub mod stats;
pub mod text;
pub mod ticket;
pub mod watch;

pub use plugin::Memcache;
