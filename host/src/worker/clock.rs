//! The time that plugins are told: Unix milliseconds that never jump.
//!
//! Always true: between two looks the clock runs as the loop's monotonic one, and it goes back only when
//! the date is set back by a day or more.
//! When somebody sets the system's clock, this one follows by at most one part in [`FOLLOW`], so that a
//! time to live is never off by more than that: items neither die nor live an hour longer because a clock
//! was an hour wrong. Dates (`EXAT`) are off meanwhile by what is left of the step. A machine that
//! starts without knowing the date at all is followed at once. Used by the workers.

use std::time::Instant;

use crate::services::unix_ms;

/// A step of the system's clock is made up for at this part of the speed of time: about 3 %.
const FOLLOW: u64 = 32;
/// A step this long is the date being set at last: a day.
const JUMP_MS: u64 = 24 * 3600 * 1000;
/// A difference this long is a step, and worth a line of the log; shorter ones are slewing.
const STEP_MS: u64 = 1000;

/// Unix time from the loop's monotonic time.
#[derive(Debug)]
pub(super) struct Clock {
    base: Instant,
    /// Unix milliseconds at `base`.
    pub(super) base_ms: u64,
    /// Milliseconds since the worker's start, for time-outs; from 1 on.
    pub(super) host_ms: u32,
    start: Instant,
    stepped: bool,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self::at(Instant::now(), unix_ms())
    }

    fn at(now: Instant, wall_ms: u64) -> Self {
        Self { base: now, base_ms: wall_ms, host_ms: 1, start: now, stepped: false }
    }

    #[inline]
    pub(super) fn unix_ms(&self, now: Instant) -> u64 {
        self.base_ms + now.saturating_duration_since(self.base).as_millis() as u64
    }

    /// Follows the system's clock; gives how far that has stepped away, once for each step.
    pub(super) fn adjust(&mut self, now: Instant) -> Option<i64> {
        let since = now.saturating_duration_since(self.start).as_millis() + 1;
        // Wraps after 49 days; ages are computed by wrapping subtraction.
        self.host_ms = (since as u32).max(1);
        self.follow(now, unix_ms())
    }

    fn follow(&mut self, now: Instant, wall_ms: u64) -> Option<i64> {
        let passed_ms = now.saturating_duration_since(self.base).as_millis() as u64;
        let own_ms = self.base_ms + passed_ms;
        let apart_ms = wall_ms.cast_signed().wrapping_sub(own_ms.cast_signed());
        let most_ms = (passed_ms / FOLLOW).cast_signed();
        let moved_ms = if apart_ms.unsigned_abs() >= JUMP_MS {
            apart_ms
        } else {
            apart_ms.clamp(-most_ms, most_ms)
        };
        if moved_ms != 0 {
            (self.base, self.base_ms) = (now, own_ms.saturating_add_signed(moved_ms));
        }
        let was_stepped = self.stepped;
        self.stepped = apart_ms.unsigned_abs() >= STEP_MS;
        (self.stepped && !was_stepped).then_some(apart_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const HOUR_MS: u64 = 3600 * 1000;
    const WALL_MS: u64 = 1_800_000_000_000;
    const LOOK: Duration = Duration::from_millis(500);

    /// Lets time pass with the system's clock `apart_ms` away; gives the steps that were told.
    fn pass(clock: &mut Clock, now: &mut Instant, apart_ms: i64, looks: u32) -> Vec<i64> {
        let start = clock.start;
        let mut told = Vec::new();
        for _ in 0..looks {
            *now += LOOK;
            let wall_ms = WALL_MS + now.saturating_duration_since(start).as_millis() as u64;
            told.extend(clock.follow(*now, wall_ms.saturating_add_signed(apart_ms)));
        }
        told
    }

    #[test]
    fn a_minute_stays_a_minute_when_the_system_clock_steps_by_an_hour() {
        for apart_ms in [HOUR_MS.cast_signed(), -HOUR_MS.cast_signed()] {
            let mut now = Instant::now();
            let mut clock = Clock::at(now, WALL_MS);
            let told = pass(&mut clock, &mut now, apart_ms, 120);
            assert_eq!(told.len(), 1, "one step is told once");
            let passed_ms = clock.unix_ms(now) - WALL_MS;
            assert!((58_000..=62_000).contains(&passed_ms), "a minute took {passed_ms} ms");
        }
    }

    #[test]
    fn a_step_is_made_up_for_in_the_end() {
        let mut now = Instant::now();
        let mut clock = Clock::at(now, WALL_MS);
        pass(&mut clock, &mut now, 10_000, 1000);
        let wall_ms = WALL_MS + 500 * 1000 + 10_000;
        assert!(clock.unix_ms(now).abs_diff(wall_ms) <= 20);
    }

    #[test]
    fn it_does_not_go_back_when_the_system_clock_does() {
        let mut now = Instant::now();
        let mut clock = Clock::at(now, WALL_MS);
        let mut last_ms = 0;
        for look in 0..2000u64 {
            now += Duration::from_millis(look % 40);
            let wall_ms = WALL_MS.saturating_sub(look * 1000);
            clock.follow(now, wall_ms);
            assert!(clock.unix_ms(now) >= last_ms);
            last_ms = clock.unix_ms(now);
        }
    }

    #[test]
    fn a_date_that_is_set_at_last_is_taken_at_once() {
        let mut now = Instant::now();
        let mut clock = Clock::at(now, 1000);
        now += LOOK;
        assert!(clock.follow(now, WALL_MS).is_some());
        assert_eq!(clock.unix_ms(now), WALL_MS);
    }
}
