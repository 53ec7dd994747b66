//! Bitmap commands: SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP, BITFIELD.

use std::rc::Rc;

use crucible_plugin_api::{Change, Op};

use super::{Ops, Pushed, strings};
use crate::error::Refusal;
use crate::frame::Args;
use crate::number::parse_i64;
use crate::table::Cmd;
use crate::ticket::{Bitpos, SharedFound, Ticket};
use crate::value::bitfield;
use crate::value::bits::{self, Operation, Unit};

/// Bits of the longest value.
const BITS_MAX: u64 = strings::VALUE_LEN_BYTES_MAX as u64 * 8;

pub(super) fn setbit<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let offset = bitfield::parse_offset(args.at(2), None, BITS_MAX)?;
    let on = match parse_i64(args.at(3)) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(Refusal::BitValue),
    };
    if offset / 8 >= strings::value_len_max(q) as u64 {
        return Err(Refusal::ValueTooLarge);
    }
    q.modify(args.at(1), move |old| {
        let present = old.map(|item| item.value().to_cow());
        let (new, was) = bits::set(present.as_deref().unwrap_or(b""), offset, on);
        Change::replace(new, old).with_note(i64::from(was))
    });
    q.end(Ticket::Number);
    Ok(())
}

pub(super) fn getbit<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let offset = bitfield::parse_offset(args.at(2), None, BITS_MAX)?;
    q.command(Op::get(args.at(1)), Ticket::Bit(offset));
    Ok(())
}

fn unit(text: &[u8]) -> Result<Unit, Refusal> {
    if text.eq_ignore_ascii_case(b"byte") {
        Ok(Unit::Byte)
    } else if text.eq_ignore_ascii_case(b"bit") {
        Ok(Unit::Bit)
    } else {
        Err(Refusal::Syntax)
    }
}

pub(super) fn bitcount<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let (start, end, unit) = match args.len() {
        2 => (0, -1, Unit::Byte),
        4 | 5 => {
            let start = parse_i64(args.at(2)).ok_or(Refusal::NotAnInteger)?;
            let end = parse_i64(args.at(3)).ok_or(Refusal::NotAnInteger)?;
            (start, end, args.get(4).map_or(Ok(Unit::Byte), unit)?)
        }
        _ => return Err(Refusal::Syntax),
    };
    q.op(Op::get(args.at(1)));
    q.end(match unit {
        Unit::Byte => Ticket::CountBytes(start, end),
        Unit::Bit => Ticket::CountBits(start, end),
    });
    Ok(())
}

pub(super) fn bitpos<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let on = match parse_i64(args.at(2)).ok_or(Refusal::NotAnInteger)? {
        0 => false,
        1 => true,
        _ => return Err(Refusal::BitArgument),
    };
    if args.len() > 6 {
        return Err(Refusal::Syntax);
    }
    let position = |i: usize, default: i64| {
        args.get(i).map_or(Ok(default), |text| parse_i64(text).ok_or(Refusal::NotAnInteger))
    };
    let (start, end) = (position(3, 0)?, position(4, -1)?);
    let unit = args.get(5).map_or(Ok(Unit::Byte), unit)?;
    let ask = Bitpos { on, start, end, unit, open_end: args.len() < 5 };
    q.command(Op::get(args.at(1)), Ticket::Bitpos(Box::new(ask)));
    Ok(())
}

pub(super) fn bitop<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let operation = match args.at(1).to_ascii_lowercase().as_slice() {
        b"and" => Operation::And,
        b"or" => Operation::Or,
        b"xor" => Operation::Xor,
        b"not" => Operation::Not,
        _ => return Err(Refusal::Syntax),
    };
    if operation == Operation::Not && args.len() != 4 {
        return Err(Refusal::BitopNot);
    }
    q.op(Op::nop(args.at(2)));
    for key in args.from(3) {
        q.op(Op::get(key));
    }
    q.end_barrier(Ticket::Bitop(operation));
    Ok(())
}

pub(super) fn bitfield<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let read_only = command == Cmd::BitfieldRo;
    let steps = bitfield::parse(args, 2, read_only, BITS_MAX)?;
    if !steps.iter().any(bitfield::Step::writes) {
        q.command(Op::get(args.at(1)), Ticket::Fields(steps.into()));
        return Ok(());
    }
    if steps.iter().any(|s| s.writes() && s.end_byte() > strings::value_len_max(q) as u64) {
        return Err(Refusal::ValueTooLarge);
    }
    let found = SharedFound::default();
    let seen = Rc::clone(&found);
    q.modify(args.at(1), move |old| {
        let present = old.map(|item| item.value().to_cow());
        let (numbers, new) = bitfield::run(&steps, present.as_deref().unwrap_or(b""));
        seen.borrow_mut().numbers = numbers;
        Change::replace(new.unwrap_or_default(), old)
    });
    q.end(Ticket::FieldsFound(found));
    Ok(())
}
