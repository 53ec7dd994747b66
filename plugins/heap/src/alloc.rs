//! Memory for items, tables and queues: an arena of jemalloc that belongs to one
//! store, with a thread cache for each worker, and before it a [`Shelf`].
//!
//! Every block is charged by its size class, which is what the allocator takes
//! for it. A block is freed with the size it was asked for. Under Miri, and with
//! the feature `system-alloc`, blocks come from the system, so that tools see
//! each of them.
//!
//! # Safety
//! `free` gets a block of the same arena, once, with the size asked for. Thread
//! caches are used by one worker at a time.
#![allow(unsafe_code)]

use std::ptr::NonNull;

/// Alignment of every block, bytes: an address without its last four bits names it.
#[cfg_attr(not(any(miri, feature = "system-alloc")), allow(dead_code))]
pub(crate) const BLOCK_ALIGN: usize = 16;
/// Alignment of tables, bytes.
pub(crate) const LINE: usize = 64;

/// Longest block whose class follows from its length alone, bytes; above it pages
/// decide.
const SMALL_MAX: usize = 8 << 10;

/// What a block of `len` bytes takes: the allocator's size class.
#[inline]
pub(crate) fn class_bytes(len: usize) -> usize {
    if len <= 128 {
        return (len.max(1) + 15) & !15;
    }
    if len > SMALL_MAX {
        return large_class_bytes(len);
    }
    // Four classes for each doubling.
    let log = usize::BITS - 1 - (len - 1).leading_zeros();
    let step = 1 << (log - 2);
    (len + step - 1) & !(step - 1)
}

/// What the system's allocator takes for `len` bytes: structures lie there.
pub(crate) fn system_class_bytes(len: usize) -> usize {
    if len >= MMAP_MIN { (len + 16 + 4095) & !4095 } else { ((len + 8 + 15) & !15).max(32) }
}

/// From here on the system's allocator takes whole pages, bytes.
const MMAP_MIN: usize = 128 << 10;

/// How full the slab of a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slab {
    /// Free places of the slab; 0 for a block that is no part of a slab.
    pub(crate) free: usize,
    /// Places of the slab.
    pub(crate) places: usize,
}

#[cfg(not(any(miri, feature = "system-alloc")))]
use jemalloc::large_class_bytes;
#[cfg(not(any(miri, feature = "system-alloc")))]
pub(crate) use jemalloc::{Arena, Cache};
#[cfg(any(miri, feature = "system-alloc"))]
use system::large_class_bytes;
#[cfg(any(miri, feature = "system-alloc"))]
pub(crate) use system::{Arena, Cache};

#[cfg(not(any(miri, feature = "system-alloc")))]
mod jemalloc {
    use super::{LINE, NonNull, Slab};
    use crate::shelf::{Kept, Shelf};
    use std::cell::RefCell;
    use std::ffi::{CString, c_int, c_void};
    use std::ptr;
    use tikv_jemalloc_sys as je;

    /// How long freed pages stay before they go back to the system, in milliseconds.
    const DECAY_MS: isize = 200;

    /// What a block above [`super::SMALL_MAX`] takes.
    pub(crate) fn large_class_bytes(len: usize) -> usize {
        // SAFETY: a size above zero without flags.
        unsafe { je::nallocx(len, 0) }
    }

    /// Reads or writes a control by name; `None` when the library knows none such.
    fn control<T: Copy + Default>(name: &str, new: Option<T>) -> Option<T> {
        let name = CString::new(name).expect("names hold no zero");
        let (mut old, mut len) = (T::default(), size_of::<T>());
        let mut new = new;
        let (new_ptr, new_len) = match &mut new {
            Some(value) => (ptr::from_mut(value).cast::<c_void>(), size_of::<T>()),
            None => (ptr::null_mut(), 0),
        };
        // SAFETY: the name ends with a zero; old and new are of the lengths given
        // and outlive the call.
        let failed = unsafe {
            je::mallctl(name.as_ptr(), (&raw mut old).cast(), &raw mut len, new_ptr, new_len)
        };
        (failed == 0 && len == size_of::<T>()).then_some(old)
    }

    /// Runs or writes a control that answers nothing.
    fn command<T: Copy>(name: &str, value: Option<T>) -> bool {
        let name = CString::new(name).expect("names hold no zero");
        let mut value = value;
        let (new, len) = match &mut value {
            Some(value) => (ptr::from_mut(value).cast::<c_void>(), size_of::<T>()),
            None => (ptr::null_mut(), 0),
        };
        // SAFETY: as above; nothing is answered.
        unsafe { je::mallctl(name.as_ptr(), ptr::null_mut(), ptr::null_mut(), new, len) == 0 }
    }

    /// One store's arena.
    #[derive(Debug)]
    pub(crate) struct Arena {
        index: u32,
    }

    impl Arena {
        /// A new arena; `None` when there can be no more.
        pub(crate) fn new() -> Option<Self> {
            let index = control::<u32>("arenas.create", None)?;
            let arena = Self { index };
            arena.set_decay_ms(DECAY_MS);
            let _lazy_pages_stay = command(&arena.name("muzzy_decay_ms"), Some(0isize));
            Some(arena)
        }

        fn name(&self, what: &str) -> String {
            format!("arena.{}.{what}", self.index)
        }

        fn set_decay_ms(&self, ms: isize) {
            let _stays_as_it_was = command(&self.name("dirty_decay_ms"), Some(ms));
        }

        /// Gives pages back whose time is over.
        pub(crate) fn decay(&self) {
            let _only_a_hint = command::<u8>(&self.name("decay"), None);
        }

        /// Gives all free pages back.
        pub(crate) fn purge(&self) {
            let _only_a_hint = command::<u8>(&self.name("purge"), None);
        }

        /// Bytes that the arena holds of the system's memory, as of now.
        pub(crate) fn resident_bytes(&self) -> u64 {
            let _refreshed = control::<u64>("epoch", Some(1));
            let name = format!("stats.arenas.{}.resident", self.index);
            control::<usize>(&name, None).unwrap_or(0) as u64
        }

        /// Bytes of blocks that are in use or kept in workers' caches.
        pub(crate) fn allocated_bytes(&self) -> u64 {
            let _refreshed = control::<u64>("epoch", Some(1));
            let of = |kind: &str| {
                let name = format!("stats.arenas.{}.{kind}.allocated", self.index);
                control::<usize>(&name, None).unwrap_or(0) as u64
            };
            of("small") + of("large")
        }

        /// A worker's way into the arena, with at most so many bytes on its shelf.
        pub(crate) fn cache(&self, shelf_bytes_max: usize) -> Cache {
            let arena = je::MALLOCX_ARENA(self.index as usize);
            match control::<u32>("tcache.create", None) {
                Some(tcache) => Cache {
                    shelf: RefCell::new(Shelf::new(shelf_bytes_max)),
                    tcache: Some(tcache),
                    alloc_flags: arena | je::MALLOCX_TCACHE(tcache as usize),
                    free_flags: je::MALLOCX_TCACHE(tcache as usize),
                },
                None => self.no_cache(),
            }
        }

        /// A way into the arena that keeps nothing.
        pub(crate) fn no_cache(&self) -> Cache {
            Cache {
                shelf: RefCell::new(Shelf::new(0)),
                tcache: None,
                alloc_flags: je::MALLOCX_ARENA(self.index as usize) | je::MALLOCX_TCACHE_NONE,
                free_flags: je::MALLOCX_TCACHE_NONE,
            }
        }

        /// How full the slabs of these blocks are, in their order.
        pub(crate) fn slabs(
            &self,
            blocks: impl Iterator<Item = NonNull<u8>>,
            slabs: &mut Vec<Slab>,
        ) -> bool {
            const NAME: &std::ffi::CStr = c"experimental.utilization.batch_query";
            let blocks: Vec<NonNull<u8>> = blocks.collect();
            let mut answers = vec![[0usize; 3]; blocks.len()];
            let mut len = size_of_val(answers.as_slice());
            // SAFETY: the library reads an array of pointers to its own blocks and
            // writes three words for each; both outlive the call.
            let failed = unsafe {
                je::mallctl(
                    NAME.as_ptr(),
                    answers.as_mut_ptr().cast(),
                    &raw mut len,
                    blocks.as_ptr().cast_mut().cast(),
                    size_of_val(blocks.as_slice()),
                )
            };
            slabs.clear();
            slabs.extend(
                answers
                    .iter()
                    .map(|[free, places, _bytes]| Slab { free: *free, places: (*places).max(1) }),
            );
            failed == 0
        }
    }

    impl Drop for Arena {
        fn drop(&mut self) {
            let _kept_if_in_use = command::<u8>(&self.name("destroy"), None);
        }
    }

    /// One worker's way to allocate.
    #[derive(Debug)]
    pub(crate) struct Cache {
        shelf: RefCell<Shelf>,
        tcache: Option<u32>,
        alloc_flags: c_int,
        free_flags: c_int,
    }

    impl Cache {
        /// A block of `len` bytes, aligned to [`super::BLOCK_ALIGN`].
        #[inline]
        pub(crate) fn alloc(&self, len: usize) -> Option<NonNull<u8>> {
            if let Some(block) = self.shelf.borrow_mut().take(len) {
                return Some(block);
            }
            // SAFETY: at least 16 bytes; the flags name a live arena and our cache.
            NonNull::new(unsafe { je::mallocx(len.max(16), self.alloc_flags) }.cast())
        }

        /// Asks for the lines of the block that an item of `len` bytes will get, when
        /// so many others come before it.
        #[inline]
        pub(crate) fn prefetch(&self, len: usize, others: usize) {
            if let Some(block) = self.shelf.borrow().peek(len, others) {
                cache_core::prefetch::line(block.as_ptr());
                cache_core::prefetch::line(block.as_ptr().wrapping_add(64));
            }
        }

        /// Zeroed bytes, aligned to a line.
        pub(crate) fn alloc_lines(&self, len: usize) -> Option<NonNull<u8>> {
            let flags = self.alloc_flags | je::MALLOCX_ZERO | je::MALLOCX_ALIGN(LINE);
            // SAFETY: at least a line; the flags name a live arena and our cache.
            NonNull::new(unsafe { je::mallocx(len.max(LINE), flags) }.cast())
        }

        /// Takes a block of [`Cache::alloc`] back.
        ///
        /// # Safety
        /// The block came from this arena with this `len` and is used no more.
        #[inline]
        pub(crate) unsafe fn free(&self, block: NonNull<u8>, len: usize) {
            let mut shelf = self.shelf.borrow_mut();
            match shelf.keep(block, len) {
                Kept::Here => return,
                Kept::Full => self.clear(&mut shelf),
                Kept::Never => {}
            }
            // SAFETY: the caller's promise.
            unsafe { self.give_back(block, len) };
        }

        /// # Safety
        /// As for [`Cache::free`].
        unsafe fn give_back(&self, block: NonNull<u8>, len: usize) {
            // SAFETY: the caller's promise.
            unsafe { je::sdallocx(block.as_ptr().cast(), len.max(16), self.free_flags) }
        }

        fn clear(&self, shelf: &mut Shelf) {
            // SAFETY: each was freed by its owner, with a length of this class.
            shelf.drain(|block, len| unsafe { self.give_back(block, len) });
        }

        /// Takes a block of [`Cache::alloc_lines`] back.
        ///
        /// # Safety
        /// As for [`Cache::free`].
        pub(crate) unsafe fn free_lines(&self, block: NonNull<u8>, len: usize) {
            let flags = self.free_flags | je::MALLOCX_ALIGN(LINE);
            // SAFETY: the caller's promise.
            unsafe { je::sdallocx(block.as_ptr().cast(), len.max(LINE), flags) }
        }
    }

    impl Cache {
        /// Gives what it keeps back to the arena.
        pub(crate) fn flush(&self) {
            self.clear(&mut self.shelf.borrow_mut());
            if let Some(tcache) = self.tcache {
                let _only_kept = command("tcache.flush", Some(tcache));
            }
        }
    }

    impl Drop for Cache {
        fn drop(&mut self) {
            self.clear(&mut self.shelf.borrow_mut());
            if let Some(tcache) = self.tcache {
                let _flushed = command("tcache.destroy", Some(tcache));
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::super::class_bytes;

        #[test]
        fn the_charge_is_the_allocators_size_class() {
            for len in (1..5000).chain((5000..3_000_000).step_by(1013)).filter(|len| *len > 8) {
                // SAFETY: a size above zero without flags.
                let class = unsafe { super::je::nallocx(len, 0) };
                assert_eq!(class_bytes(len), class, "{len} bytes");
            }
        }

        #[test]
        fn an_arena_counts_what_is_in_use_and_how_full_a_slab_is() {
            let arena = super::Arena::new().expect("an arena");
            let cache = arena.no_cache();
            let blocks: Vec<_> = (0..1000).map(|_| cache.alloc(100).expect("memory")).collect();
            assert_eq!(arena.allocated_bytes(), 112_000);
            assert!(arena.resident_bytes() >= 112_000);
            let mut slabs = Vec::new();
            assert!(arena.slabs(blocks[..2].iter().copied(), &mut slabs));
            assert!(slabs[0].places > 1 && slabs[0].free < slabs[0].places, "{slabs:?}");
            for block in blocks {
                // SAFETY: ours, once, with its size.
                unsafe { cache.free(block, 100) };
            }
            assert_eq!(arena.allocated_bytes(), 0);
        }
    }
}

#[cfg(any(miri, feature = "system-alloc"))]
mod system {
    use super::{BLOCK_ALIGN, LINE, NonNull, Slab};
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// What a block above [`super::SMALL_MAX`] takes, about.
    pub(crate) fn large_class_bytes(len: usize) -> usize {
        (len + 4095) & !4095
    }

    fn layout(len: usize, align: usize) -> Layout {
        Layout::from_size_align(len.max(1), align).expect("a block is shorter than half the memory")
    }

    /// Stands for an arena: counts what is in use.
    #[derive(Debug, Default)]
    pub(crate) struct Arena {
        used: Arc<AtomicU64>,
    }

    impl Arena {
        pub(crate) fn new() -> Option<Self> {
            Some(Self::default())
        }
        pub(crate) fn decay(&self) {}
        pub(crate) fn purge(&self) {}
        pub(crate) fn resident_bytes(&self) -> u64 {
            self.allocated_bytes()
        }
        pub(crate) fn allocated_bytes(&self) -> u64 {
            self.used.load(Ordering::Relaxed)
        }
        pub(crate) fn cache(&self, _shelf_bytes_max: usize) -> Cache {
            self.no_cache()
        }
        pub(crate) fn no_cache(&self) -> Cache {
            Cache { used: Arc::clone(&self.used) }
        }
        pub(crate) fn slabs(
            &self,
            blocks: impl Iterator<Item = NonNull<u8>>,
            slabs: &mut Vec<Slab>,
        ) -> bool {
            slabs.clear();
            slabs.extend(blocks.map(|_| Slab { free: 0, places: 1 }));
            false
        }
    }

    /// One worker's way to allocate.
    #[derive(Debug)]
    pub(crate) struct Cache {
        used: Arc<AtomicU64>,
    }

    impl Cache {
        pub(crate) fn flush(&self) {}
        pub(crate) fn prefetch(&self, _len: usize, _others: usize) {}

        fn take(&self, len: usize, block: *mut u8) -> Option<NonNull<u8>> {
            self.used.fetch_add(len as u64, Ordering::Relaxed);
            NonNull::new(block)
        }

        pub(crate) fn alloc(&self, len: usize) -> Option<NonNull<u8>> {
            // SAFETY: the layout is not empty.
            self.take(len, unsafe { System.alloc(layout(len, BLOCK_ALIGN)) })
        }

        pub(crate) fn alloc_lines(&self, len: usize) -> Option<NonNull<u8>> {
            // SAFETY: the layout is not empty.
            self.take(len, unsafe { System.alloc_zeroed(layout(len, LINE)) })
        }

        /// # Safety
        /// The block came from `alloc` with this `len` and is used no more.
        pub(crate) unsafe fn free(&self, block: NonNull<u8>, len: usize) {
            self.used.fetch_sub(len as u64, Ordering::Relaxed);
            // SAFETY: the caller's promise.
            unsafe { System.dealloc(block.as_ptr(), layout(len, BLOCK_ALIGN)) }
        }

        /// # Safety
        /// The block came from `alloc_lines` with this `len` and is used no more.
        pub(crate) unsafe fn free_lines(&self, block: NonNull<u8>, len: usize) {
            self.used.fetch_sub(len as u64, Ordering::Relaxed);
            // SAFETY: the caller's promise.
            unsafe { System.dealloc(block.as_ptr(), layout(len, LINE)) }
        }
    }
}
