//! `fifo`: the oldest segment goes, whatever its items did.

use super::{Candidate, Policy, Verdict, oldest};
use crate::segment::state::Layer;
use crate::segment::{Census, Segments};

#[derive(Debug)]
pub(super) struct Fifo;

impl Policy for Fifo {
    fn admit(&self, _ghost: bool) -> Layer {
        Layer::Main
    }

    fn choose(&self, _segments: &Segments, census: &Census, _random: u64) -> Option<u32> {
        oldest(census)
    }

    fn judge(&self, _item: &Candidate) -> Verdict {
        Verdict::Drop { ghost: false }
    }
}
