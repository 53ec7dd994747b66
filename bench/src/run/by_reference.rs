//! Large values leave from the pool itself, without a copy for each request.
//!
//! Always true: only bytes of the process-wide pool are lent to the kernel. Called by the worker.
//!
//! # Safety
//! [`Pool::shared`] is never freed and never written after it was made, so its bytes are readable and
//! unchanged for as long as any send may last, whatever becomes of the connection.
#![allow(unsafe_code)]

use kompio::OutBuf;

/// Values of at least this many bytes are sent by reference: below, copying costs the same as another
/// element of a vectored send.
pub(super) const BY_REFERENCE_LEN_BYTES_MIN: usize = 16 << 10;

/// Splices `pieces` of the shared pool in before inline byte `at`.
pub(super) fn splice(out: &mut OutBuf, at: usize, pieces: impl Iterator<Item = &'static [u8]>) {
    for piece in pieces {
        // SAFETY: `piece` is a slice of the static pool (the lifetime says so), so its `len` bytes stay
        // readable and unchanged for ever; the release that names id 0 needs no answer.
        unsafe { out.push_ref_at(at, piece.as_ptr(), piece.len(), 0) };
    }
}
