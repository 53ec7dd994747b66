//! Channels: messages between the protocols over one store.
//!
//! ```text
//!   a client publishes ─> its protocol: own listeners ─> Channels::publish ─> the other protocols'
//!                                                                             receivers, at once
//! ```
//! Each protocol keeps its own listeners; this carries a message to the others, which deliver it to
//! theirs. What must always be true: a message reaches everyone attached but its publisher, on the
//! publisher's thread, before `publish` returns; a receiver does not publish. [`Bus`] is the host's
//! side, which the test kit has, too.
//!
//! # Safety
//! A table comes from the host, which keeps it and its `ctx`; a receiver's box lives until the
//! attachment is dropped, which waits for calls under way.
#![allow(unsafe_code)]

use core::ffi::c_void;
use std::sync::{PoisonError, RwLock};

use abi_stable::std_types::RStr;

use crate::abi::channels::{CHANNELS_EXT, ChannelsTable, ReceiveFn, marks};
use crate::abi::op::Buf;
use crate::env::Env;

/// What kind of payload a message has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PayloadKind {
    /// Its publisher did not say.
    Unknown,
    /// Text.
    Text,
    /// Bytes.
    Binary,
}

/// A message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelMessage<'a> {
    /// The channel's name.
    pub channel: &'a [u8],
    /// What was published.
    pub payload: &'a [u8],
    /// What kind of payload.
    pub kind: PayloadKind,
    /// For listeners of shards' channels, which are names of their own.
    pub shard: bool,
}

impl<'a> ChannelMessage<'a> {
    fn marks(&self) -> u32 {
        let kind = match self.kind {
            PayloadKind::Unknown => 0,
            PayloadKind::Text => marks::TEXT,
            PayloadKind::Binary => marks::BINARY,
        };
        kind | if self.shard { marks::SHARD } else { 0 }
    }

    fn of(channel: &'a [u8], payload: &'a [u8], bits: u32) -> Self {
        let kind = match bits & (marks::TEXT | marks::BINARY) {
            marks::TEXT => PayloadKind::Text,
            marks::BINARY => PayloadKind::Binary,
            _ => PayloadKind::Unknown,
        };
        Self { channel, payload, kind, shard: bits & marks::SHARD != 0 }
    }
}

type Receiver = dyn Fn(ChannelMessage<'_>) -> usize + Send + Sync;

/// A protocol's place among those that hear of messages; dropped, it hears of none.
pub struct Channels {
    table: ChannelsTable,
    id: u64,
    /// Where `receive` finds its closure.
    receiver: *const Box<Receiver>,
}

// SAFETY: the table's functions may be called from any thread, and the receiver is Send and Sync.
unsafe impl Send for Channels {}
// SAFETY: as above.
unsafe impl Sync for Channels {}

impl std::fmt::Debug for Channels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channels").field("id", &self.id).finish_non_exhaustive()
    }
}

unsafe extern "C" fn receive(arg: *const c_void, channel: Buf, payload: Buf, bits: u32) -> u64 {
    // SAFETY: `arg` is the box of `Env::channels`, alive until `detach` has returned.
    let receiver = unsafe { &*arg.cast::<Box<Receiver>>() };
    // SAFETY: valid for this call.
    let (channel, payload) = unsafe { (channel.bytes(), payload.bytes()) };
    let message = ChannelMessage::of(channel, payload, bits);
    crate::thunk::guard(|| receiver(message)).map_or(0, |reached| reached as u64)
}

impl Env {
    /// Takes part in the messages of all protocols over this instance's store: `receive` gets what
    /// the others publish, from any thread, and says how many of its listeners got it. It must not
    /// publish. `None`: this host carries no messages.
    #[must_use]
    pub fn channels(
        &self,
        receive_one: impl Fn(ChannelMessage<'_>) -> usize + Send + Sync + 'static,
    ) -> Option<Channels> {
        let table = self.extension(CHANNELS_EXT).cast::<ChannelsTable>();
        if table.is_null() {
            return None;
        }
        // SAFETY: by its name, the host's table; its size comes first.
        if unsafe { (*table).size_bytes } < size_of::<ChannelsTable>() as u64 {
            return None;
        }
        // SAFETY: as above, and it is long enough.
        let table = unsafe { *table };
        let receiver: Box<Box<Receiver>> = Box::new(Box::new(receive_one));
        let receiver: *const Box<Receiver> = Box::into_raw(receiver);
        // SAFETY: any thread; the box lives until `drop`.
        let id = unsafe { (table.attach)(table.ctx, ReceiveFn(receive), receiver.cast()) };
        Some(Channels { table, id, receiver })
    }
}

impl Channels {
    /// Gives a message to all other protocols over the store; how many listeners they reached.
    pub fn publish(&self, message: ChannelMessage<'_>) -> u64 {
        let (channel, payload) = (Buf::of(message.channel), Buf::of(message.payload));
        // SAFETY: any thread; the bytes outlive the call.
        unsafe { (self.table.publish)(self.table.ctx, self.id, channel, payload, message.marks()) }
    }
}

impl Drop for Channels {
    fn drop(&mut self) {
        // SAFETY: attached by `Env::channels`, once.
        unsafe { (self.table.detach)(self.table.ctx, self.id) }
        // SAFETY: made by `Box::into_raw`, and no call uses it any more.
        drop(unsafe { Box::from_raw(self.receiver.cast_mut()) });
    }
}

/// The host's side: who is attached over one store.
#[derive(Debug, Default)]
pub struct Bus {
    attached: RwLock<Attached>,
}

#[derive(Debug, Default)]
struct Attached {
    latest: u64,
    all: Vec<Attachment>,
}

#[derive(Debug)]
struct Attachment {
    id: u64,
    receive: ReceiveFn,
    arg: *const c_void,
}

// SAFETY: `arg` only goes to `receive`, which may be called from any thread.
unsafe impl Send for Attachment {}
// SAFETY: as above.
unsafe impl Sync for Attachment {}

impl Bus {
    /// The table that plugins get. The bus has to live as long as they may call it.
    pub fn table(&'static self) -> ChannelsTable {
        ChannelsTable {
            size_bytes: size_of::<ChannelsTable>() as u64,
            ctx: (&raw const *self).cast(),
            attach,
            detach,
            publish,
        }
    }
}

/// # Safety
/// `ctx` is a bus that lives for ever.
unsafe fn bus(ctx: *const c_void) -> &'static Bus {
    // SAFETY: the caller's promise.
    unsafe { &*ctx.cast::<Bus>() }
}

unsafe extern "C" fn attach(ctx: *const c_void, receive: ReceiveFn, arg: *const c_void) -> u64 {
    // SAFETY: made by `Bus::table`.
    let bus = unsafe { bus(ctx) };
    let mut attached = bus.attached.write().unwrap_or_else(PoisonError::into_inner);
    attached.latest += 1;
    let id = attached.latest;
    attached.all.push(Attachment { id, receive, arg });
    id
}

unsafe extern "C" fn detach(ctx: *const c_void, id: u64) {
    // SAFETY: made by `Bus::table`.
    let bus = unsafe { bus(ctx) };
    // Whoever publishes holds the lock for reading: nothing is under way behind this line.
    let mut attached = bus.attached.write().unwrap_or_else(PoisonError::into_inner);
    attached.all.retain(|one| one.id != id);
}

unsafe extern "C" fn publish(
    ctx: *const c_void,
    from: u64,
    channel: Buf,
    payload: Buf,
    bits: u32,
) -> u64 {
    // SAFETY: made by `Bus::table`.
    let bus = unsafe { bus(ctx) };
    let attached = bus.attached.read().unwrap_or_else(PoisonError::into_inner);
    let others = attached.all.iter().filter(|one| one.id != from);
    others
        .map(|one| {
            // SAFETY: attached, and the bytes are valid for this call.
            unsafe { (one.receive.0)(one.arg, channel, payload, bits) }
        })
        .sum()
}

/// Whether a name asks for the table of channels.
#[must_use]
pub fn is_asked_for(extension: RStr<'_>) -> bool {
    extension.as_str() == CHANNELS_EXT
}
