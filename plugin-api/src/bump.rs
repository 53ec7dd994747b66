//! Memory that lives for one crossing: unescaped arguments, built keys, and the
//! arguments of structure operations.
//!
//! Always true: what was handed out neither moves nor changes until `reset`,
//! which needs exclusive access.
//!
//! # Safety
//! A chunk is never grown past its capacity, shrunk or dropped while handed-out
//! slices live; only [`Bump::reset`] (`&mut self`) forgets them.
#![allow(unsafe_code)]

use std::cell::RefCell;

use crate::abi::structure::RawElement;
use crate::structure::Element;

const CHUNK_BYTES: usize = 16 * 1024;
/// Elements in an ordinary chunk.
const CHUNK_ELEMENTS: usize = 1024;

/// A bump allocator for bytes.
#[derive(Default)]
pub(crate) struct Bump {
    /// Each is filled up to its capacity and never grown past it.
    chunks: RefCell<Vec<Vec<u8>>>,
    elements: RefCell<Vec<Vec<RawElement>>>,
}

impl Bump {
    /// Copies the bytes; the copy lives until `reset`.
    pub(crate) fn copy(&self, bytes: &[u8]) -> &[u8] {
        let mut chunks = self.chunks.borrow_mut();
        let room = chunks.last().map_or(0, |c| c.capacity() - c.len());
        if room < bytes.len() {
            chunks.push(Vec::with_capacity(bytes.len().max(CHUNK_BYTES)));
        }
        let Some(chunk) = chunks.last_mut() else { return &[] };
        let at = chunk.len();
        chunk.extend_from_slice(bytes);
        // SAFETY: the chunk had room, so its buffer did not move and will not:
        // later copies write behind this range only. It is freed or reused in
        // `reset` alone, whose `&mut self` ends every borrow of `self`.
        unsafe { std::slice::from_raw_parts(chunk.as_ptr().add(at), bytes.len()) }
    }

    /// Copies elements (not what they show); the copies live until `reset`.
    pub(crate) fn elements<'a>(
        &self,
        elements: impl IntoIterator<Item = Element<'a>>,
    ) -> *const [RawElement] {
        let mut chunks = self.elements.borrow_mut();
        let mut start = chunks.last().map_or(0, Vec::len);
        for element in elements {
            if chunks.last().is_none_or(|c| c.len() == c.capacity()) {
                let begun = chunks.last().map_or(&[][..], |c| &c[start..]);
                let mut chunk = Vec::with_capacity((begun.len() * 2).max(CHUNK_ELEMENTS));
                chunk.extend_from_slice(begun);
                chunks.push(chunk);
                start = 0;
            }
            if let Some(chunk) = chunks.last_mut() {
                chunk.push(*element.raw());
            }
        }
        chunks.last().map_or(&[], |c| &raw const c[start..])
    }

    /// Forgets everything; keeps one ordinary chunk for reuse.
    pub(crate) fn reset(&mut self) {
        let elements = self.elements.get_mut();
        elements.truncate(1);
        if let Some(first) = elements.first_mut() {
            first.clear();
        }
        let chunks = self.chunks.get_mut();
        chunks.truncate(1);
        if let Some(first) = chunks.first_mut() {
            first.clear();
            if first.capacity() > CHUNK_BYTES {
                chunks.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_stay_put_while_more_is_copied() {
        let mut bump = Bump::default();
        for _ in 0..3 {
            let copies: Vec<&[u8]> = (0..5000u32).map(|i| bump.copy(&i.to_le_bytes())).collect();
            for (i, copy) in copies.iter().enumerate() {
                assert_eq!(*copy, (i as u32).to_le_bytes());
            }
            assert_eq!(bump.copy(&[7; 100_000]).len(), 100_000);
            assert_eq!(bump.copy(&[]).len(), 0);
            bump.reset();
        }
    }
}
