//! `s3fifo`: a small admission queue, a main queue with second chances, ghosts.
//!
//! New items enter the small queue. When it holds more than its share, its
//! oldest segment goes: items with a hit move to main, the others leave a ghost.
//! A key that comes back while its ghost is remembered enters main at once. In
//! main the oldest segment goes: items with hits are appended again with one hit
//! less, the others are dropped. (Yang et al., "FIFO queues are all you need for
//! cache eviction", SOSP'23, here over logs of segments.)
//!
//! While [`crate::duel`] finds that the small queue costs more hits than it saves,
//! new items enter main at once, and all segments go by age.

use super::{Candidate, Policy, SizeRule, Verdict, oldest};
use crate::segment::state::Layer;
use crate::segment::{Census, Segments};
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct S3Fifo {
    pub(super) small_share: f64,
    pub(super) ghosts: bool,
    /// New items pass the small queue by ([`crate::duel`] decides).
    pub(super) direct: Arc<AtomicBool>,
    pub(super) sizes: SizeRule,
}

impl S3Fifo {
    fn direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }
}

impl Policy for S3Fifo {
    fn admit(&self, ghost: bool) -> Layer {
        if ghost || self.direct() { Layer::Main } else { Layer::Small }
    }

    fn choose(&self, segments: &Segments, census: &Census, _random: u64) -> Option<u32> {
        if self.direct() {
            return oldest(census);
        }
        let [small, main] = census.oldest;
        let share = self.small_share * f64::from(segments.limit());
        let small_is_over = f64::from(census.layer[Layer::Small as usize]) > share;
        let (first, second) = if small_is_over { (small, main) } else { (main, small) };
        first.or(second).map(|(id, _)| id)
    }

    fn judge(&self, item: &Candidate) -> Verdict {
        let price = self.sizes.price(item);
        match item.layer {
            Layer::Small if item.count >= price => Verdict::Keep { layer: Layer::Main, count: 0 },
            Layer::Small => Verdict::Drop { ghost: true },
            Layer::Main if item.count >= price && item.count > item.strictness => {
                Verdict::Keep { layer: Layer::Main, count: item.count - price }
            }
            Layer::Main => Verdict::Drop { ghost: false },
        }
    }

    fn uses_ghosts(&self) -> bool {
        self.ghosts
    }

    fn count_cap(&self) -> u8 {
        self.sizes.cap()
    }
}
