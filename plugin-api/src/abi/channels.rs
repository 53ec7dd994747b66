//! Channels: how the protocols over one store pass messages to each other.
//!
//! A host that has them answers `query_ext` of [`CHANNELS_EXT`] with a [`ChannelsTable`]. What must
//! always be true: the table only grows at its end, and `size_bytes` says how much of it is there;
//! `ctx` and the table live as long as the host's own table. Called through [`crate::channels`].
//!
//! # Safety
//! Buffers are valid for the call that passes them.
#![allow(unsafe_code)]

use core::ffi::c_void;

use abi_stable::StableAbi;

use super::op::Buf;

/// The name under which a host's `query_ext` shows its table of channels.
pub const CHANNELS_EXT: &str = "crucible.channels.v1";

/// What a message is, as far as its publisher knows; bits.
pub mod marks {
    /// The payload was given as text.
    pub const TEXT: u32 = 1;
    /// The payload was given as bytes.
    pub const BINARY: u32 = 1 << 1;
    /// For those who listen to shards' channels, which are names of their own.
    pub const SHARD: u32 = 1 << 2;
}

/// Takes a message, from any thread: channel, payload, marks. Returns how many got it. It must not
/// call the table.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct ReceiveFn(pub unsafe extern "C" fn(_: *const c_void, _: Buf, _: Buf, _: u32) -> u64);

/// The host's functions; all may be called from any thread.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct ChannelsTable {
    /// Length of the table that this host has, in bytes.
    pub size_bytes: u64,
    /// First argument of the functions.
    pub ctx: *const c_void,
    /// Whatever others publish goes to this function from now on, with this argument first. Answers
    /// a number, which is never 0.
    pub attach: unsafe extern "C" fn(_: *const c_void, _: ReceiveFn, _: *const c_void) -> u64,
    /// Ends it; once it returns, the function is not running and not called again.
    pub detach: unsafe extern "C" fn(_: *const c_void, _: u64),
    /// Gives channel, payload and marks to everyone attached but the one of this number; answers
    /// how many listeners they reached.
    pub publish: unsafe extern "C" fn(_: *const c_void, _: u64, _: Buf, _: Buf, _: u32) -> u64,
}

const _: () = assert!(size_of::<ChannelsTable>() == 40 && align_of::<ChannelsTable>() == 8);
