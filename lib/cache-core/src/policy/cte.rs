//! `cte` (closest to expiry): the segment whose last item expires first goes;
//! among segments that never expire, the oldest.

use super::{Candidate, Policy, Verdict};
use crate::segment::state::{Layer, State};
use crate::segment::{Census, Segments};
use crate::sync::Ordering;

#[derive(Debug)]
pub(super) struct Cte;

impl Policy for Cte {
    fn admit(&self, _ghost: bool) -> Layer {
        Layer::Main
    }

    fn choose(&self, segments: &Segments, _census: &Census, _random: u64) -> Option<u32> {
        segments
            .words()
            .filter(|(_, word)| word.state() == State::Sealed)
            .min_by_key(|(id, word)| {
                (segments.meta(*id).max_deadline.load(Ordering::Relaxed), word.seq())
            })
            .map(|(id, _)| id)
    }

    fn judge(&self, _item: &Candidate) -> Verdict {
        Verdict::Drop { ghost: false }
    }
}
