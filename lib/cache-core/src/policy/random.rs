//! `random`: of two full segments, each as likely as the others, the older goes.
//!
//! One alone would be as likely to hold what has just come as what nobody wants any
//! more; the better of two is what simulators and servers call random eviction.

use super::{Candidate, Policy, Verdict, nth_sealed};
use crate::segment::state::Layer;
use crate::segment::{Census, Segments};

#[derive(Debug)]
pub(super) struct Random;

impl Policy for Random {
    fn admit(&self, _ghost: bool) -> Layer {
        Layer::Main
    }

    fn choose(&self, segments: &Segments, census: &Census, random: u64) -> Option<u32> {
        let one = nth_sealed(segments, census, random & 0xffff_ffff)?;
        let other = nth_sealed(segments, census, random >> 32)?;
        let older = segments.word(other).seq() < segments.word(one).seq();
        Some(if older { other } else { one })
    }

    fn judge(&self, _item: &Candidate) -> Verdict {
        Verdict::Drop { ghost: false }
    }
}
