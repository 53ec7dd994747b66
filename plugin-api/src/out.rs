//! Where replies go: memory lent by the host, written in place.
//!
//! Always true: bytes appear on the wire in the order of the calls; a value
//! that goes by reference is retained before it is spliced in, so it outlives
//! the crossing until the host releases it.
//!
//! # Safety
//! The sink is the host's and belongs to this turn alone. `len <= cap` holds
//! at all times; `grow` may move the buffer and updates the sink.
#![allow(unsafe_code)]

use crate::abi::status::Status;
use crate::abi::turn::{Sink, Splice};
use crate::item::Value;
use crate::protocol::Service;

/// A connection's output.
pub struct Out<'s> {
    sink: &'s mut Sink,
    service: &'s Service,
}

impl<'s> Out<'s> {
    pub(crate) fn new(sink: &'s mut Sink, service: &'s Service) -> Self {
        Self { sink, service }
    }

    /// Bytes gathered so far, without spliced values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sink.len
    }

    /// True when nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sink.len == 0 && self.sink.n_splices == 0
    }

    /// Makes sure that `n` more bytes fit.
    #[inline]
    pub fn reserve(&mut self, n: usize) {
        if self.sink.cap - self.sink.len < n {
            self.grow(n, 0);
        }
    }

    #[cold]
    fn grow(&mut self, bytes: usize, splices: u32) {
        let grow = self.sink.grow.0;
        // SAFETY: the host's function for the host's sink, on this thread.
        let status = unsafe { grow(self.sink, bytes, splices) };
        assert!(
            status == Status::OK
                && self.sink.cap - self.sink.len >= bytes
                && self.sink.cap_splices - self.sink.n_splices >= splices,
            "the host lends no more output memory"
        );
    }

    /// Appends bytes.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        // SAFETY: `reserve` made room for these bytes behind `len`; the sink's
        // buffer is not visible to anyone else during the turn.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.sink.buf.add(self.sink.len),
                bytes.len(),
            );
        }
        self.sink.len += bytes.len();
    }

    /// Lets `write` fill up to `n` bytes in place; it returns how many it did. The
    /// bytes it is given hold nothing that may be relied on: write, do not read.
    #[inline]
    pub fn fill(&mut self, n: usize, write: impl FnOnce(&mut [u8]) -> usize) {
        self.reserve(n);
        // SAFETY: room for `n` bytes behind `len` was made, the host's own heap
        // memory, lent to this turn alone; every bit pattern is a u8.
        let room = unsafe { std::slice::from_raw_parts_mut(self.sink.buf.add(self.sink.len), n) };
        let written = write(room);
        assert!(written <= n, "wrote past the room asked for");
        self.sink.len += written;
    }

    /// Appends `head_len` bytes of `head`, then `body`, then a line end: a short
    /// value in its frame, with one look at the room there is.
    ///
    /// # Panics
    /// When `head_len` is more than eight.
    #[inline]
    pub fn framed(&mut self, head: [u8; 8], head_len: usize, body: &[u8]) {
        assert!(head_len <= head.len(), "a head of at most eight bytes");
        self.reserve(head.len() + body.len() + 2);
        // SAFETY: room for all of it was made behind `len`; the sink's buffer is
        // not visible to anyone else during the turn. Bytes of `head` behind
        // `head_len` are overwritten by what follows or stay behind `len`.
        unsafe {
            let at = self.sink.buf.add(self.sink.len);
            at.cast::<[u8; 8]>().write_unaligned(head);
            let at = at.add(head_len);
            crate::few::copy(body.as_ptr(), at, body.len());
            at.add(body.len()).cast::<[u8; 2]>().write_unaligned(*b"\r\n");
        }
        self.sink.len += head_len + body.len() + 2;
    }

    /// Appends a number in decimal.
    #[inline]
    pub fn decimal(&mut self, n: i64) {
        if n < 0 {
            self.bytes(b"-");
        }
        self.decimal_unsigned(n.unsigned_abs());
    }

    /// Appends a number in decimal.
    #[inline]
    pub fn decimal_unsigned(&mut self, mut n: u64) {
        // Flags, lengths and counts are short more often than not.
        if n < 10 {
            return self.bytes(&[b'0' + n as u8]);
        }
        if n < 100 {
            return self.bytes(&[b'0' + (n / 10) as u8, b'0' + (n % 10) as u8]);
        }
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                break;
            }
        }
        self.bytes(&digits[at..]);
    }

    /// Appends a value: copied when short, by reference when that is cheaper.
    #[inline]
    pub fn value(&mut self, value: Value<'_>) {
        if value.len() < self.sink.splice_len_min as usize
            && let Some(bytes) = value.contiguous()
        {
            return self.bytes(bytes);
        }
        self.long_value(value);
    }

    fn long_value(&mut self, value: Value<'_>) {
        if value.len() >= self.sink.splice_len_min as usize
            && let Some(guard) = self.service.retain(value.view())
        {
            let parts = || value.parts().filter(|part| !part.is_empty());
            let n = u32::try_from(parts().count()).expect("a value has few parts");
            if self.sink.cap_splices - self.sink.n_splices < n {
                self.grow(0, n);
            }
            let mut guard_of_first = guard;
            for part in parts() {
                let splice = Splice {
                    at: self.sink.len as u64,
                    ptr: part.as_ptr(),
                    len: part.len() as u64,
                    guard: std::mem::take(&mut guard_of_first),
                };
                // SAFETY: room for `n` splices was made above.
                unsafe {
                    self.sink.splices.add(self.sink.n_splices as usize).write(splice);
                }
                self.sink.n_splices += 1;
            }
            return;
        }
        self.reserve(value.len());
        value.parts().for_each(|part| self.bytes(part));
    }

    /// Takes back everything written since [`Out::len`] was `len`, if no value
    /// was spliced in after that.
    ///
    /// # Panics
    /// When a spliced value would be lost.
    pub fn truncate(&mut self, len: usize) {
        assert!(len <= self.sink.len, "cannot take back what was not written");
        if let Some(last) = self.sink.n_splices.checked_sub(1) {
            // SAFETY: `n_splices` splices are initialised.
            let at = unsafe { (*self.sink.splices.add(last as usize)).at };
            assert!(at <= len as u64, "a spliced value would be lost");
        }
        self.sink.len = len;
    }

    /// Bytes waiting in this sink, splices included.
    #[must_use]
    pub(crate) fn waiting(sink: &Sink) -> u64 {
        let splices = if sink.n_splices == 0 {
            &[]
        } else {
            // SAFETY: `n_splices` splices are initialised.
            unsafe { std::slice::from_raw_parts(sink.splices, sink.n_splices as usize) }
        };
        sink.len as u64 + splices.iter().map(|s| s.len).sum::<u64>()
    }
}

impl std::io::Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Debug for Out<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Out").field("len", &self.sink.len).finish_non_exhaustive()
    }
}
