//! `clock`: the oldest segment goes; items with hits are appended again with one
//! hit less.

use super::{Candidate, Policy, SizeRule, Verdict, oldest};
use crate::segment::state::Layer;
use crate::segment::{Census, Segments};

#[derive(Debug)]
pub(super) struct Clock {
    pub(super) sizes: SizeRule,
}

impl Policy for Clock {
    fn admit(&self, _ghost: bool) -> Layer {
        Layer::Main
    }

    fn choose(&self, _segments: &Segments, census: &Census, _random: u64) -> Option<u32> {
        oldest(census)
    }

    fn judge(&self, item: &Candidate) -> Verdict {
        let price = self.sizes.price(item);
        if item.count >= price && item.count > item.strictness {
            Verdict::Keep { layer: Layer::Main, count: item.count - price }
        } else {
            Verdict::Drop { ghost: false }
        }
    }

    fn count_cap(&self) -> u8 {
        self.sizes.cap()
    }
}
