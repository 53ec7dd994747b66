//! TTL groups: which items share segments, so that they expire together.
//!
//! ```text
//! group 0        items that never expire
//! group 1        items whose TTL is too rare for segments of its own
//! group 2 + b    b = four buckets for each doubling of the TTL, from 1 s to 50 days
//! ```
//! An item's own deadline decides whether it is visible; groups only decide how
//! soon memory comes back. A bucket is as wide as a quarter of its shortest TTL.

/// Items without a deadline.
pub(crate) const NEVER: u8 = 0;
/// Items with deadlines of any kind.
pub(crate) const MIXED: u8 = 1;
const FIRST: u8 = 2;
const SHORTEST_LOG2: u32 = 10;
const LONGEST_LOG2: u32 = 32;
/// How many groups there are.
pub(crate) const GROUPS: usize = FIRST as usize + ((LONGEST_LOG2 - SHORTEST_LOG2) * 4) as usize + 2;

/// The bucket of a TTL in milliseconds.
pub(crate) fn group_of(ttl_ms: u64) -> u8 {
    if ttl_ms < 1 << SHORTEST_LOG2 {
        return FIRST;
    }
    if ttl_ms >= 1 << LONGEST_LOG2 {
        return GROUPS as u8 - 1;
    }
    let log2 = ttl_ms.ilog2();
    let quarter = (ttl_ms >> (log2 - 2)) & 3;
    FIRST + 1 + ((log2 - SHORTEST_LOG2) * 4) as u8 + quarter as u8
}

/// Width of a group's bucket in milliseconds: how old its segments may become
/// before they are sealed.
pub(crate) fn width_ms(group: u8) -> u64 {
    match group {
        NEVER | MIXED => u64::MAX,
        FIRST => 256,
        _ => 1 << (SHORTEST_LOG2 + (u32::from(group) - u32::from(FIRST) - 1).div_euclid(4) - 2),
    }
}

/// Shortest TTL of a group in milliseconds; 0 for items that never expire or whose
/// TTL is any.
pub(crate) fn shortest_ms(group: u8) -> u64 {
    match group {
        NEVER | MIXED => 0,
        FIRST => 1,
        _ => {
            let bucket = u32::from(group) - u32::from(FIRST) - 1;
            (u64::from(4 + bucket % 4) << (SHORTEST_LOG2 + bucket / 4)) / 4
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_shortest_ttl_is_in_it_and_a_shorter_one_is_not() {
        for group in FIRST + 1..GROUPS as u8 {
            let shortest = shortest_ms(group);
            assert_eq!((group_of(shortest), group_of(shortest - 1)), (group, group - 1));
        }
    }

    #[test]
    fn groups_grow_with_the_ttl_and_stay_in_range() {
        let mut last = 0;
        for log2 in 0..41 {
            for part in 0..8u64 {
                let ttl = (1u64 << log2) + ((1u64 << log2) / 8) * part;
                let group = group_of(ttl);
                assert!(group >= last && usize::from(group) < GROUPS, "{ttl}");
                last = group;
            }
        }
    }

    #[test]
    fn two_ttls_of_one_group_differ_by_less_than_its_width() {
        for ttl in (1024..10_000_000u64).step_by(997) {
            let group = group_of(ttl);
            assert_ne!(group_of(ttl + width_ms(group)), group);
            assert!(width_ms(group) <= ttl / 4, "{ttl}");
        }
    }
}
