//! `merge`'s look at several segments at once, before any of them is walked.
//!
//! Items are ranked by hits for their size; the cutoff is the rank down to which the
//! share that is kept has room. Called by the walk ([`super::evict`]).

use super::evict::{Evictor, Purpose, Walked};
use crate::segment::state::Word;
use crate::worker::Worker;

const RANKS: usize = 40;

/// Segments that `merge` treats together.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) segments: Vec<(u32, Word)>,
    pub(super) surveyed: usize,
    bytes_by_rank: [u64; RANKS],
    bytes: u64,
    pub(super) cutoff: usize,
    /// Bytes of the cutoff rank that may survive.
    pub(super) allowance: i64,
}

/// Hits for its size, on a logarithmic scale of [`RANKS`] steps.
pub(super) fn rank(count: u8, len: usize, mean_len: usize) -> usize {
    let score = u64::from(count) * 4096 * mean_len.max(1) as u64 / len.max(1) as u64;
    // Two steps for each doubling.
    let log2 = score.max(1).ilog2() as usize;
    let half = if log2 > 0 { ((score >> (log2 - 1)) & 1) as usize } else { 0 };
    (log2 * 2 + half).min(RANKS - 1)
}

impl Survey {
    /// Finds the rank down to which items may survive.
    pub(super) fn elect(&mut self) {
        let mut left = (self.bytes as f64 * crate::policy::MERGE_KEEP_SHARE) as i64;
        self.cutoff = 0;
        for rank in (0..RANKS).rev() {
            let bytes = self.bytes_by_rank[rank] as i64;
            if bytes > left {
                self.cutoff = rank;
                break;
            }
            left -= bytes;
        }
        self.allowance = left;
    }
}

impl Worker {
    pub(super) fn begin_merge(&self, evictor: &mut Evictor, width: usize) -> bool {
        if let Some(survey) = &mut evictor.survey {
            if let Some((id, word)) = survey.segments.pop() {
                evictor.job = Some(self.job_for(id, word, Purpose::Evict));
                return true;
            }
            evictor.survey = None;
        }
        let mut segments: Vec<_> = std::iter::from_fn(|| self.claim_victim()).take(width).collect();
        // The oldest comes last, so that popping takes it first.
        segments.reverse();
        let Some(&(id, word)) = segments.last() else { return false };
        evictor.job = Some(self.job_for(id, word, Purpose::Survey));
        evictor.survey = Some(Survey {
            segments,
            surveyed: 0,
            bytes_by_rank: [0; RANKS],
            bytes: 0,
            cutoff: 0,
            allowance: 0,
        });
        true
    }

    pub(super) fn survey_item(&self, evictor: &mut Evictor, item: &Walked, mean_len: usize) {
        let found = self.shared.index.find_where(item.hash, |e| e.location() == item.location);
        let Some(survey) = &mut evictor.survey else { return };
        survey.bytes += item.len as u64;
        if let Some(found) = found
            && found.entry.count() > 0
        {
            survey.bytes_by_rank[rank(found.entry.count(), item.len, mean_len)] += item.len as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_follow_hits_for_size() {
        assert!(rank(2, 100, 100) > rank(1, 100, 100));
        assert!(rank(1, 50, 100) > rank(1, 100, 100));
        assert!(rank(1, 1 << 20, 100) < rank(1, 100, 100));
        assert!(rank(7, 1, 1 << 30) < RANKS);
    }
}
