//! A profile on demand: where the workers are, many times a second.
//!
//! What must always be true: one profile at a time, of bounded length; a worker that sleeps is
//! left asleep. Called by `/profile`, on a thread that may block.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::flame::Flame;
use super::{Stack, Symbols, of_thread};
use crate::services::Core;

/// Longest profile.
pub const SECONDS_MAX: u64 = 60;
/// Time between two looks: a prime number of them in a second keeps out of step with timers.
const INTERVAL: Duration = Duration::from_micros(1_000_000 / 199);

static UNDER_WAY: AtomicBool = AtomicBool::new(false);

/// Looks for so long; nothing when another profile is under way.
pub fn take(core: &Core, seconds: u64) -> Option<Flame> {
    if UNDER_WAY.swap(true, Ordering::Relaxed) {
        return None;
    }
    let until = Instant::now() + Duration::from_secs(seconds.clamp(1, SECONDS_MAX));
    let mut stacks: std::collections::HashMap<Stack, u64> = std::collections::HashMap::new();
    while Instant::now() < until {
        for share in &core.shares[..core.workers] {
            if !share.asleep.load(Ordering::Relaxed)
                && let Some(stack) = of_thread(share.tid.load(Ordering::Relaxed))
            {
                *stacks.entry(stack).or_default() += 1;
            }
        }
        std::thread::sleep(INTERVAL);
    }
    let mut symbols = Symbols::new();
    let mut flame = Flame::default();
    for (stack, times) in stacks {
        flame.add(&symbols.names(&stack), times);
    }
    UNDER_WAY.store(false, Ordering::Relaxed);
    Some(flame)
}
