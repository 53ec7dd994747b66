//! Numbers that look random and are the same in every run, or that a fuzzer chose.

/// A xorshift generator, or a tape of bytes.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
    /// Bytes in their order, last first.
    tape: Option<Vec<u8>>,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed.max(1), tape: None }
    }

    /// Numbers are read from the tape; past its end they are all 0.
    pub(crate) fn of_tape(tape: &[u8]) -> Self {
        Self { state: 1, tape: Some(tape.iter().rev().copied().collect()) }
    }

    /// Whether there was a tape and it has been read to its end.
    pub(crate) fn is_over(&self) -> bool {
        self.tape.as_ref().is_some_and(Vec::is_empty)
    }

    /// Below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        if let Some(tape) = &mut self.tape {
            // As many bytes as the limit needs, so that each counts.
            let len = (64 - (limit - 1).leading_zeros()).div_ceil(8);
            let number = (0..len).fold(0, |n, _| n << 8 | u64::from(tape.pop().unwrap_or(0)));
            return number % limit;
        }
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tape_is_read_byte_by_byte_and_ends() {
        let mut random = Random::of_tape(&[7, 1, 2]);
        assert_eq!(random.below(10), 7);
        assert_eq!(random.below(1 << 16), 0x0102);
        assert!(random.is_over());
        assert_eq!(random.below(5), 0);
        assert!(!Random::new(1).is_over());
    }
}
