//! What a worker does between sweeps: expiry, eviction ahead, growth.

use crate::segment::state::State;
use crate::sync::Ordering;
use crate::ttl;
use crate::worker::Worker;
use crate::worker::evict::Purpose;

/// All segments are looked at for expiry once in this time, in milliseconds.
const EXPIRY_ROUND_MS: u64 = 250;
/// The number of segments kept ahead falls by one in this time, in milliseconds.
const SPARE_FADE_MS: u64 = 1000;

impl Worker {
    /// A bounded amount of upkeep; call it on every sweep or every few
    /// milliseconds, idle or not. `budget` is in steps of up to sixteen items.
    /// Returns whether there is more to do at once.
    pub fn tick(&self, budget: u32) -> bool {
        self.auto_enter();
        let shared = &*self.shared;
        self.quiesce_if_unlent();
        shared.segments.reclaim(&shared.epochs);
        let newest = shared.segments.newest_seq();
        self.logs.borrow_mut().seal_aged(shared, self.now.get(), newest);
        self.maintain(budget.saturating_mul(8));
        let mut left = budget;
        self.expire(&mut left);
        let more = self.evict_ahead(left);
        let lowered = shared.segments.is_lowered() && shared.step_lower();
        more || lowered || left == 0 || self.growing()
    }

    /// Looks at the next segments in turn, and frees what has expired.
    fn expire(&self, left: &mut u32) {
        let shared = &*self.shared;
        let now = self.now.get();
        let count = u64::from(shared.segments.count());
        let last = shared.expiry_checked_ms.load(Ordering::Relaxed);
        let elapsed = now.saturating_sub(last);
        if elapsed > 0
            && shared
                .expiry_checked_ms
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            let share = (count * elapsed).div_ceil(EXPIRY_ROUND_MS).min(count);
            self.expiry_due.set((self.expiry_due.get() + share).min(count));
            if last / SPARE_FADE_MS != now / SPARE_FADE_MS {
                shared.lower_spare();
            }
        }
        while *left > 0 {
            // A job under way comes first; evictions go on in `evict_ahead`.
            if self.step_upkeep() {
                *left -= 1;
                continue;
            }
            if self.expiry_due.get() == 0 {
                return;
            }
            if self.busy() {
                // An eviction is half done; end it rather than skip segments.
                self.step(false);
                *left -= 1;
                continue;
            }
            self.expiry_due.set(self.expiry_due.get() - 1);
            let id = (shared.expiry_cursor.fetch_add(1, Ordering::Relaxed) % count) as u32;
            let word = shared.segments.word(id);
            if word.state() != State::Sealed {
                continue;
            }
            let meta = shared.segments.meta(id);
            if self.retire_if_dead(id, word) {
                continue;
            }
            if meta.max_deadline.load(Ordering::Relaxed) <= now {
                self.begin_job(id, word, Purpose::Expire);
            } else if word.group() == ttl::MIXED && meta.sweep_at.load(Ordering::Relaxed) <= now {
                self.begin_job(id, word, Purpose::Sweep);
            }
        }
    }
}
