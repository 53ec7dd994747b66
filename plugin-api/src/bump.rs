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

    /// The same for a few.
    #[inline]
    pub(crate) fn few_elements<const N: usize>(
        &mut self,
        elements: [Element<'_>; N],
    ) -> *const RawElement {
        let chunks = self.elements.get_mut();
        let chunk = match chunks.last_mut() {
            Some(chunk) if chunk.capacity() - chunk.len() >= N => chunk,
            _ => one_more(chunks, N),
        };
        let start = chunk.len();
        chunk.extend(elements.map(|element| *element.raw()));
        // The chunk had room, so what was there before stays put.
        &raw const chunk[start..] as *const RawElement
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

#[cold]
fn one_more(chunks: &mut Vec<Vec<RawElement>>, least: usize) -> &mut Vec<RawElement> {
    chunks.push(Vec::with_capacity(least.max(CHUNK_ELEMENTS)));
    chunks.last_mut().expect("pushed a line above")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_stay_put_while_more_are_copied() {
        let mut bump = Bump::default();
        for _ in 0..2 {
            let mut copies = Vec::new();
            for i in 0..3000 {
                let few = bump.few_elements([Element::int(i), Element::NIL]);
                let more = bump.elements([Element::int(-i); 3]);
                copies.push((few, more.cast::<RawElement>()));
            }
            for (i, (few, more)) in (0..).zip(copies) {
                // SAFETY: copied above, so many, and not reset yet.
                let (few, more) =
                    unsafe { (Element::array(few.cast(), 2), Element::array(more.cast(), 3)) };
                assert_eq!(few, [Element::int(i), Element::NIL]);
                assert_eq!(more, [Element::int(-i); 3]);
            }
            bump.reset();
        }
    }

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
