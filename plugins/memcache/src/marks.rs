//! The four bits an item carries for its protocol, as memcache uses them.
//!
//! ```text
//!   3        2            1           0
//! | -    | KEY_BINARY |   WON     |  STALE  |
//! ```
//! Must hold: a write of a new value clears STALE and WON; at most one client is told W between two
//! such writes. The other protocols write 0 and ignore the bits.

/// Invalidated, but served until somebody stores a new value.
pub const STALE: u8 = 1;
/// Somebody was told to recache it.
pub const WON: u8 = 1 << 1;
/// The key was given as base64, and is returned so.
pub const KEY_BINARY: u8 = 1 << 2;

/// What a `mg` found and did, in the number an operation carries to its reply.
///
/// ```text
///  bit 0 created | 1 won | 2 had a deadline | 8..40 seconds that were left
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Made by this command.
    pub created: bool,
    /// This command won the right to recache.
    pub won: bool,
    /// Seconds left before the command changed that; `None` is for ever.
    pub left_before_s: Option<u32>,
}

impl Outcome {
    /// As a number.
    pub fn to_note(self) -> i64 {
        let mut note = i64::from(self.created) | i64::from(self.won) << 1;
        if let Some(s) = self.left_before_s {
            note |= 1 << 2 | i64::from(s) << 8;
        }
        note
    }

    /// From its number.
    pub fn from_note(note: i64) -> Self {
        Self {
            created: note & 1 != 0,
            won: note & 2 != 0,
            left_before_s: (note & 4 != 0).then_some((note >> 8) as u32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_survives_its_number() {
        for created in [false, true] {
            for won in [false, true] {
                for left_before_s in [None, Some(0), Some(90), Some(u32::MAX)] {
                    let o = Outcome { created, won, left_before_s };
                    assert_eq!(Outcome::from_note(o.to_note()), o);
                }
            }
        }
    }
}
