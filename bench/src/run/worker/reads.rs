//! Many plain reads at a time: a connection of a closed loop is filled at one go.
//!
//! Always true: they are counted, queued and judged as if each had been issued by itself; the oldest version
//! that a read may answer is looked up before it is sent. Called by [`Worker::fill`].
//!
//! In three rounds, so that the entries of the ledger, each of which is a cache miss where there are many
//! keys, are fetched together: draw the keys, look their entries up, write the requests.

use kompio::OutBuf;

use super::super::pending::Packed;
use super::Worker;
use crate::record::sample::{All, Of};
use crate::wire::Codec;
use crate::workload::ledger::Floor;
use crate::workload::mix::Verb;

/// Reads of one burst: more cache misses than a processor has under way, and a kilobyte of keys and versions.
const READS_MAX: usize = 64;

/// The keys of a burst.
#[derive(Debug)]
pub(super) struct Reads {
    ids: [u64; READS_MAX],
    len: usize,
}

impl Default for Reads {
    fn default() -> Self {
        Self { ids: [0; READS_MAX], len: 0 }
    }
}

impl Reads {
    /// Takes a key; not when there is no room.
    #[inline]
    pub(super) fn push(&mut self, id: u64) -> bool {
        let Some(place) = self.ids.get_mut(self.len) else { return false };
        *place = id;
        self.len += 1;
        true
    }
}

impl<C: Codec> Worker<C> {
    /// Writes the reads that were gathered, if there are any.
    pub(super) fn issue_reads(
        &mut self,
        number: u32,
        out: &mut OutBuf,
        now_ns: u64,
        measured: bool,
    ) {
        let count = std::mem::take(&mut self.reads.len);
        let Some(template) = self.read_template.as_ref().filter(|_| count > 0) else { return };
        let ids = &self.reads.ids[..count];
        let mut floors = [Floor::default(); READS_MAX];
        if let Some(ledger) = &self.shared.ledger {
            for (floor, id) in floors.iter_mut().zip(ids) {
                *floor = ledger.floor(*id);
            }
        }
        let out = out.as_mut_vec();
        let before = out.len();
        let conn = &mut self.conns[number as usize];
        out.reserve(count * template.len_bytes());
        ids.iter().for_each(|id| template.write(out, *id));
        let reads = ids.iter().zip(&floors);
        conn.pending.extend_reads(
            reads.map(|(id, floor)| Packed::read(*id, now_ns, now_ns, measured, *floor)),
        );
        let len_bytes = out.len() - before;
        if let Some(stamps) = &mut conn.stamps {
            (0..count).for_each(|_| stamps.requested(len_bytes / count));
        }
        self.work.sample.add(All::BytesSent, len_bytes as u64);
        self.work.in_flight += count as u64;
        if measured {
            self.work.command(Verb::Get).add(Of::Requests, count as u64);
        }
    }
}
