//! The state word of a segment: the one truth about what a segment is.
//!
//! ```text
//! 63                     16 15     8 7     4 3     0
//! |         seq 48         | group 8 | layer 4 | state 4 |
//!
//!             take                 seal              claim
//!  Absent ──┐      ┌──> Open ──────────────> Sealed ──────────> Evicting
//!    ^      ├──────┤                         ^  │  ^               │  │
//!    │      │      └──> Held ────────────────┘  │  └───────────────┘  │
//!  discard  │            │   commit             │      unclaim/keep   │ retire
//!    │      │            │ abandon              │ flush, all dead     v
//!   Free ───┘            └──────────────────────┴─────────────────> Retired
//!    ^  <──────────────────────── reclaim (all workers passed, no pins) │
//!    └──────────────────────────────────────────────────────────────────┘
//!  Part: the continuation of a large item; taken from Free, freed with its head.
//! ```
//! `seq` is unique for each taking, so a word is never seen twice and an exact
//! compare-exchange cannot hit a segment's later life.

/// What a segment is at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// No memory behind it.
    Absent = 0,
    /// Empty, with memory.
    Free = 1,
    /// One worker appends to it.
    Open = 2,
    /// Full; its live items may be evicted.
    Sealed = 3,
    /// One worker walks its items to free it.
    Evicting = 4,
    /// Nothing refers to it; waits until no reader can be inside.
    Retired = 5,
    /// Holds one large item that is being written.
    Held = 6,
    /// Continues the large item of another segment.
    Part = 7,
}

/// Number of states, for occupancy tables.
pub(crate) const STATES: usize = 8;

/// The layer a segment's items belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Layer {
    /// The admission queue: where new items prove themselves.
    Small = 0,
    /// The main layer.
    Main = 1,
}

/// Number of layers.
pub(crate) const LAYERS: usize = 2;

/// A segment's state word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    pub(crate) const ABSENT: Word = Word(0);

    pub(crate) fn new(seq: u64, group: u8, layer: Layer, state: State) -> Self {
        debug_assert!(seq < 1 << 48);
        Word((seq << 16) | (u64::from(group) << 8) | ((layer as u64) << 4) | state as u64)
    }

    #[inline]
    pub(crate) fn seq(self) -> u64 {
        self.0 >> 16
    }

    pub(crate) fn group(self) -> u8 {
        (self.0 >> 8) as u8
    }

    #[inline]
    pub(crate) fn layer(self) -> Layer {
        if (self.0 >> 4) & 0xf == 0 { Layer::Small } else { Layer::Main }
    }

    #[inline]
    pub(crate) fn state(self) -> State {
        match self.0 & 0xf {
            0 => State::Absent,
            1 => State::Free,
            2 => State::Open,
            3 => State::Sealed,
            4 => State::Evicting,
            5 => State::Retired,
            6 => State::Held,
            _ => State::Part,
        }
    }

    /// The same life of the segment in another state; only the drawn arrows.
    pub(crate) fn to(self, state: State) -> Self {
        debug_assert!(
            matches!(
                (self.state(), state),
                (State::Open | State::Held | State::Evicting, State::Sealed)
                    | (State::Sealed, State::Evicting | State::Retired)
                    | (State::Evicting | State::Held, State::Retired)
                    | (State::Retired | State::Part, State::Free)
                    | (State::Free, State::Absent)
            ),
            "no transition from {:?} to {state:?}",
            self.state()
        );
        Word((self.0 & !0xf) | state as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_fields() {
        let w = Word::new(123_456, 200, Layer::Main, State::Open);
        assert_eq!(
            (w.seq(), w.group(), w.layer(), w.state()),
            (123_456, 200, Layer::Main, State::Open)
        );
        assert_eq!(w.to(State::Sealed).seq(), 123_456);
    }

    #[test]
    #[cfg(debug_assertions)]
    fn transitions_that_are_not_drawn_are_refused() {
        for (from, to) in [
            (State::Free, State::Sealed),
            (State::Open, State::Retired),
            (State::Retired, State::Open),
        ] {
            let w = Word::new(1, 0, Layer::Small, from);
            assert!(std::panic::catch_unwind(|| w.to(to)).is_err(), "{from:?} to {to:?}");
        }
    }
}
