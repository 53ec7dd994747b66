//! Output memory of connections, lent to a plugin for one crossing.
//!
//! What must always be true: a sink lends the spare room of its connection's
//! output buffer; what the plugin wrote becomes output when the crossing is
//! over, or nothing does. Called by the worker, and by plugins through `grow`.
//!
//! # Safety
//! A sink's `host` leads to its [`Lent`], which stays in place (a boxed slice)
//! while the crossing runs. `grow` touches the buffer and the splices there, and
//! the sink through the plugin's own pointer, never both ways.
#![allow(unsafe_code)]

use core::ffi::c_void;

use crucible_plugin_api::Status;
use crucible_plugin_api::abi::turn::{GrowFn, Sink, Splice};
use kompio::OutBuf;

use super::channel::Outflow;

/// Room that a turn begins with.
const ROOM_BYTES: usize = 256;

/// The memory that a turn writes to.
enum Room {
    /// None is lent.
    Nothing,
    /// A connection's output itself.
    Wire(OutBuf),
    /// Plaintext that will be encrypted.
    Clear(Vec<u8>),
}

impl Room {
    #[inline]
    fn bytes(&mut self) -> Option<&mut Vec<u8>> {
        match self {
            Self::Nothing => None,
            Self::Wire(out) => Some(out.as_mut_vec()),
            Self::Clear(bytes) => Some(bytes),
        }
    }
}

/// What is lent to one turn.
pub(crate) struct Lent {
    pub(crate) sink: Sink,
    room: Room,
    /// Bytes that were in the buffer before.
    base: usize,
    splices: Vec<Splice>,
    /// The sink never holds more than this.
    most_bytes: usize,
}

impl Lent {
    pub(crate) fn new(splice_len_min: u32, budget_bytes: u64, most_bytes: usize) -> Self {
        Self {
            sink: Sink {
                buf: std::ptr::null_mut(),
                len: 0,
                cap: 0,
                splices: std::ptr::null_mut(),
                n_splices: 0,
                cap_splices: 0,
                splice_len_min,
                _rsv: 0,
                budget_bytes,
                host: std::ptr::null_mut(),
                grow: GrowFn(grow),
            },
            room: Room::Nothing,
            base: 0,
            splices: Vec::new(),
            most_bytes,
        }
    }

    /// Lends a connection's output.
    #[inline]
    pub(crate) fn lend(&mut self, out: OutBuf) {
        self.lend_room(Room::Wire(out));
    }

    /// Lends empty memory for plaintext.
    pub(crate) fn lend_clear(&mut self, bytes: Vec<u8>) {
        debug_assert!(bytes.is_empty());
        self.lend_room(Room::Clear(bytes));
    }

    #[inline(always)]
    fn lend_room(&mut self, mut room: Room) {
        let Some(bytes) = room.bytes() else { return };
        if bytes.capacity() - bytes.len() < ROOM_BYTES {
            bytes.reserve(ROOM_BYTES);
        }
        self.base = bytes.len();
        let spare = bytes.spare_capacity_mut();
        self.sink.buf = spare.as_mut_ptr().cast();
        self.sink.cap = spare.len();
        self.sink.len = 0;
        self.sink.splices = self.splices.as_mut_ptr();
        self.sink.n_splices = 0;
        self.sink.cap_splices = self.splices.capacity() as u32;
        self.sink.host = (&raw mut *self).cast::<c_void>();
        self.room = room;
    }

    /// What was lent, with the bytes that the plugin wrote.
    #[inline]
    fn written(&mut self) -> Room {
        let mut room = std::mem::replace(&mut self.room, Room::Nothing);
        let (base, len) = (self.base, self.sink.len);
        debug_assert!(len <= self.sink.cap);
        if let Some(bytes) = room.bytes() {
            // SAFETY: the plugin wrote `len` bytes from `base` on, within capacity.
            unsafe { bytes.set_len(base + len) };
        }
        room
    }

    /// The splices that the plugin wrote.
    #[inline]
    fn splices(&self) -> impl Iterator<Item = Splice> + use<> {
        let (splices, n) = (self.sink.splices.cast_const(), self.sink.n_splices as usize);
        // SAFETY: `n_splices` splices are initialised, and the list is not
        // written until memory is lent again.
        (0..n).map(move |i| unsafe { *splices.add(i) })
    }

    /// Takes the output back with what was written; splices go to `splice`,
    /// which answers with the release id of each.
    #[inline]
    pub(crate) fn take(&mut self, mut splice: impl FnMut(u64) -> u64) -> Option<OutBuf> {
        let Room::Wire(mut out) = self.written() else { return None };
        for s in self.splices() {
            // A splice without a guard belongs to the one before it, which
            // leaves together with it.
            let id = if s.guard == 0 { 0 } else { splice(s.guard) };
            // SAFETY: the splice's memory is held by the guard until the
            // release id comes back.
            unsafe { out.push_ref_at(self.base + s.at as usize, s.ptr, s.len as usize, id) };
        }
        Some(out)
    }

    /// Moves plaintext and splices to the end of `outflow`; returns memory that
    /// is free now.
    pub(crate) fn take_clear(
        &mut self,
        outflow: &mut Outflow,
        mut splice: impl FnMut(u64) -> u64,
    ) -> Vec<u8> {
        let Room::Clear(bytes) = self.written() else { return Vec::new() };
        let (free, base) = outflow.append(bytes);
        for s in self.splices() {
            let id = if s.guard == 0 { 0 } else { splice(s.guard) };
            outflow.push_ref(base + s.at as usize, s.ptr, s.len as usize, id);
        }
        free
    }

    /// Takes the memory back as it was; guards of splices go to `release`.
    pub(crate) fn take_unwritten(&mut self, mut release: impl FnMut(u64)) -> Option<OutBuf> {
        for s in self.splices().filter(|s| s.guard != 0) {
            release(s.guard);
        }
        match std::mem::replace(&mut self.room, Room::Nothing) {
            Room::Wire(out) => Some(out),
            _ => None,
        }
    }
}

unsafe extern "C" fn grow(sink: *mut Sink, bytes: usize, splices: u32) -> Status {
    // SAFETY: the plugin passes the sink it was lent; see the module.
    unsafe {
        let lent = (*sink).host.cast::<Lent>();
        let len = (*sink).len;
        if (*lent).most_bytes.saturating_sub(len) < bytes {
            return Status::NO_MEMORY;
        }
        let base = (*lent).base;
        if (*sink).cap - len < bytes {
            let room = &mut (*lent).room;
            let Some(buffer) = room.bytes() else { return Status::INTERNAL };
            buffer.set_len(base + len);
            buffer.reserve(bytes.max(len));
            buffer.truncate(base);
            let spare = buffer.spare_capacity_mut();
            (*sink).buf = spare.as_mut_ptr().cast();
            (*sink).cap = spare.len();
        }
        if (*sink).cap_splices - (*sink).n_splices < splices {
            let held = &mut (*lent).splices;
            held.set_len((*sink).n_splices as usize);
            held.reserve(splices as usize);
            held.clear();
            (*sink).splices = held.as_mut_ptr();
            (*sink).cap_splices = held.capacity() as u32;
        }
    }
    Status::OK
}
