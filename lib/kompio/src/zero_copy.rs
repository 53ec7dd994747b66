//! Zero-copy sends whose memory the kernel still reads.
//!
//! What must always be true: a block stays here, unmoved and unreleased, until its send ended and
//! as many notifications came as results announced one. A failed send announces one only when
//! its result says so (MORE). Called by the loop.

use crate::out::Block;
use crate::token::ConnToken;

impl Drop for ZeroCopies {
    /// The kernel may still read what was not notified: better lost than reused.
    fn drop(&mut self) {
        self.abandon();
    }
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    in_use: bool,
    conn: ConnToken,
    /// Announced minus arrived. A notification may be reaped before its result.
    outstanding: i32,
    /// The send ended; the block waits here when notifications are outstanding.
    ended: bool,
    block: Option<Box<Block>>,
}

/// Zero-copy sends of one worker.
#[derive(Debug, Default)]
pub(crate) struct ZeroCopies {
    entries: Vec<Entry>,
    free: Vec<u32>,
}

impl ZeroCopies {
    pub(crate) fn begin(&mut self, conn: ConnToken) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry {
                generation: 0,
                in_use: false,
                conn,
                outstanding: 0,
                ended: false,
                block: None,
            });
            (self.entries.len() - 1) as u32
        });
        let entry = &mut self.entries[index as usize];
        entry.in_use = true;
        entry.conn = conn;
        entry.outstanding = 0;
        entry.ended = false;
        index
    }

    pub(crate) fn generation(&self, index: u32) -> u32 {
        self.entries[index as usize].generation
    }

    /// The connection of a living entry.
    pub(crate) fn owner(&self, index: u32, generation: u32) -> Option<ConnToken> {
        self.entries
            .get(index as usize)
            .filter(|e| e.in_use && e.generation == generation)
            .map(|e| e.conn)
    }

    /// A result announced a notification.
    pub(crate) fn announced(&mut self, index: u32) {
        self.entries[index as usize].outstanding += 1;
    }

    /// A notification arrived; gives the block when it was the last thing to wait for.
    pub(crate) fn notified(&mut self, index: u32) -> Option<Box<Block>> {
        let entry = &mut self.entries[index as usize];
        entry.outstanding -= 1;
        if !entry.ended || entry.outstanding > 0 {
            return None;
        }
        let block = entry.block.take();
        self.remove(index);
        block
    }

    /// The send ended; gives the block back unless notifications are outstanding.
    pub(crate) fn finish(&mut self, index: u32, block: Box<Block>) -> Option<Box<Block>> {
        let entry = &mut self.entries[index as usize];
        debug_assert!(entry.in_use && !entry.ended);
        entry.ended = true;
        if entry.outstanding > 0 {
            entry.block = Some(block);
            return None;
        }
        self.remove(index);
        Some(block)
    }

    /// Blocks that wait for notifications.
    pub(crate) fn waiting(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Gives up waiting: the blocks are leaked, for the kernel may still read them. Their parts
    /// can never be released. How many.
    pub(crate) fn abandon(&mut self) -> usize {
        let blocks = self.entries.iter_mut().filter_map(|e| e.block.take());
        blocks.map(std::mem::forget).count()
    }

    fn remove(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        debug_assert!(entry.block.is_none());
        entry.in_use = false;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(index);
    }
}
