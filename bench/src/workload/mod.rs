//! What is asked of the server: which keys, how long, which content, which commands.
//!
//! Always true: nothing here knows a protocol or a socket. Called by the plan (parsing) and by the
//! workers (drawing).

pub mod content;
pub mod keys;
pub mod ledger;
pub mod mix;
pub mod spread;
mod zipf;

use crate::rng::mix64;

/// The hash that marks a key's values; the id is hashed, not the bytes, so it costs one multiplication chain.
#[inline]
#[must_use]
pub fn key_hash(id: u64) -> u64 {
    mix64(id ^ 0x6b65_795f_6861_7368)
}
