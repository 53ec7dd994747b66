//! Segments as a heap file keeps them, between two processes.
//!
//! Written when no worker exists any more, read before the first one does; called
//! by [`crate::persist`].
//!
//! # Safety
//! Without a worker nothing is reused.
#![allow(unsafe_code)]

use super::state::{State, Word};
use super::{NO_SEGMENT, Segments};
use crate::sync::Ordering;

/// A segment as a file keeps it.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) word: Word,
    pub(crate) used: u32,
    pub(crate) next: u32,
    pub(crate) min_deadline: u64,
    pub(crate) max_deadline: u64,
    pub(crate) sweep_at: u64,
    pub(crate) opened_s: u32,
}

impl Segments {
    /// Takes over what a planned end had left in the same memory.
    pub(crate) fn restore(&self, records: &[Record], next_seq: u64) {
        let mut resident = 0;
        for (id, record) in records.iter().enumerate() {
            let meta = &self.metas[id];
            meta.used.store(record.used, Ordering::Relaxed);
            meta.next.store(record.next, Ordering::Relaxed);
            meta.min_deadline.store(record.min_deadline, Ordering::Relaxed);
            meta.max_deadline.store(record.max_deadline, Ordering::Relaxed);
            meta.sweep_at.store(record.sweep_at, Ordering::Relaxed);
            self.opened_s[id].store(record.opened_s, Ordering::Relaxed);
            self.states[id].store(record.word.0, Ordering::Relaxed);
            resident += u32::from(record.word.state() != State::Absent);
        }
        self.resident.store(resident, Ordering::Relaxed);
        self.reached.store(records.len() as u32, Ordering::Relaxed);
        self.next_seq.store(next_seq, Ordering::Relaxed);
    }

    /// What a next start needs to know: sealed segments with their continuations;
    /// all others are as if they had no memory. No worker exists any more.
    pub(crate) fn records(&self) -> Vec<Record> {
        let mut records: Vec<_> = self
            .metas
            .iter()
            .zip(&self.opened_s)
            .map(|(meta, opened_s)| Record {
                word: Word::ABSENT,
                used: meta.used.load(Ordering::Acquire),
                next: meta.next.load(Ordering::Acquire),
                min_deadline: meta.min_deadline.load(Ordering::Acquire),
                max_deadline: meta.max_deadline.load(Ordering::Acquire),
                sweep_at: meta.sweep_at.load(Ordering::Acquire),
                opened_s: opened_s.load(Ordering::Acquire),
            })
            .collect();
        for (id, word) in self.words().filter(|(_, word)| word.state() == State::Sealed) {
            let mut id = id;
            records[id as usize].word = word;
            while records[id as usize].next != NO_SEGMENT {
                id = records[id as usize].next;
                debug_assert_eq!(self.word(id).state(), State::Part);
                records[id as usize].word = self.word(id);
            }
        }
        records
    }

    /// Bytes of an item that the index led to, when no worker exists any more.
    pub(crate) fn item_len(&self, location: u64) -> usize {
        // SAFETY: nothing is reused without a worker.
        unsafe { self.header(location) }.item_len()
    }
}
