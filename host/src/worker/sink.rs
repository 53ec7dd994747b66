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

/// Room that a turn begins with.
const ROOM_BYTES: usize = 256;

/// What is lent to one turn.
pub(crate) struct Lent {
    pub(crate) sink: Sink,
    out: Option<OutBuf>,
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
            out: None,
            base: 0,
            splices: Vec::new(),
            most_bytes,
        }
    }

    /// Lends a connection's output.
    #[inline]
    pub(crate) fn lend(&mut self, mut out: OutBuf) {
        let bytes = out.as_mut_vec();
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
        self.out = Some(out);
    }

    /// Takes the output back with what was written; splices go to `splice`,
    /// which answers with the release id of each.
    #[inline]
    pub(crate) fn take(&mut self, mut splice: impl FnMut(u64) -> u64) -> Option<OutBuf> {
        let mut out = self.out.take()?;
        let (base, len) = (self.base, self.sink.len);
        debug_assert!(len <= self.sink.cap);
        // SAFETY: the plugin wrote `len` bytes from `base` on, within capacity.
        unsafe { out.as_mut_vec().set_len(base + len) };
        for i in 0..self.sink.n_splices as usize {
            // SAFETY: `n_splices` splices are initialised; their memory is held
            // by the guard until the release id comes back. A splice without a
            // guard belongs to the one before it, which leaves together with it.
            unsafe {
                let s = *self.sink.splices.add(i);
                let id = if s.guard == 0 { 0 } else { splice(s.guard) };
                out.push_ref_at(base + s.at as usize, s.ptr, s.len as usize, id);
            }
        }
        Some(out)
    }

    /// Takes the output back as it was; guards of splices go to `release`.
    pub(crate) fn take_unwritten(&mut self, mut release: impl FnMut(u64)) -> Option<OutBuf> {
        let out = self.out.take()?;
        for i in 0..self.sink.n_splices as usize {
            // SAFETY: `n_splices` splices are initialised.
            let guard = unsafe { (*self.sink.splices.add(i)).guard };
            if guard != 0 {
                release(guard);
            }
        }
        Some(out)
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
            let out = &mut (*lent).out;
            let Some(out) = out else { return Status::INTERNAL };
            let buffer = out.as_mut_vec();
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
