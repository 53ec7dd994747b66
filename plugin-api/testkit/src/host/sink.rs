//! Output memory that starts small and moves whenever it grows.
//!
//! # Safety
//! Sink and memory are boxed apart, so that `grow` can change the memory while
//! the plugin's borrow of the sink is suspended, not ended.
#![allow(unsafe_code)]

use crucible_plugin_api::Status;
use crucible_plugin_api::abi::turn::{GrowFn, Sink, Splice};

/// Most bytes of one turn's output: far above any test.
const BYTES_MAX: usize = 1 << 30;

const NO_SPLICE: Splice = Splice { at: 0, ptr: std::ptr::null(), len: 0, guard: 0 };

/// A sink and the memory behind it.
pub(super) struct Lent {
    sink: *mut Sink,
    memory: *mut Memory,
}

struct Memory {
    bytes: Vec<u8>,
    splices: Vec<Splice>,
}

impl Lent {
    pub(super) fn new(bytes: usize, splices: usize, splice_len_min: u32, budget: u64) -> Self {
        let memory = Box::into_raw(Box::new(Memory {
            bytes: vec![0; bytes],
            splices: vec![NO_SPLICE; splices],
        }));
        let mut sink = Sink {
            buf: std::ptr::null_mut(),
            len: 0,
            cap: 0,
            splices: std::ptr::null_mut(),
            n_splices: 0,
            cap_splices: 0,
            splice_len_min,
            _rsv: 0,
            budget_bytes: budget,
            host: memory.cast(),
            grow: GrowFn(grow),
        };
        // SAFETY: made a few lines above.
        unsafe { (*memory).describe(&mut sink) };
        Self { sink: Box::into_raw(Box::new(sink)), memory }
    }

    /// The address that a turn is given.
    pub(super) fn lend(&self) -> *mut Sink {
        self.sink
    }

    /// What was written: bytes, and values spliced into them.
    pub(super) fn written(&self) -> (&[u8], &[Splice]) {
        // SAFETY: both boxes live as long as `self`; no turn is under way.
        let (sink, memory) = unsafe { (&*self.sink, &*self.memory) };
        (&memory.bytes[..sink.len], &memory.splices[..sink.n_splices as usize])
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // SAFETY: both came from `Box::into_raw` in `new`.
        unsafe {
            drop(Box::from_raw(self.sink));
            drop(Box::from_raw(self.memory));
        }
    }
}

impl Memory {
    fn describe(&mut self, sink: &mut Sink) {
        (sink.buf, sink.cap) = (self.bytes.as_mut_ptr(), self.bytes.len());
        (sink.splices, sink.cap_splices) = (self.splices.as_mut_ptr(), self.splices.len() as u32);
    }
}

unsafe extern "C" fn grow(sink: *mut Sink, bytes: usize, splices: u32) -> Status {
    // SAFETY: the plugin passes the sink it was lent, and does not touch it
    // during the call; `host` is the memory that belongs to it.
    let (sink, memory) = unsafe { (&mut *sink, &mut *(*sink).host.cast::<Memory>()) };
    let Some(need) = sink.len.checked_add(bytes).filter(|need| *need <= BYTES_MAX) else {
        return Status::NO_MEMORY;
    };
    if need > memory.bytes.len() {
        // Exactly what is asked for while small, so that growing is exercised.
        let mut moved = vec![0; if need < 4096 { need } else { need + need / 2 }];
        moved[..sink.len].copy_from_slice(&memory.bytes[..sink.len]);
        memory.bytes.fill(0xdd);
        memory.bytes = moved;
    }
    let (n, need) = (sink.n_splices as usize, (sink.n_splices + splices) as usize);
    if need > memory.splices.len() {
        let mut moved = vec![NO_SPLICE; need];
        moved[..n].copy_from_slice(&memory.splices[..n]);
        memory.splices = moved;
    }
    memory.describe(sink);
    Status::OK
}
