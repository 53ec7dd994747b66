//! `random`: any full segment goes, each as likely as the others.

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
        nth_sealed(segments, census, random)
    }

    fn judge(&self, _item: &Candidate) -> Verdict {
        Verdict::Drop { ghost: false }
    }
}
