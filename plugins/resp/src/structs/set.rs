//! Set commands: arguments to operations.

use crucible_plugin_api::{StructFlags as Flag, StructOp};

use super::{Ask, Missing, Shape, count_with_values, numbered_keys, pop_count, scan};
use crate::error::Refusal;
use crate::exec::{Ops, Pushed};
use crate::frame::Args;
use crate::number::parse_i64;
use crate::table::Cmd;

pub(super) fn push<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let key = args.at(1);
    match command {
        Cmd::Sadd => Ask::new(q, StructOp::SET_ADD, key).words(args.from(2)).push(Shape::Number),
        Cmd::Srem => {
            Ask::new(q, StructOp::SET_REMOVE, key).words(args.from(2)).push(Shape::Number);
        }
        Cmd::Sismember => {
            Ask::new(q, StructOp::SET_HAS, key).words(args.from(2)).push(Shape::Number);
        }
        Cmd::Smismember => {
            let shape = Shape::Each(args.len() as u32 - 2, Missing::Zero);
            Ask::new(q, StructOp::SET_HAS, key).words(args.from(2)).push(shape);
        }
        Cmd::Scard => Ask::new(q, StructOp::SET_LEN, key).push(Shape::Number),
        Cmd::Smembers => Ask::new(q, StructOp::SET_MEMBERS, key).push(Shape::Set),
        Cmd::Srandmember => {
            if args.len() > 3 {
                return Err(Refusal::Syntax);
            }
            let ask = Ask::new(q, StructOp::SET_RANDOM, key);
            match count_with_values(args, b"")? {
                None => ask.numbers(1, 0).push(Shape::One),
                Some((count, _)) => ask.numbers(count, 0).push(Shape::Array),
            }
        }
        Cmd::Spop => {
            if args.len() > 3 {
                return Err(Refusal::Syntax);
            }
            let ask = Ask::new(q, StructOp::SET_POP, key);
            match args.get(2) {
                None => ask.numbers(1, 0).push(Shape::One),
                Some(count) => ask.numbers(pop_count(count)?, 0).push(Shape::Set),
            }
        }
        Cmd::Smove => {
            let ask = Ask::new(q, StructOp::SET_MOVE, key).keys([args.at(2)]).word(args.at(3));
            ask.push(Shape::Number);
        }
        Cmd::Sinter | Cmd::Sunion | Cmd::Sdiff => {
            Ask::new(q, operation(command), key).keys(args.from(2)).push(Shape::Set);
        }
        Cmd::Sinterstore | Cmd::Sunionstore | Cmd::Sdiffstore => {
            let ask = Ask::new(q, operation(command), key).keys(args.from(2)).flag(Flag::STORE);
            ask.push(Shape::Number);
        }
        Cmd::Sintercard => {
            let too_many =
                Refusal::Text("ERR Number of keys can't be greater than number of args".to_owned());
            let n = numbered_keys(args, 1, too_many)?;
            let limit = card_limit(args, 2 + n)?;
            let mut keys = args.from(2).take(n);
            let first = keys.next().expect("there is at least one");
            let ask = Ask::new(q, StructOp::SET_INTER, first).keys(keys);
            ask.flag(Flag::CARD_ONLY).numbers(limit, 0).push(Shape::Number);
        }
        _ => return scan(StructOp::SET_SCAN, args, q),
    }
    Ok(())
}

fn operation(command: Cmd) -> StructOp {
    match command {
        Cmd::Sinter | Cmd::Sinterstore => StructOp::SET_INTER,
        Cmd::Sunion | Cmd::Sunionstore => StructOp::SET_UNION,
        _ => StructOp::SET_DIFF,
    }
}

/// `[LIMIT n]` of SINTERCARD and ZINTERCARD.
pub(super) fn card_limit(args: Args<'_, '_>, mut at: usize) -> Result<i64, Refusal> {
    let mut limit = 0;
    while let Some(word) = args.get(at) {
        let n = args.get(at + 1).filter(|_| word.eq_ignore_ascii_case(b"limit"));
        let n = n.ok_or(Refusal::Syntax)?;
        limit = parse_i64(n)
            .filter(|n| *n >= 0)
            .ok_or_else(|| Refusal::Text("ERR LIMIT can't be negative".to_owned()))?;
        at += 2;
    }
    Ok(limit)
}
