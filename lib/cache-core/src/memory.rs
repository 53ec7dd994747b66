//! Large memory: mapped once, on huge pages and bound to a NUMA node when asked.
//!
//! A [`Region`] is zeroed, page-aligned memory that lives until it is dropped.
//! What was asked and not granted is said in [`Region::notes`], never hidden.
//! The segment pool, the hashtable and the ghosts take their memory here.
//!
//! # Safety
//! The file hands out one raw pointer to memory that it owns; who writes where
//! is decided by the modules above (segment states, slot words).
#![allow(unsafe_code)]

use crate::error::Error;
use core::ptr::NonNull;
use std::fs::File;

/// Page size to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HugePages {
    /// 4 KiB pages only.
    None,
    /// Transparent 2 MiB pages where the kernel grants them.
    #[default]
    Transparent,
    /// Reserved 2 MiB pages, else transparent ones.
    Size2M,
    /// Reserved 1 GiB pages, else 2 MiB ones, else transparent ones.
    Size1G,
}

/// How to map memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct MapOptions {
    /// Page size wanted.
    pub huge_pages: HugePages,
    /// NUMA node to bind to, if any.
    pub numa_node: Option<u32>,
    /// Touch every page now instead of at first use.
    pub prefault: bool,
}

const HUGE_2M: usize = 2 << 20;

/// Zeroed, mapped memory.
#[derive(Debug)]
pub struct Region {
    base: NonNull<u8>,
    len_bytes: usize,
    map_base: NonNull<u8>,
    map_len_bytes: usize,
    /// Reserved huge pages cannot be given back in parts.
    reserved_pages: bool,
    notes: Vec<String>,
}

// SAFETY: a Region is plain memory without thread affinity; access is governed
// by its users.
unsafe impl Send for Region {}
// SAFETY: as above; the Region itself has no interior state that methods change.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `len_bytes` (rounded up to whole pages) of zeroed memory.
    ///
    /// # Errors
    /// When the system has no such mapping to give.
    pub fn map(what: &'static str, len_bytes: usize, options: MapOptions) -> Result<Self, Error> {
        let len_bytes = len_bytes.max(1);
        let mut notes = Vec::new();
        let mut region = None;
        for (wanted, name, page, flag) in [
            (options.huge_pages == HugePages::Size1G, "1 GiB", 1usize << 30, 30),
            (
                matches!(options.huge_pages, HugePages::Size1G | HugePages::Size2M),
                "2 MiB",
                HUGE_2M,
                21,
            ),
        ] {
            if !wanted || region.is_some() || len_bytes < page {
                continue;
            }
            let rounded = len_bytes.next_multiple_of(page);
            match map_raw(rounded, libc::MAP_HUGETLB | (flag << libc::MAP_HUGE_SHIFT)) {
                Ok(base) => {
                    region = Some(Region {
                        base,
                        len_bytes,
                        map_base: base,
                        map_len_bytes: rounded,
                        reserved_pages: true,
                        notes: Vec::new(),
                    });
                }
                Err(cause) => notes.push(format!("{what}: no reserved {name} pages ({cause})")),
            }
        }
        let transparent = options.huge_pages != HugePages::None && len_bytes >= HUGE_2M;
        let mut region = match region {
            Some(region) => region,
            None => {
                let slack = if transparent { HUGE_2M } else { 0 };
                let map_len_bytes = len_bytes.next_multiple_of(4096) + slack;
                let map_base = map_raw(map_len_bytes, libc::MAP_NORESERVE).map_err(|cause| {
                    Error::Map { what, len_bytes: map_len_bytes, cause: cause.to_string() }
                })?;
                let skip = if transparent { map_base.align_offset(HUGE_2M) } else { 0 };
                // SAFETY: skip < HUGE_2M == slack, so base + len stays inside the mapping.
                let base = unsafe { map_base.add(skip) };
                Region {
                    base,
                    len_bytes,
                    map_base,
                    map_len_bytes,
                    reserved_pages: false,
                    notes: Vec::new(),
                }
            }
        };
        if transparent
            && !region.reserved_pages
            // Whole huge pages only: the last, partial one would be resident in full.
            && let Err(cause) = region.advise(0, len_bytes / HUGE_2M * HUGE_2M, libc::MADV_HUGEPAGE)
        {
            notes.push(format!("{what}: no transparent 2 MiB pages ({cause})"));
        }
        if let Some(node) = options.numa_node
            && let Err(cause) = region.bind(node)
        {
            notes.push(format!("{what}: not bound to NUMA node {node} ({cause})"));
        }
        if options.prefault {
            region.touch();
        }
        region.notes = notes;
        Ok(region)
    }

    /// Maps `len_bytes` of a file from `offset` on, shared with it. The file is
    /// that long and stays so.
    pub(crate) fn map_file(
        what: &'static str,
        file: &File,
        offset: usize,
        len_bytes: usize,
        options: MapOptions,
    ) -> Result<Self, Error> {
        let base = map_shared(file, offset, len_bytes).map_err(|cause| Error::Map {
            what,
            len_bytes,
            cause: cause.to_string(),
        })?;
        let mut region = Region {
            base,
            len_bytes,
            map_base: base,
            map_len_bytes: len_bytes,
            // The file keeps its blocks, so that no write finds the medium full.
            reserved_pages: true,
            notes: Vec::new(),
        };
        if matches!(options.huge_pages, HugePages::Size2M | HugePages::Size1G) {
            region.notes.push(format!("{what}: a file takes no reserved huge pages"));
        }
        if options.huge_pages != HugePages::None && len_bytes >= HUGE_2M {
            // Whether a file system takes the advice is the system's choice.
            let _ = region.advise(0, len_bytes / HUGE_2M * HUGE_2M, libc::MADV_HUGEPAGE);
        }
        if let Some(node) = options.numa_node
            && let Err(cause) = region.bind(node)
        {
            region.notes.push(format!("{what}: not bound to NUMA node {node} ({cause})"));
        }
        if options.prefault {
            const MADV_POPULATE_WRITE: i32 = 23;
            if let Err(cause) = region.advise(0, len_bytes, MADV_POPULATE_WRITE) {
                region.notes.push(format!("{what}: not touched at the start ({cause})"));
            }
        }
        Ok(region)
    }

    /// Start of the memory.
    #[inline]
    pub fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Usable length in bytes.
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// What was asked for and not granted, one sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Gives the pages of a range back to the system; they read as zeroes
    /// afterwards. The caller owns the range: nobody reads or writes it.
    pub fn discard(&self, offset: usize, len_bytes: usize) {
        if !self.reserved_pages {
            // A refusal only means that the pages stay resident.
            let _ = self.advise(offset, len_bytes, libc::MADV_DONTNEED);
        }
    }

    #[cfg(not(miri))]
    fn advise(&self, offset: usize, len_bytes: usize, advice: i32) -> Result<(), std::io::Error> {
        debug_assert!(offset + len_bytes <= self.len_bytes.next_multiple_of(4096));
        // SAFETY: the range lies inside this mapping, which lives as long as self.
        let rc = unsafe { libc::madvise(self.base.as_ptr().add(offset).cast(), len_bytes, advice) };
        if rc == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    }

    #[cfg(miri)]
    fn advise(&self, offset: usize, len_bytes: usize, advice: i32) -> Result<(), std::io::Error> {
        if advice == libc::MADV_DONTNEED {
            // SAFETY: the caller owns the range, which lies inside the mapping.
            unsafe { self.base.as_ptr().add(offset).write_bytes(0, len_bytes) };
        }
        Ok(())
    }

    #[cfg(not(miri))]
    fn bind(&self, node: u32) -> Result<(), std::io::Error> {
        const MPOL_BIND: libc::c_ulong = 2;
        if node >= 1024 {
            return Err(std::io::Error::other("node number above 1023"));
        }
        let mut mask = [0u64; 16];
        mask[node as usize / 64] = 1 << (node % 64);
        // SAFETY: the range is our mapping and the mask outlives the call.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                self.map_base.as_ptr(),
                self.map_len_bytes,
                MPOL_BIND,
                mask.as_ptr(),
                1025usize,
                0,
            )
        };
        if rc == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    }

    #[cfg(miri)]
    fn bind(&self, _node: u32) -> Result<(), std::io::Error> {
        Ok(())
    }

    fn touch(&self) {
        for offset in (0..self.len_bytes).step_by(4096) {
            // SAFETY: offset is inside the mapping, which nobody shares yet.
            unsafe { self.base.as_ptr().add(offset).write_volatile(0) };
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        unmap_raw(self.map_base, self.map_len_bytes);
    }
}

#[cfg(not(miri))]
fn map_raw(len_bytes: usize, flags: i32) -> Result<NonNull<u8>, std::io::Error> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches
    // no existing memory.
    let p = unsafe {
        libc::mmap(
            core::ptr::null_mut(),
            len_bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags,
            -1,
            0,
        )
    };
    if p == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error());
    }
    NonNull::new(p.cast()).ok_or_else(|| std::io::Error::other("mapped at address zero"))
}

#[cfg(not(miri))]
fn map_shared(file: &File, offset: usize, len_bytes: usize) -> Result<NonNull<u8>, std::io::Error> {
    let offset = libc::off_t::try_from(offset).map_err(std::io::Error::other)?;
    // SAFETY: a mapping at an address of the kernel's choice touches no existing
    // memory; the file is the caller's alone (it holds its lock).
    let p = unsafe {
        libc::mmap(
            core::ptr::null_mut(),
            len_bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            std::os::fd::AsRawFd::as_raw_fd(file),
            offset,
        )
    };
    if p == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error());
    }
    NonNull::new(p.cast()).ok_or_else(|| std::io::Error::other("mapped at address zero"))
}

#[cfg(miri)]
fn map_shared(_: &File, _: usize, _: usize) -> Result<NonNull<u8>, std::io::Error> {
    Err(std::io::Error::other("no files under miri"))
}

/// Takes all blocks of a file of `len_bytes`, so that writes to its mapping
/// never find the medium full.
pub(crate) fn allocate(file: &File, len_bytes: u64) -> Result<(), std::io::Error> {
    let len = libc::off_t::try_from(len_bytes).map_err(std::io::Error::other)?;
    // SAFETY: the descriptor is open, and no memory is passed.
    match unsafe { libc::posix_fallocate(std::os::fd::AsRawFd::as_raw_fd(file), 0, len) } {
        0 => Ok(()),
        code => Err(std::io::Error::from_raw_os_error(code)),
    }
}

#[cfg(not(miri))]
fn unmap_raw(base: NonNull<u8>, len_bytes: usize) {
    // SAFETY: this is exactly the range that map_raw returned.
    unsafe { libc::munmap(base.as_ptr().cast(), len_bytes) };
}

#[cfg(miri)]
fn layout(len_bytes: usize) -> std::alloc::Layout {
    std::alloc::Layout::from_size_align(len_bytes, 4096).expect("a sane length")
}

#[cfg(miri)]
fn map_raw(len_bytes: usize, _flags: i32) -> Result<NonNull<u8>, std::io::Error> {
    // SAFETY: the layout has a size above zero.
    let p = unsafe { std::alloc::alloc_zeroed(layout(len_bytes)) };
    NonNull::new(p).ok_or_else(|| std::io::Error::other("out of memory"))
}

#[cfg(miri)]
fn unmap_raw(base: NonNull<u8>, len_bytes: usize) {
    // SAFETY: allocated by map_raw with the same layout.
    unsafe { std::alloc::dealloc(base.as_ptr(), layout(len_bytes)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_memory_is_zeroed_and_discarded_memory_is_zero_again() {
        let region = Region::map("test", 64 << 10, MapOptions::default()).unwrap();
        // SAFETY: the region is ours alone and 64 KiB long.
        unsafe {
            assert_eq!(region.base().add(5000).read(), 0);
            region.base().add(5000).write(7);
            region.discard(4096, 4096);
            assert_eq!(region.base().add(5000).read(), 0);
        }
    }

    #[test]
    #[cfg(not(miri))]
    fn unavailable_huge_pages_are_said_and_replaced() {
        let options =
            MapOptions { huge_pages: HugePages::Size1G, numa_node: Some(900), prefault: false };
        let region = Region::map("test", 1 << 30, options).unwrap();
        // Whatever the machine grants, nothing is refused silently.
        assert!(!region.notes().is_empty() || region.reserved_pages);
        assert!(region.notes().iter().any(|n| n.contains("NUMA")));
    }
}
