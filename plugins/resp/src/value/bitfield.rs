//! BITFIELD: integers of 1 to 64 bits at any bit of a value. Called by the bitmap room.
//!
//! A list of steps is read from the arguments first; running it gives one answer for each GET, SET
//! and INCRBY, and the new value when anything was written.

use crate::error::Refusal;
use crate::frame::Args;
use crate::number::parse_i64;

/// Type of a field: sign and width. Unsigned fields have at most 63 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    signed: bool,
    bits: u32,
}

impl Encoding {
    fn parse(text: &[u8]) -> Result<Self, Refusal> {
        let (signed, digits) = match text {
            [b'i', digits @ ..] => (true, digits),
            [b'u', digits @ ..] => (false, digits),
            _ => return Err(Refusal::BitfieldType),
        };
        let bits = parse_i64(digits).ok_or(Refusal::BitfieldType)?;
        let most = if signed { 64 } else { 63 };
        if !(1..=most).contains(&bits) {
            return Err(Refusal::BitfieldType);
        }
        Ok(Encoding { signed, bits: bits as u32 })
    }

    fn max(self) -> i128 {
        if self.signed { (1i128 << (self.bits - 1)) - 1 } else { (1i128 << self.bits) - 1 }
    }

    fn min(self) -> i128 {
        if self.signed { -(1i128 << (self.bits - 1)) } else { 0 }
    }

    /// The number that the low bits spell.
    fn wrap(self, value: i128) -> i64 {
        let mask = (1i128 << self.bits) - 1;
        let low = value & mask;
        if self.signed && low > self.max() {
            (low - (1i128 << self.bits)) as i64
        } else {
            low as i64
        }
    }
}

/// What happens when a number leaves its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Overflow {
    #[default]
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Get,
    Set(i64),
    Increment(i64),
}

/// One GET, SET or INCRBY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    action: Action,
    encoding: Encoding,
    offset: u64,
    overflow: Overflow,
}

impl Step {
    /// Bytes a value has at least after it wrote.
    pub fn end_byte(&self) -> u64 {
        (self.offset + u64::from(self.encoding.bits)).div_ceil(8)
    }

    /// Whether it changes the value.
    pub fn writes(&self) -> bool {
        self.action != Action::Get
    }
}

/// Reads a bit offset: a number below `bits_max`, or `#n` meaning `n` fields.
pub fn parse_offset(text: &[u8], field_bits: Option<u32>, bits_max: u64) -> Result<u64, Refusal> {
    let (digits, factor) = match (text, field_bits) {
        ([b'#', digits @ ..], Some(bits)) => (digits, u64::from(bits)),
        _ => (text, 1),
    };
    let offset = parse_i64(digits).ok_or(Refusal::BitOffset)?;
    let offset = u64::try_from(offset).ok().and_then(|n| n.checked_mul(factor));
    offset.filter(|n| *n < bits_max).ok_or(Refusal::BitOffset)
}

/// Reads the steps that stand from argument `first` on.
pub fn parse(
    args: Args<'_, '_>,
    first: usize,
    read_only: bool,
    bits_max: u64,
) -> Result<Vec<Step>, Refusal> {
    let (mut steps, mut overflow, mut at) = (Vec::new(), Overflow::Wrap, first);
    while at < args.len() {
        let left = args.len() - at - 1;
        let word = args.at(at).to_ascii_lowercase();
        let operands = match word.as_slice() {
            b"get" if left >= 2 => 2,
            b"set" | b"incrby" if left >= 3 => 3,
            b"overflow" if left >= 1 => {
                overflow = match args.at(at + 1).to_ascii_lowercase().as_slice() {
                    b"wrap" => Overflow::Wrap,
                    b"sat" => Overflow::Saturate,
                    b"fail" => Overflow::Fail,
                    _ => return Err(Refusal::BitfieldOverflow),
                };
                at += 2;
                continue;
            }
            _ => return Err(Refusal::Syntax),
        };
        let encoding = Encoding::parse(args.at(at + 1))?;
        let offset = parse_offset(args.at(at + 2), Some(encoding.bits), bits_max)?;
        let action = if operands == 2 {
            Action::Get
        } else {
            let number = parse_i64(args.at(at + 3)).ok_or(Refusal::NotAnInteger)?;
            if word == b"set" { Action::Set(number) } else { Action::Increment(number) }
        };
        if read_only && action != Action::Get {
            return Err(Refusal::BitfieldReadOnly);
        }
        steps.push(Step { action, encoding, offset, overflow });
        at += operands + 1;
    }
    Ok(steps)
}

/// Runs steps on a value: their answers, and the new value when one wrote.
pub fn run(steps: &[Step], old: &[u8]) -> (Vec<Option<i64>>, Option<Vec<u8>>) {
    let (mut answers, mut new) = (Vec::with_capacity(steps.len()), None::<Vec<u8>>);
    for step in steps {
        let present = read(new.as_deref().unwrap_or(old), step.encoding, step.offset);
        let (answer, written) = match step.action {
            Action::Get => (Some(present), None),
            Action::Set(number) => {
                // An unsigned field takes the bits of a negative number as a large one.
                let wanted = if step.encoding.signed {
                    i128::from(number)
                } else {
                    i128::from(number as u64)
                };
                let stored = fit(step, wanted);
                (stored.map(|_| present), stored)
            }
            Action::Increment(by) => {
                let stored = fit(step, i128::from(present) + i128::from(by));
                (stored, stored)
            }
        };
        answers.push(answer);
        if step.writes() {
            // A failed step still creates or widens the value, as clients observe in Redis.
            let value = new.get_or_insert_with(|| old.to_vec());
            let behind = step.end_byte() as usize;
            if value.len() < behind {
                value.resize(behind, 0);
            }
            if let Some(number) = written {
                write(value, step.encoding, step.offset, number);
            }
        }
    }
    (answers, new)
}

/// The number that is stored for `wanted`; `None` when the step refuses to overflow.
fn fit(step: &Step, wanted: i128) -> Option<i64> {
    let (min, max) = (step.encoding.min(), step.encoding.max());
    if (min..=max).contains(&wanted) {
        return Some(wanted as i64);
    }
    match step.overflow {
        Overflow::Wrap => Some(step.encoding.wrap(wanted)),
        Overflow::Saturate => Some(if wanted > max { max as i64 } else { min as i64 }),
        Overflow::Fail => None,
    }
}

fn read(value: &[u8], encoding: Encoding, offset: u64) -> i64 {
    let mut number = 0i128;
    for bit in offset..offset + u64::from(encoding.bits) {
        number = number << 1 | i128::from(super::bits::get(value, bit));
    }
    encoding.wrap(number)
}

fn write(value: &mut [u8], encoding: Encoding, offset: u64, number: i64) {
    for i in 0..u64::from(encoding.bits) {
        let bit = offset + u64::from(encoding.bits) - 1 - i;
        let mask = 1u8 << (7 - bit % 8);
        let byte = &mut value[(bit / 8) as usize];
        if number >> i & 1 == 1 { *byte |= mask } else { *byte &= !mask }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Limits, Parser};

    fn steps(line: &str, read_only: bool) -> Result<Vec<Step>, Refusal> {
        let (mut parser, line) = (Parser::default(), format!("{line}\r\n"));
        parser.next(line.as_bytes(), &Limits::default()).unwrap();
        parse(Args::new(line.as_bytes(), parser.spans()), 0, read_only, 1 << 32)
    }

    fn answers(line: &str, old: &[u8]) -> (Vec<Option<i64>>, Option<Vec<u8>>) {
        run(&steps(line, false).unwrap(), old)
    }

    #[test]
    fn fields_are_read_and_written_at_any_bit() {
        assert_eq!(
            answers("get u4 0 get i4 0 get u8 #1", b"\xf1\x02").0,
            [Some(15), Some(-1), Some(2)]
        );
        let (got, new) = answers("set u8 4 255 get u16 0", b"\x00\x00");
        assert_eq!(got, [Some(0), Some(0x0ff0)]);
        assert_eq!(new.unwrap(), b"\x0f\xf0");
        assert_eq!(answers("set i64 0 -1", b"").1.unwrap(), [255; 8]);
        assert_eq!(answers("get u8 100", b"").1, None);
    }

    #[test]
    fn overflow_wraps_saturates_or_fails() {
        assert_eq!(answers("incrby u2 0 3 incrby u2 0 1", b"").0, [Some(3), Some(0)]);
        assert_eq!(answers("overflow sat incrby u2 0 9", b"").0, [Some(3)]);
        assert_eq!(answers("overflow sat incrby i4 0 -99", b"").0, [Some(-8)]);
        assert_eq!(answers("overflow fail incrby u2 0 4", b"").0, [None]);
        assert_eq!(answers("overflow fail set u2 0 4", b"").0, [None]);
        assert_eq!(
            answers("incrby i64 0 9223372036854775807 incrby i64 0 1", b"").0[1],
            Some(i64::MIN)
        );
    }

    #[test]
    fn bad_steps_are_refused_with_their_text() {
        for (line, refusal) in [
            ("get u64 0", Refusal::BitfieldType),
            ("get i65 0", Refusal::BitfieldType),
            ("get x8 0", Refusal::BitfieldType),
            ("get u0 0", Refusal::BitfieldType),
            ("get u8 -1", Refusal::BitOffset),
            ("get u8 #-1", Refusal::BitOffset),
            ("get u8 4294967296", Refusal::BitOffset),
            ("get u8", Refusal::Syntax),
            ("set u8 0", Refusal::Syntax),
            ("set u8 0 x", Refusal::NotAnInteger),
            ("overflow maybe", Refusal::BitfieldOverflow),
            ("what", Refusal::Syntax),
        ] {
            assert_eq!(steps(line, false), Err(refusal), "{line}");
        }
        assert_eq!(steps("set u8 0 1", true), Err(Refusal::BitfieldReadOnly));
    }
}
