//! The ping protocol: `PING` and `PONG` lines, the floor under every other protocol.
//!
//! Always true: nothing but `PONG` is an answer. Called through [`super::Codec`].

use super::{Codec, Expect, Garbage, Keys, Outcome, Step, Store, line, unexpected};

/// Stateless.
#[derive(Debug)]
pub struct Ping;

const NOTHING_ELSE: &str = "the plan allows ping alone";

impl Codec for Ping {
    fn new() -> Self {
        Self
    }

    fn get(&mut self, _: &mut Vec<u8>, _: &[u8], _: bool) {
        unreachable!("{NOTHING_ELSE}");
    }
    fn get_many(&mut self, _: &mut Vec<u8>, _: &Keys) {
        unreachable!("{NOTHING_ELSE}");
    }
    fn store(&mut self, _: &mut Vec<u8>, _: &[u8], _: Store, _: impl FnOnce(&mut Vec<u8>)) {
        unreachable!("{NOTHING_ELSE}");
    }
    fn delete(&mut self, _: &mut Vec<u8>, _: &[u8]) {
        unreachable!("{NOTHING_ELSE}");
    }
    fn incr(&mut self, _: &mut Vec<u8>, _: &[u8]) {
        unreachable!("{NOTHING_ELSE}");
    }
    fn touch(&mut self, _: &mut Vec<u8>, _: &[u8], _: u32) {
        unreachable!("{NOTHING_ELSE}");
    }

    fn ping(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PING\r\n");
    }

    fn step(&mut self, bytes: &[u8], expect: Expect) -> Result<Step, Garbage> {
        let Some((text, used)) = line(bytes)? else { return Ok(Step::More) };
        match text {
            b"PONG" | b"+PONG" => Ok(Step::Done { used, outcome: Outcome::Ok }),
            _ => Err(unexpected(text, expect)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn only_pong_answers() {
        assert_eq!(reply::<Ping>(b"PONG\r\n", Expect::Ping).outcome, Some(Outcome::Ok));
        garbage::<Ping>(b"PUNG\r\n", Expect::Ping);
        garbage::<Ping>(b"\n", Expect::Ping);
    }
}
