//! List commands: arguments to operations. Those that wait are in `blocking`.

use crucible_plugin_api::{Condition, Element, StructFlags as Flag, StructOp};

use super::{Ask, Missing, Shape, numbered_keys, pop_count, positive};
use crate::error::Refusal;
use crate::exec::{Ops, Pushed};
use crate::frame::Args;
use crate::number::parse_i64;
use crate::table::Cmd;

/// LEFT or RIGHT; `true` is left.
pub(super) fn end(word: &[u8]) -> Result<bool, Refusal> {
    if word.eq_ignore_ascii_case(b"left") {
        Ok(true)
    } else if word.eq_ignore_ascii_case(b"right") {
        Ok(false)
    } else {
        Err(Refusal::Syntax)
    }
}

fn integer(text: &[u8]) -> Result<i64, Refusal> {
    parse_i64(text).ok_or(Refusal::NotAnInteger)
}

pub(super) fn push<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let key = args.at(1);
    match command {
        Cmd::Lpush | Cmd::Rpush | Cmd::Lpushx | Cmd::Rpushx => {
            let mut ask = Ask::new(q, StructOp::LIST_PUSH, key).words(args.from(2));
            if matches!(command, Cmd::Lpush | Cmd::Lpushx) {
                ask = ask.flag(Flag::LEFT);
            }
            if matches!(command, Cmd::Lpushx | Cmd::Rpushx) {
                ask = ask.condition(Condition::IF_PRESENT);
            }
            ask.push(Shape::Number);
        }
        Cmd::Lpop | Cmd::Rpop => {
            if args.len() > 3 {
                return Err(Refusal::Arity(command.spec().name.to_owned()));
            }
            let ask = Ask::new(q, StructOp::LIST_POP, key);
            let ask = if command == Cmd::Lpop { ask.flag(Flag::LEFT) } else { ask };
            match args.get(2) {
                None => ask.numbers(1, 0).push(Shape::One),
                Some(count) => ask.numbers(pop_count(count)?, 0).push(Shape::ArrayOrNull),
            }
        }
        Cmd::Llen => Ask::new(q, StructOp::LIST_LEN, key).push(Shape::Number),
        Cmd::Lrange => {
            let (start, stop) = (integer(args.at(2))?, integer(args.at(3))?);
            Ask::new(q, StructOp::LIST_RANGE, key).numbers(start, stop).push(Shape::Array);
        }
        Cmd::Lindex => match parse_i64(args.at(2)) {
            Some(index) => {
                Ask::new(q, StructOp::LIST_INDEX, key).numbers(index, 0).push(Shape::One)
            }
            None => {
                let ask = Ask::new(q, StructOp::LIST_LEN, key);
                ask.guarded(&Refusal::NotAnInteger, Missing::Null);
            }
        },
        Cmd::Lset => match parse_i64(args.at(2)) {
            Some(index) => {
                let ask = Ask::new(q, StructOp::LIST_SET, key).word(args.at(3)).numbers(index, 0);
                ask.push(Shape::OkIfPresent);
            }
            None => {
                let ask = Ask::new(q, StructOp::LIST_LEN, key);
                ask.guarded(&Refusal::NotAnInteger, Missing::NoSuchKey);
            }
        },
        Cmd::Linsert => {
            let ask = Ask::new(q, StructOp::LIST_INSERT, key).words(args.from(3));
            let ask = if args.at(2).eq_ignore_ascii_case(b"before") {
                ask.flag(Flag::BEFORE)
            } else if args.at(2).eq_ignore_ascii_case(b"after") {
                ask
            } else {
                return Err(Refusal::Syntax);
            };
            ask.push(Shape::Number);
        }
        Cmd::Lrem => {
            let count = integer(args.at(2))?;
            let ask = Ask::new(q, StructOp::LIST_REMOVE, key).word(args.at(3)).numbers(count, 0);
            ask.push(Shape::Number);
        }
        Cmd::Ltrim => {
            let (start, stop) = (integer(args.at(2))?, integer(args.at(3))?);
            Ask::new(q, StructOp::LIST_TRIM, key).numbers(start, stop).push(Shape::Ok);
        }
        Cmd::Lpos => return lpos(args, q),
        Cmd::Lmove => {
            let (from, to) = (end(args.at(3))?, end(args.at(4))?);
            let ask = Ask::new(q, StructOp::LIST_MOVE, key).keys([args.at(2)]);
            ask.flag(move_flags(from, to)).push(Shape::One);
        }
        Cmd::Rpoplpush => {
            let ask = Ask::new(q, StructOp::LIST_MOVE, key).keys([args.at(2)]);
            ask.flag(move_flags(false, true)).push(Shape::One);
        }
        _ => {
            let pop = read_mpop(args, 1, end)?;
            let mut keys = args.from(pop.first).take(pop.keys);
            let first = keys.next().expect("there is at least one");
            let ask = Ask::new(q, StructOp::LIST_MPOP, first).keys(keys).numbers(pop.count, 0);
            ask.flag(move_flags(pop.left, false)).push(Shape::KeyAndArray);
        }
    }
    Ok(())
}

/// From which end to which.
pub(super) fn move_flags(left: bool, to_left: bool) -> Flag {
    let flag = |on, flag| if on { flag } else { Flag::NONE };
    flag(left, Flag::LEFT) | flag(to_left, Flag::TO_LEFT)
}

/// What LMPOP and BLMPOP ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mpop {
    /// Position of the first key.
    pub(super) first: usize,
    /// How many keys.
    pub(super) keys: usize,
    /// From the left (the least member, of sorted sets).
    pub(super) left: bool,
    /// How many elements.
    pub(super) count: i64,
}

/// Reads `numkeys key .. end [COUNT n]` at position `at`; `end` reads the end's name.
pub(super) fn read_mpop(
    args: Args<'_, '_>,
    at: usize,
    end: impl Fn(&[u8]) -> Result<bool, Refusal>,
) -> Result<Mpop, Refusal> {
    let keys = numbered_keys(args, at, Refusal::Syntax)?;
    let where_at = at + 1 + keys;
    let left = end(args.get(where_at).ok_or(Refusal::Syntax)?)?;
    let mut count = None;
    let mut next = where_at + 1;
    while let Some(word) = args.get(next) {
        let n = args.get(next + 1).filter(|_| word.eq_ignore_ascii_case(b"count"));
        let (Some(n), None) = (n, count) else { return Err(Refusal::Syntax) };
        count = Some(positive(n, "ERR count should be greater than 0")?);
        next += 2;
    }
    Ok(Mpop { first: at + 1, keys, left, count: count.unwrap_or(1) })
}

/// LPOS key element [RANK rank] [COUNT count] [MAXLEN len]
fn lpos<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let (mut rank, mut count, mut len_max) = (1, None, 0);
    let text = |text: &str| Refusal::Text(text.to_owned());
    let not_negative =
        |word: &[u8], error: &str| parse_i64(word).filter(|n| *n >= 0).ok_or_else(|| text(error));
    let mut at = 3;
    while let Some(word) = args.get(at) {
        let value = args.get(at + 1).ok_or(Refusal::Syntax)?;
        match word.to_ascii_lowercase().as_slice() {
            b"rank" => {
                rank = integer(value)?;
                if rank == i64::MIN {
                    return Err(text(
                        "ERR value is out of range, value must between \
                        -9223372036854775807 and 9223372036854775807",
                    ));
                }
                if rank == 0 {
                    return Err(text(
                        "ERR RANK can't be zero: use 1 to start from the first match, \
                        2 from the second ... or use negative to start from the end of the list",
                    ));
                }
            }
            b"count" => count = Some(not_negative(value, "ERR COUNT can't be negative")?),
            b"maxlen" => len_max = not_negative(value, "ERR MAXLEN can't be negative")?,
            _ => return Err(Refusal::Syntax),
        }
        at += 2;
    }
    let ask = Ask::new(q, StructOp::LIST_POS, args.at(1)).elements([
        Element::bytes(args.at(2)),
        Element::int(rank),
        Element::int(count.unwrap_or(1)),
        Element::int(len_max),
    ]);
    ask.push(if count.is_some() { Shape::Array } else { Shape::One });
    Ok(())
}
