//! Provided receive buffers: one block of memory that the kernel fills in ring order.
//!
//! What must always be true: a buffer is with the kernel or retired, never both; retired buffers
//! go back only at the end of a sweep, when nobody looks at them any more. Called by the loop
//! (take, recycle) and by the ring's set-up.
//!
//! With incremental consumption a buffer of 64 KiB serves many receives, each continuing where
//! the one before stopped; the last one comes without BUFFER_MORE and retires it. Otherwise each
//! receive takes and retires a whole buffer.
//!
//! # Safety
//! `Mapping` owns its pages for as long as it lives and frees them once. Slices handed out point
//! into pages that the kernel has finished writing and will not write before `recycle`.
#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// Anonymous pages, zeroed, page-aligned.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> io::Result<Mapping> {
        // SAFETY: a fresh anonymous private mapping touches no existing memory.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Mapping { start, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start..start + len` is the mapping made in `new`, unmapped only here.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// The buffers of one worker.
#[derive(Debug)]
pub(crate) struct Buffers {
    entries: Mapping,
    memory: Mapping,
    count: u16,
    buffer_len: usize,
    incremental: bool,
    tail: u16,
    /// Bytes already used of each buffer.
    used: Vec<u32>,
    /// Used up in this sweep.
    retired: Vec<u16>,
}

impl Buffers {
    /// `count` buffers (a power of two) of `buffer_len` bytes, all provided.
    pub(crate) fn new(count: u16, buffer_len: usize, incremental: bool) -> io::Result<Buffers> {
        debug_assert!(count.is_power_of_two());
        let mut buffers = Buffers {
            entries: Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?,
            memory: Mapping::new(usize::from(count) * buffer_len)?,
            count,
            buffer_len,
            incremental,
            tail: 0,
            used: vec![0; usize::from(count)],
            retired: Vec::with_capacity(usize::from(count)),
        };
        for id in 0..count {
            buffers.provide(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    pub(crate) fn entries_address(&self) -> u64 {
        self.entries.start.as_ptr() as u64
    }

    pub(crate) fn buffer_len(&self) -> usize {
        self.buffer_len
    }

    pub(crate) fn incremental(&self) -> bool {
        self.incremental
    }

    /// Buffers used up and not yet given back.
    #[cfg(test)]
    pub(crate) fn retired_count(&self) -> usize {
        self.retired.len()
    }

    /// Accounts for one completion that used buffer `id` and gives the bytes received. They stay
    /// unmoved until [`recycle`](Self::recycle).
    #[inline]
    pub(crate) fn take(&mut self, id: u16, result: i32, more: bool) -> (*const u8, usize) {
        debug_assert!(id < self.count);
        let len = result.max(0) as usize;
        let used = self.used[usize::from(id)] as usize;
        debug_assert!(used + len <= self.buffer_len);
        // SAFETY: `id < count` and `used <= buffer_len`, so the address is inside `memory`.
        let ptr =
            unsafe { self.memory.start.as_ptr().add(usize::from(id) * self.buffer_len + used) };
        if self.incremental {
            self.used[usize::from(id)] += len as u32;
            // A completion without bytes consumed nothing: the kernel keeps the buffer, whatever
            // the flag says.
            if len > 0 && !more {
                self.retired.push(id);
            }
        } else {
            self.retired.push(id);
        }
        (ptr, len)
    }

    /// Gives all retired buffers back to the kernel; the number of them.
    #[inline]
    pub(crate) fn recycle(&mut self) -> usize {
        let count = self.retired.len();
        if count > 0 {
            while let Some(id) = self.retired.pop() {
                self.provide(id);
            }
            self.publish();
        }
        count
    }

    fn provide(&mut self, id: u16) {
        self.used[usize::from(id)] = 0;
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: `place < count`, inside `entries`; the kernel reads the entry only after
        // `publish`. Fields are set one by one because the first entry's last two bytes are the
        // ring's tail.
        unsafe {
            let entry = &mut *self.entries.start.as_ptr().cast::<BufRingEntry>().add(place);
            entry
                .set_addr(self.memory.start.as_ptr().add(usize::from(id) * self.buffer_len) as u64);
            entry.set_len(self.buffer_len as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        // SAFETY: the tail is inside the first entry of `entries`, aligned to two bytes, and
        // shared with the kernel, which only reads it.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.start.as_ptr().cast());
            // Release: pairs with the kernel's acquire of the tail before it reads entries.
            (*tail.cast::<AtomicU16>()).store(self.tail, Ordering::Release);
        }
    }

    /// For the scripted kernel: the entry at ring position `at`, when it was provided.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn provided(&self, at: u16) -> Option<(u16, *mut u8, usize)> {
        if at == self.tail {
            return None;
        }
        let place = usize::from(at & (self.count - 1));
        // SAFETY: `place < count`, inside `entries`.
        let entry = unsafe { &*self.entries.start.as_ptr().cast::<BufRingEntry>().add(place) };
        Some((entry.bid(), entry.addr() as *mut u8, entry.len() as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incremental_receives_continue_in_the_same_buffer_until_it_is_used_up() {
        let mut buffers = Buffers::new(2, 64, true).unwrap();
        let (first, _) = buffers.take(1, 40, true);
        let (second, len) = buffers.take(1, 24, false);
        assert_eq!(len, 24);
        assert_eq!(second as usize - first as usize, 40);
        assert_eq!(buffers.recycle(), 1);
        assert_eq!(buffers.take(1, 1, true).0, first);
        assert_eq!(buffers.recycle(), 0);
    }

    #[test]
    fn an_incremental_completion_without_bytes_leaves_the_buffer_with_the_kernel() {
        let mut buffers = Buffers::new(2, 64, true).unwrap();
        buffers.take(0, 0, false);
        assert_eq!(buffers.recycle(), 0);
    }

    #[test]
    fn a_whole_buffer_is_retired_by_each_completion() {
        let mut buffers = Buffers::new(2, 64, false).unwrap();
        buffers.take(0, 1, false);
        buffers.take(1, 0, false);
        assert_eq!(buffers.recycle(), 2);
        assert_eq!(buffers.provided(2).map(|(_, _, len)| len), Some(64));
        assert!(buffers.provided(4).is_none());
    }
}
