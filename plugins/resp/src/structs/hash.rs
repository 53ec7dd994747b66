//! Hash commands: arguments to operations.

use crucible_plugin_api::{StructFlags as Flag, StructOp};

use super::{Ask, Missing, Shape, count_with_values, scan};
use crate::error::Refusal;
use crate::exec::{Ops, Pushed};
use crate::frame::Args;
use crate::number::{parse_f64, parse_i64};
use crate::options::{Clock, any_deadline, positive_deadline};
use crate::table::Cmd;
use crate::ticket::TtlKind;

pub(super) fn push<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let key = args.at(1);
    match command {
        Cmd::Hset | Cmd::Hmset => {
            if !args.len().is_multiple_of(2) {
                return Err(Refusal::Arity(command.spec().name.to_owned()));
            }
            let shape = if command == Cmd::Hset { Shape::Number } else { Shape::Ok };
            Ask::new(q, StructOp::HASH_SET, key).words(args.from(2)).push(shape);
        }
        Cmd::Hsetnx => {
            let ask = Ask::new(q, StructOp::HASH_SET, key).words(args.from(2)).flag(Flag::IF_NEW);
            ask.push(Shape::Flag);
        }
        Cmd::Hget => Ask::new(q, StructOp::HASH_GET, key).words(args.from(2)).push(Shape::One),
        Cmd::Hmget => {
            let shape = Shape::Each(args.len() as u32 - 2, Missing::Null);
            Ask::new(q, StructOp::HASH_GET, key).words(args.from(2)).push(shape);
        }
        Cmd::Hgetall => Ask::new(q, StructOp::HASH_GETALL, key).push(Shape::Map),
        Cmd::Hkeys => {
            Ask::new(q, StructOp::HASH_GETALL, key).flag(Flag::FIELDS_ONLY).push(Shape::Array);
        }
        Cmd::Hvals => {
            Ask::new(q, StructOp::HASH_GETALL, key).flag(Flag::VALUES_ONLY).push(Shape::Array);
        }
        Cmd::Hdel => Ask::new(q, StructOp::HASH_DEL, key).words(args.from(2)).push(Shape::Number),
        Cmd::Hlen => Ask::new(q, StructOp::HASH_LEN, key).push(Shape::Number),
        Cmd::Hexists => {
            Ask::new(q, StructOp::HASH_EXISTS, key).words(args.from(2)).push(Shape::Number);
        }
        Cmd::Hstrlen => {
            Ask::new(q, StructOp::HASH_STRLEN, key).words(args.from(2)).push(Shape::Number);
        }
        Cmd::Hincrby => {
            let by = parse_i64(args.at(3)).ok_or(Refusal::NotAnInteger)?;
            let ask = Ask::new(q, StructOp::HASH_INCR, key).word(args.at(2)).numbers(by, 0);
            ask.push(Shape::HashNumber);
        }
        Cmd::Hincrbyfloat => {
            let by = parse_f64(args.at(3)).ok_or(Refusal::NotAFloat)?;
            if !by.is_finite() {
                return Err(Refusal::Text("ERR value is NaN or Infinity".to_owned()));
            }
            let ask = Ask::new(q, StructOp::HASH_INCR_FLOAT, key).words(args.from(2));
            ask.push(Shape::HashFloat);
        }
        Cmd::Hrandfield => {
            let Some((count, with)) = count_with_values(args, b"withvalues")? else {
                Ask::new(q, StructOp::HASH_RANDOM, key).numbers(1, 0).push(Shape::One);
                return Ok(());
            };
            let ask = Ask::new(q, StructOp::HASH_RANDOM, key).numbers(count, 0);
            if with {
                ask.flag(Flag::WITH_VALUES).push(Shape::Pairs);
            } else {
                ask.push(Shape::Array);
            }
        }
        Cmd::Hscan => return scan(StructOp::HASH_SCAN, args, q),
        _ => return push_fields(command, args, q),
    }
    Ok(())
}

/// Commands about fields that are listed behind `FIELDS n`.
fn push_fields<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let key = args.at(1);
    let each = |n: usize, missing| Shape::Each(n as u32, missing);
    match command {
        Cmd::Hgetdel => {
            let (first, n) = listed(args, 2, 1)?;
            let ask = Ask::new(q, StructOp::HASH_GETDEL, key).words(args.from(first));
            ask.push(each(n, Missing::Null));
        }
        Cmd::Hgetex => hgetex(args, q)?,
        Cmd::Hsetex => hsetex(args, q)?,
        Cmd::Hexpire | Cmd::Hpexpire | Cmd::Hexpireat | Cmd::Hpexpireat => {
            hexpire(command, args, q)?;
        }
        Cmd::Hpersist => {
            let (first, n) = listed(args, 2, 1)?;
            let ask = Ask::new(q, StructOp::HASH_PERSIST, key).words(args.from(first));
            ask.push(each(n, Missing::NoField));
        }
        _ => {
            let kind = match command {
                Cmd::Httl => TtlKind::Seconds,
                Cmd::Hpttl => TtlKind::Millis,
                Cmd::Hexpiretime => TtlKind::UnixSeconds,
                _ => TtlKind::UnixMillis,
            };
            let (first, n) = listed(args, 2, 1)?;
            let ask = Ask::new(q, StructOp::HASH_DEADLINE, key).words(args.from(first));
            ask.push(Shape::Deadlines(n as u32, kind));
        }
    }
    Ok(())
}

/// `FIELDS n` at position `at`, and n groups of `each` words behind it: where they begin, and n.
fn listed(args: Args<'_, '_>, at: usize, each: usize) -> Result<(usize, usize), Refusal> {
    let text = |text: &str| Refusal::Text(text.to_owned());
    if !args.get(at).is_some_and(|word| word.eq_ignore_ascii_case(b"fields")) {
        return Err(text("ERR Mandatory argument FIELDS is missing or not at the right position"));
    }
    let n = args.get(at + 1).and_then(parse_i64).filter(|n| *n > 0);
    let n = n.ok_or_else(|| text("ERR Parameter `numFields` should be greater than 0"))?;
    let words = args.len() - (at + 2);
    if !words.is_multiple_of(each) || usize::try_from(n) != Ok(words / each) {
        return Err(text("ERR The `numfields` parameter must match the number of arguments"));
    }
    Ok((at + 2, words / each))
}

/// The clock that an option names.
fn clock_of(word: &[u8]) -> Option<Clock> {
    Some(match word.to_ascii_lowercase().as_slice() {
        b"ex" => Clock::Seconds,
        b"px" => Clock::Millis,
        b"exat" => Clock::UnixSeconds,
        b"pxat" => Clock::UnixMillis,
        _ => return None,
    })
}

/// HGETEX key [EX s|PX ms|EXAT s|PXAT ms|PERSIST] FIELDS n field ..
fn hgetex<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let (mut at, mut flags, mut deadline) = (2, Flag::NONE, 0);
    let word = args.at(2);
    if word.eq_ignore_ascii_case(b"persist") {
        flags = Flag::PERSIST;
        at += 1;
    } else if let Some(clock) = clock_of(word) {
        let amount = args.get(3).ok_or(Refusal::Syntax)?;
        deadline = positive_deadline(amount, clock, q.now_ms(), "hgetex")?;
        flags = Flag::FIELD_TTL;
        at += 2;
    }
    let (first, n) = listed(args, at, 1)?;
    let ask = Ask::new(q, StructOp::HASH_GETEX, args.at(1)).words(args.from(first));
    ask.flag(flags).numbers(0, deadline as i64).push(Shape::Each(n as u32, Missing::Null));
    Ok(())
}

/// HSETEX key [FNX|FXX] [EX s|PX ms|EXAT s|PXAT ms|KEEPTTL] FIELDS n field value ..
fn hsetex<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let (mut at, mut condition, mut time) = (2, false, false);
    let (mut flags, mut deadline) = (Flag::NONE, 0);
    while let Some(word) = args.get(at).filter(|w| !w.eq_ignore_ascii_case(b"fields")) {
        let flag = match word.to_ascii_lowercase().as_slice() {
            b"fnx" => Flag::IF_NEW,
            b"fxx" => Flag::IF_HELD,
            b"keepttl" => Flag::KEEP_FIELD_TTL,
            _ => match clock_of(word) {
                Some(clock) => {
                    let amount = args.get(at + 1).ok_or(Refusal::Syntax)?;
                    deadline = positive_deadline(amount, clock, q.now_ms(), "hsetex")?;
                    at += 1;
                    Flag::FIELD_TTL
                }
                None => return Err(Refusal::Syntax),
            },
        };
        let said =
            if flag == Flag::IF_NEW || flag == Flag::IF_HELD { &mut condition } else { &mut time };
        if std::mem::replace(said, true) {
            return Err(Refusal::Syntax);
        }
        flags = flags | flag;
        at += 1;
    }
    let (first, _) = listed(args, at, 2)?;
    let ask = Ask::new(q, StructOp::HASH_SET, args.at(1)).words(args.from(first));
    ask.flag(flags).numbers(0, deadline as i64).push(Shape::Flag);
    Ok(())
}

/// HEXPIRE key time [NX|XX|GT|LT] FIELDS n field .., in four units.
fn hexpire<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    use crucible_plugin_api::Opts;
    let clock = match command {
        Cmd::Hexpire => Clock::Seconds,
        Cmd::Hpexpire => Clock::Millis,
        Cmd::Hexpireat => Clock::UnixSeconds,
        _ => Clock::UnixMillis,
    };
    if parse_i64(args.at(2)).is_some_and(|n| n < 0) {
        return Err(Refusal::Text("ERR invalid expire time, must be >= 0".to_owned()));
    }
    let deadline = any_deadline(args.at(2), clock, q.now_ms(), command.spec().name)?;
    let condition = match args.at(3).to_ascii_lowercase().as_slice() {
        b"nx" => Some(Opts::IF_NO_TTL),
        b"xx" => Some(Opts::IF_TTL),
        b"gt" => Some(Opts::IF_LATER),
        b"lt" => Some(Opts::IF_EARLIER),
        _ => None,
    };
    let (first, n) = listed(args, 3 + usize::from(condition.is_some()), 1)?;
    let ask = Ask::new(q, StructOp::HASH_EXPIRE, args.at(1)).words(args.from(first));
    let ask = ask.opts(condition.unwrap_or(Opts::NONE)).numbers(0, deadline as i64);
    ask.push(Shape::Each(n as u32, Missing::NoField));
    Ok(())
}
