//! Expiry times: what a client writes, and the deadline the store keeps.
//!
//! Must hold: 0 is no expiry; a negative time is already past; up to 30 days counts from now;
//! anything greater is a Unix time; no rounding ever makes an item die before its time. Deadlines
//! are absolute Unix milliseconds, 0 for none. Used wherever a command carries an exptime.

use crate::limits::EXPTIME_RELATIVE_MAX_S;

/// A deadline that is past for every clock: the smallest one that is not "none".
pub const DEADLINE_PAST_MS: u64 = 1;

/// The deadline of a signed exptime (text and meta).
pub fn deadline_ms(exptime_s: i64, now_ms: u64) -> u64 {
    match exptime_s {
        0 => 0,
        i64::MIN..0 => DEADLINE_PAST_MS,
        1..=EXPTIME_RELATIVE_MAX_S => now_ms + exptime_s as u64 * 1000,
        _ => (exptime_s as u64).saturating_mul(1000),
    }
}

/// The deadline of a binary request's unsigned expiration.
pub fn deadline_of_binary_ms(expiration_s: u32, now_ms: u64) -> u64 {
    deadline_ms(i64::from(expiration_s), now_ms)
}

/// Seconds left as `t` reports them, rounded up so that `T90` reads back as 90; `None` is for ever.
pub fn remaining_s(deadline_ms: u64, now_ms: u64) -> Option<u64> {
    (deadline_ms != 0).then(|| deadline_ms.saturating_sub(now_ms).div_ceil(1000))
}

/// Whether a recache flag `R` with this token wins: the item expires, and sooner than the token says.
pub fn recache_wins(item_deadline_ms: u64, token_s: i64, now_ms: u64) -> bool {
    let Some(left_s) = remaining_s(item_deadline_ms, now_ms) else { return false };
    let limit_ms = deadline_ms(token_s, now_ms);
    limit_ms != 0 && left_s < limit_ms.saturating_sub(now_ms).div_ceil(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_123;

    #[test]
    fn exptime_rules() {
        assert_eq!(deadline_ms(0, NOW), 0);
        assert_eq!(deadline_ms(-1, NOW), DEADLINE_PAST_MS);
        assert_eq!(deadline_ms(i64::MIN, NOW), DEADLINE_PAST_MS);
        assert_eq!(deadline_ms(1, NOW), NOW + 1000);
        assert_eq!(deadline_ms(2_592_000, NOW), NOW + 2_592_000_000);
        assert_eq!(deadline_ms(2_592_001, NOW), 2_592_001_000);
        assert_eq!(deadline_ms(i64::MAX, NOW), u64::MAX);
        assert_eq!(deadline_of_binary_ms(u32::MAX, NOW), 4_294_967_295_000);
    }

    #[test]
    fn remaining_rounds_up() {
        assert_eq!(remaining_s(0, NOW), None);
        assert_eq!(remaining_s(NOW + 90_000, NOW + 5), Some(90));
        assert_eq!(remaining_s(NOW, NOW + 5), Some(0));
    }

    #[test]
    fn recache_wins_only_below_its_token() {
        let item = NOW + 30_000;
        assert!(!recache_wins(item, 30, NOW + 3));
        assert!(recache_wins(item, 31, NOW + 3));
        assert!(!recache_wins(0, 100, NOW));
        assert!(!recache_wins(item, -1, NOW));
        assert!(!recache_wins(item, 0, NOW));
    }
}
