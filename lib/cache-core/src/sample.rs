//! The keys whose requests are watched: one question on the way of every read.
//!
//! A mixed hash below a fixed bound belongs to the miss-ratio curve ([`crate::mrc`]),
//! one above a moving bound to the duel ([`crate::duel`]). Both ranges meet where the
//! numbers turn over, so one addition and one comparison tell a read that nobody
//! watches from one that somebody does.

use crate::config::Config;
use crate::duel::Duel;
use crate::hash::KeyHash;
use crate::mrc::Curve;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::Arc;

/// The watchers, and how many of the mixed hashes each of them watches.
#[derive(Debug)]
pub(crate) struct Samples {
    pub(crate) curve: Curve,
    pub(crate) duel: Duel,
    /// Mixed hashes below this are the curve's.
    curve_width: u32,
    bounds: Arc<Bounds>,
}

/// The bounds that every read compares with.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    /// So many of the highest mixed hashes are the duel's.
    duel_width: AtomicU32,
    /// Both widths together.
    span: AtomicU32,
    curve_width: u32,
}

impl Bounds {
    /// Changes how many of the mixed hashes the duel watches. A read that meets the
    /// change half done is watched or not, and nothing else depends on it.
    pub(crate) fn set_duel_width(&self, width: u32) {
        let width = width.min(u32::MAX - self.curve_width);
        self.duel_width.store(width, Ordering::Relaxed);
        self.span.store(width + self.curve_width, Ordering::Relaxed);
    }
}

/// Other bits than those of buckets, tags and ghosts' lines, mixed anew.
#[inline]
fn mixed(hash: KeyHash) -> u32 {
    (hash.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}

impl Samples {
    pub(crate) fn new(config: &Config, direct: Arc<AtomicBool>) -> Self {
        let curve = Curve::new(config);
        let curve_width = curve.width();
        let bounds = Arc::new(Bounds { curve_width, ..Bounds::default() });
        bounds.set_duel_width(0);
        let duel = Duel::new(config, direct, Arc::clone(&bounds));
        Self { curve, duel, curve_width, bounds }
    }

    /// A read of this key; `len` is the item's length if it was there.
    #[inline]
    pub(crate) fn read(&self, hash: KeyHash, len: Option<usize>) {
        let mixed = mixed(hash);
        let width = self.bounds.duel_width.load(Ordering::Relaxed);
        if mixed.wrapping_add(width) < self.bounds.span.load(Ordering::Relaxed) {
            self.watched(mixed, hash, len);
        }
    }

    #[cold]
    fn watched(&self, mixed: u32, hash: KeyHash, len: Option<usize>) {
        if mixed < self.curve_width {
            self.curve.read(hash, len);
        } else {
            self.duel.read(hash);
        }
    }

    /// A store of this key.
    #[inline]
    pub(crate) fn stored(&self, hash: KeyHash, len: usize) {
        if mixed(hash) < self.curve_width {
            self.curve.stored(hash, len);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::hash::KeyHasher;

    #[test]
    fn each_key_has_one_watcher_and_the_curve_never_loses_its_own() {
        let samples = Samples::new(&Config::new(64 << 20), Arc::default());
        let hasher = KeyHasher::new(1);
        for width in [0, 1, 1 << 20, 1 << 31, u32::MAX] {
            samples.bounds.set_duel_width(width);
            let mut watched = [0u32; 2];
            for key in 0..100_000u32 {
                let mixed = mixed(hasher.hash(&key.to_le_bytes()));
                let width = samples.bounds.duel_width.load(Ordering::Relaxed);
                let asked = mixed.wrapping_add(width) < samples.bounds.span.load(Ordering::Relaxed);
                let curves = mixed < samples.curve_width;
                let duels = u64::from(mixed) + u64::from(width) > u64::from(u32::MAX);
                assert_eq!(asked, curves || duels, "{mixed:x} of {width:x}");
                assert!(!(curves && duels));
                watched[usize::from(duels)] += u32::from(asked);
            }
            assert!((140..260).contains(&watched[0]), "one in 512: {watched:?}");
            let expected = (f64::from(width) / 4294967296.0 * 100_000.0) as u32;
            assert!(watched[1].abs_diff(expected) < 1000, "{watched:?} of {width:x}");
        }
    }
}
