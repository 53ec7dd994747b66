//! Names of connections and of operations.
//!
//! ```text
//! ConnToken  | generation 63..32 | worker 31..24 | slot 23..0 |
//! user_data  | generation 63..32 | kind   31..24 | slot 23..0 |
//! ```
//! What must always be true: a generation changes whenever its slot is given to another
//! connection, so a token or a completion of the former one never finds the next. Called by the
//! context (tokens) and by the loop (user data).

use crate::limits::{CONNECTIONS_PER_WORKER_MAX, WORKERS_MAX};

const SLOT_BITS: u32 = 24;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;
const _: () = assert!(CONNECTIONS_PER_WORKER_MAX == 1 << SLOT_BITS);
const _: () = assert!(WORKERS_MAX == 256);

/// Opaque name of one connection: unique among the living and, by its generation, not mistaken
/// for a later connection in the same slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct ConnToken(u64);

impl ConnToken {
    pub(crate) fn new(worker: usize, slot: u32, generation: u32) -> Self {
        debug_assert!(worker < WORKERS_MAX && u64::from(slot) <= SLOT_MASK);
        ConnToken((u64::from(generation) << 32) | ((worker as u64) << SLOT_BITS) | u64::from(slot))
    }

    /// Slot of the connection on its worker: dense from 0, for arrays of per-connection state.
    /// A slot is reused after `on_close`.
    #[inline]
    pub fn index(self) -> usize {
        (self.0 & SLOT_MASK) as usize
    }

    /// The worker that owns the connection.
    #[inline]
    pub fn worker(self) -> usize {
        ((self.0 >> SLOT_BITS) & 0xff) as usize
    }

    #[inline]
    pub(crate) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The token as a plain number, to pass through foreign code.
    #[inline]
    pub fn to_raw(self) -> u64 {
        self.0
    }

    /// The token that [`to_raw`](Self::to_raw) gave. A number from elsewhere names no connection
    /// and is answered like the token of one that has closed.
    #[inline]
    pub fn from_raw(raw: u64) -> Self {
        ConnToken(raw)
    }
}

impl std::fmt::Debug for ConnToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "conn {}.{}#{}", self.worker(), self.index(), self.generation())
    }
}

/// What an operation was for; the top byte of the low half of `user_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Nobody waits for this completion.
    Ignore = 0,
    /// Receive into provided buffers.
    Recv = 1,
    /// Plain or vectored send.
    Send = 2,
    /// Receive straight into the handler's memory.
    Fill = 3,
    /// Zero-copy send; slot and generation name a zero-copy entry, not a connection.
    ZeroCopy = 4,
    /// Outgoing connection.
    Connect = 5,
    /// Listener; the slot is the listener's number.
    Accept = 6,
    /// A descriptor handed over by the accepting worker; the result is the descriptor.
    Arrival = 7,
    /// Hand-over that failed; the generation carries the descriptor.
    HandOver = 8,
    /// The worker's eventfd.
    Wake = 9,
    /// The worker's timer operation.
    Timer = 10,
}

impl Kind {
    fn from_bits(bits: u8) -> Kind {
        match bits {
            1 => Kind::Recv,
            2 => Kind::Send,
            3 => Kind::Fill,
            4 => Kind::ZeroCopy,
            5 => Kind::Connect,
            6 => Kind::Accept,
            7 => Kind::Arrival,
            8 => Kind::HandOver,
            9 => Kind::Wake,
            10 => Kind::Timer,
            _ => Kind::Ignore,
        }
    }
}

/// `user_data` of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) kind: Kind,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl Tag {
    pub(crate) const IGNORE: Tag = Tag { kind: Kind::Ignore, slot: 0, generation: 0 };

    #[inline]
    pub(crate) fn new(kind: Kind, slot: u32, generation: u32) -> Tag {
        Tag { kind, slot, generation }
    }

    #[inline]
    pub(crate) fn pack(self) -> u64 {
        debug_assert!(u64::from(self.slot) <= SLOT_MASK);
        (u64::from(self.generation) << 32)
            | ((self.kind as u64) << SLOT_BITS)
            | u64::from(self.slot)
    }

    #[inline]
    pub(crate) fn unpack(raw: u64) -> Tag {
        Tag {
            kind: Kind::from_bits((raw >> SLOT_BITS) as u8),
            slot: (raw & SLOT_MASK) as u32,
            generation: (raw >> 32) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_way_through_a_plain_number() {
        let token = ConnToken::new(255, (1 << 24) - 1, u32::MAX);
        let back = ConnToken::from_raw(token.to_raw());
        assert_eq!(back, token);
        assert_eq!(
            (back.worker(), back.index(), back.generation()),
            (255, (1 << 24) - 1, u32::MAX)
        );
    }

    #[test]
    fn tokens_of_one_slot_differ_by_generation() {
        assert_ne!(ConnToken::new(0, 7, 1), ConnToken::new(0, 7, 2));
    }

    #[test]
    fn a_tag_keeps_kind_slot_and_generation_apart() {
        for kind in [
            Kind::Ignore,
            Kind::Recv,
            Kind::Send,
            Kind::Fill,
            Kind::ZeroCopy,
            Kind::Connect,
            Kind::Accept,
            Kind::Arrival,
            Kind::HandOver,
            Kind::Wake,
            Kind::Timer,
        ] {
            let tag = Tag::new(kind, (1 << 24) - 1, u32::MAX - 3);
            assert_eq!(Tag::unpack(tag.pack()), tag);
        }
    }
}
