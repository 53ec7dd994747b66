//! Sorted set commands: arguments to operations. Those that wait are in `blocking`.

use crucible_plugin_api::{Element, StructFlags as Flag, StructOp};

use super::bounds::{self, LexBound, ScoreBound};
use super::{Ask, Missing, Shape, count_with_values, list, pop_count, scan, set};
use crate::error::Refusal;
use crate::exec::{Ops, Pushed};
use crate::frame::Args;
use crate::number::{parse_i64, parse_score};
use crate::table::Cmd;

fn text(text: &str) -> Refusal {
    Refusal::Text(text.to_owned())
}

pub(super) fn push<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let key = args.at(1);
    match command {
        Cmd::Zadd | Cmd::Zincrby => return zadd(command, args, q),
        Cmd::Zrem => {
            Ask::new(q, StructOp::ZSET_REMOVE, key).words(args.from(2)).push(Shape::Number);
        }
        Cmd::Zcard => Ask::new(q, StructOp::ZSET_LEN, key).push(Shape::Number),
        Cmd::Zscore => {
            Ask::new(q, StructOp::ZSET_SCORE, key).words(args.from(2)).push(Shape::One);
        }
        Cmd::Zmscore => {
            let shape = Shape::Each(args.len() as u32 - 2, Missing::Null);
            Ask::new(q, StructOp::ZSET_SCORE, key).words(args.from(2)).push(shape);
        }
        Cmd::Zcount => {
            let within = Within::score(args.at(2), args.at(3))?;
            within.ask(q, StructOp::ZSET_COUNT, key).push(Shape::Number);
        }
        Cmd::Zlexcount => {
            let within = Within::lex(args.at(2), args.at(3))?;
            within.ask(q, StructOp::ZSET_COUNT, key).push(Shape::Number);
        }
        Cmd::Zrank | Cmd::Zrevrank => {
            let with_score = match args.get(3) {
                None => false,
                Some(_) if args.len() > 4 => {
                    return Err(Refusal::Arity(command.spec().name.to_owned()));
                }
                Some(word) if word.eq_ignore_ascii_case(b"withscore") => true,
                Some(_) => return Err(Refusal::Syntax),
            };
            let rev = if command == Cmd::Zrank { Flag::NONE } else { Flag::REV };
            let ask = Ask::new(q, StructOp::ZSET_RANK, key).word(args.at(2)).flag(rev);
            ask.push(Shape::Rank { with_score });
        }
        Cmd::Zpopmin | Cmd::Zpopmax => {
            if args.len() > 3 {
                return Err(Refusal::Syntax);
            }
            let rev = if command == Cmd::Zpopmin { Flag::NONE } else { Flag::REV };
            let count = args.get(2).map(pop_count).transpose()?;
            let ask = Ask::new(q, StructOp::ZSET_POP, key).flag(rev);
            let shape = if count.is_some() { Shape::Pairs } else { Shape::Array };
            ask.numbers(count.unwrap_or(1), 0).push(shape);
        }
        Cmd::Zmpop => {
            let pop = list::read_mpop(args, 1, end)?;
            let mut keys = args.from(pop.first).take(pop.keys);
            let first = keys.next().expect("there is at least one");
            let rev = if pop.left { Flag::NONE } else { Flag::REV };
            let ask = Ask::new(q, StructOp::ZSET_MPOP, first).keys(keys).flag(rev);
            ask.numbers(pop.count, 0).push(Shape::KeyAndPairs);
        }
        Cmd::Zrandmember => {
            let Some((count, with)) = count_with_values(args, b"withscores")? else {
                Ask::new(q, StructOp::ZSET_RANDOM, key).numbers(1, 0).push(Shape::One);
                return Ok(());
            };
            let ask = Ask::new(q, StructOp::ZSET_RANDOM, key).numbers(count, 0);
            if with {
                ask.flag(Flag::WITH_SCORES).push(Shape::Pairs);
            } else {
                ask.push(Shape::Array);
            }
        }
        Cmd::Zscan => return scan(StructOp::ZSET_SCAN, args, q),
        Cmd::Zunion | Cmd::Zinter | Cmd::Zdiff | Cmd::Zintercard => {
            return combine(command, args, 1, q);
        }
        Cmd::Zunionstore | Cmd::Zinterstore | Cmd::Zdiffstore => {
            return combine(command, args, 2, q);
        }
        _ => return ranges(command, args, q),
    }
    Ok(())
}

/// MIN or MAX; `true` is the least.
pub(super) fn end(word: &[u8]) -> Result<bool, Refusal> {
    if word.eq_ignore_ascii_case(b"min") {
        Ok(true)
    } else if word.eq_ignore_ascii_case(b"max") {
        Ok(false)
    } else {
        Err(Refusal::Syntax)
    }
}

/// ZADD key [NX|XX] [GT|LT] [CH] [INCR] score member .., and ZINCRBY key score member.
fn zadd<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let (mut flags, mut at) = (Flag::NONE, 2);
    if command == Cmd::Zincrby {
        flags = Flag::INCR;
    } else {
        while let Some(word) = args.get(at) {
            flags = flags
                | match word.to_ascii_lowercase().as_slice() {
                    b"nx" => Flag::IF_NEW,
                    b"xx" => Flag::IF_HELD,
                    b"gt" => Flag::GREATER,
                    b"lt" => Flag::LESS,
                    b"ch" => Flag::COUNT_CHANGED,
                    b"incr" => Flag::INCR,
                    _ => break,
                };
            at += 1;
        }
    }
    let words = args.len() - at;
    if words == 0 || !words.is_multiple_of(2) {
        return Err(Refusal::Syntax);
    }
    let (new, greater, less) =
        (flags.has(Flag::IF_NEW), flags.has(Flag::GREATER), flags.has(Flag::LESS));
    if new && flags.has(Flag::IF_HELD) {
        return Err(text("ERR XX and NX options at the same time are not compatible"));
    }
    if (new && (greater || less)) || (greater && less) {
        return Err(text("ERR GT, LT, and/or NX options at the same time are not compatible"));
    }
    if flags.has(Flag::INCR) && words > 2 {
        return Err(text("ERR INCR option supports a single increment-element pair"));
    }
    for i in (at..args.len()).step_by(2) {
        parse_score(args.at(i)).ok_or(Refusal::NotAFloat)?;
    }
    let pairs = (at..args.len()).map(|i| {
        if (i - at).is_multiple_of(2) {
            Element::double(parse_score(args.at(i)).unwrap_or_default())
        } else {
            Element::bytes(args.at(i))
        }
    });
    let shape = if flags.has(Flag::INCR) { Shape::Score } else { Shape::Number };
    Ask::new(q, StructOp::ZSET_ADD, args.at(1)).elements(pairs).flag(flags).push(shape);
    Ok(())
}

/// The bounds of a range.
enum Within<'a> {
    /// Ranks.
    Rank(i64, i64),
    /// Least and greatest score.
    Score(ScoreBound, ScoreBound),
    /// First and last member.
    Lex(LexBound<'a>, LexBound<'a>),
}

impl<'a> Within<'a> {
    fn rank(start: &[u8], stop: &[u8]) -> Result<Self, Refusal> {
        let integer = |text| parse_i64(text).ok_or(Refusal::NotAnInteger);
        Ok(Self::Rank(integer(start)?, integer(stop)?))
    }

    fn score(min: &[u8], max: &[u8]) -> Result<Self, Refusal> {
        Ok(Self::Score(bounds::score(min)?, bounds::score(max)?))
    }

    fn lex(min: &'a [u8], max: &'a [u8]) -> Result<Self, Refusal> {
        Ok(Self::Lex(bounds::lex(min)?, bounds::lex(max)?))
    }

    /// An operation within these bounds, of all that is in them.
    fn ask<'q>(self, q: Ops<'q, 'a>, op: StructOp, key: &'a [u8]) -> Ask<'q, 'a> {
        self.part(q, op, key, 0, -1)
    }

    /// An operation within these bounds that skips some and takes a number of the rest.
    fn part<'q>(
        self,
        q: Ops<'q, 'a>,
        op: StructOp,
        key: &'a [u8],
        skip: i64,
        count: i64,
    ) -> Ask<'q, 'a> {
        let open = |on: bool, flag| if on { flag } else { Flag::NONE };
        let ask = Ask::new(q, op, key);
        match self {
            Within::Rank(start, stop) => ask.numbers(start, stop),
            Within::Score(min, max) => ask
                .elements([Element::double(min.score), Element::double(max.score)])
                .flag(Flag::BY_SCORE)
                .flag(open(min.exclusive, Flag::MIN_OPEN))
                .flag(open(max.exclusive, Flag::MAX_OPEN))
                .numbers(skip, count),
            Within::Lex(min, max) => {
                let element = |bound| match bound {
                    LexBound::First => Element::int(-1),
                    LexBound::Last => Element::int(1),
                    LexBound::Inclusive(member) | LexBound::Exclusive(member) => {
                        Element::bytes(member)
                    }
                };
                let exclusive = |bound| matches!(bound, LexBound::Exclusive(_));
                ask.elements([element(min), element(max)])
                    .flag(Flag::BY_LEX)
                    .flag(open(exclusive(min), Flag::MIN_OPEN))
                    .flag(open(exclusive(max), Flag::MAX_OPEN))
                    .numbers(skip, count)
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// The ZRANGE family and the ZREMRANGE family.
fn ranges<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let remove = |within: Within<'a>, q: Ops<'_, 'a>| {
        within.ask(q, StructOp::ZSET_REMOVE_RANGE, args.at(1)).push(Shape::Number);
        Ok(())
    };
    match command {
        Cmd::Zremrangebyrank => return remove(Within::rank(args.at(2), args.at(3))?, q),
        Cmd::Zremrangebyscore => return remove(Within::score(args.at(2), args.at(3))?, q),
        Cmd::Zremrangebylex => return remove(Within::lex(args.at(2), args.at(3))?, q),
        _ => {}
    }
    let store = command == Cmd::Zrangestore;
    // What the old commands fix, ZRANGE and ZRANGESTORE leave to options.
    let (mut by, mut rev) = match command {
        Cmd::Zrevrange => (Some(By::Rank), Some(true)),
        Cmd::Zrangebyscore => (Some(By::Score), Some(false)),
        Cmd::Zrevrangebyscore => (Some(By::Score), Some(true)),
        Cmd::Zrangebylex => (Some(By::Lex), Some(false)),
        Cmd::Zrevrangebylex => (Some(By::Lex), Some(true)),
        _ => (None, None),
    };
    let first = if store { 3 } else { 2 };
    let (mut with_scores, mut limit, mut at) = (false, None, first + 2);
    while let Some(word) = args.get(at) {
        let left = args.len() - at - 1;
        match word.to_ascii_lowercase().as_slice() {
            b"withscores" if !store => with_scores = true,
            b"limit" if left >= 2 => {
                let integer = |text| parse_i64(text).ok_or(Refusal::NotAnInteger);
                limit = Some((integer(args.at(at + 1))?, integer(args.at(at + 2))?));
                at += 2;
            }
            b"rev" if rev.is_none() => rev = Some(true),
            b"byscore" if by.is_none() => by = Some(By::Score),
            b"bylex" if by.is_none() => by = Some(By::Lex),
            _ => return Err(Refusal::Syntax),
        }
        at += 1;
    }
    let (by, rev) = (by.unwrap_or(By::Rank), rev.unwrap_or(false));
    let (skip, count) = limit.unwrap_or((0, -1));
    if count != -1 && by == By::Rank {
        return Err(text(
            "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
        ));
    }
    if with_scores && by == By::Lex {
        return Err(text("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
    }
    let (mut min, mut max) = (args.at(first), args.at(first + 1));
    if rev && by != By::Rank {
        (min, max) = (max, min);
    }
    let within = match by {
        By::Rank => Within::rank(min, max)?,
        By::Score => Within::score(min, max)?,
        By::Lex => Within::lex(min, max)?,
    };
    // Nothing lies before the first member.
    let count = if skip < 0 && by != By::Rank { 0 } else { count };
    let ask = within.part(q, StructOp::ZSET_RANGE, args.at(1), skip.max(0), count);
    let ask = if rev { ask.flag(Flag::REV) } else { ask };
    if store {
        ask.keys([args.at(2)]).flag(Flag::STORE).push(Shape::Number);
    } else if with_scores {
        ask.flag(Flag::WITH_SCORES).push(Shape::Pairs);
    } else {
        ask.push(Shape::Array);
    }
    Ok(())
}

/// Options of the commands over several sorted sets.
struct Combine<'a> {
    weights: Vec<Element<'a>>,
    flags: Flag,
    limit: i64,
}

/// ZUNION, ZINTER, ZDIFF, with STORE, and ZINTERCARD: `numkeys` stands at position `at`.
fn combine<'a>(command: Cmd, args: Args<'a, '_>, at: usize, q: Ops<'_, 'a>) -> Pushed {
    let op = match command {
        Cmd::Zunion | Cmd::Zunionstore => StructOp::ZSET_UNION,
        Cmd::Zdiff | Cmd::Zdiffstore => StructOp::ZSET_DIFF,
        _ => StructOp::ZSET_INTER,
    };
    let n = parse_i64(args.at(at)).ok_or(Refusal::NotAnInteger)?;
    let n = usize::try_from(n).ok().filter(|n| *n > 0).ok_or_else(|| {
        let name = command.spec().name;
        Refusal::Text(format!("ERR at least 1 input key is needed for '{name}' command"))
    })?;
    if n > args.len() - (at + 1) {
        return Err(Refusal::Syntax);
    }
    let mut sources = args.from(at + 1).take(n);
    let options = match combine_options(command, args, at + 1 + n, n) {
        Ok(options) => options,
        Err(refusal) => {
            // The kinds of the keys are judged before the options.
            let first = sources.next().expect("there is at least one");
            let ask = Ask::new(q, op, first).keys(sources);
            ask.guarded(&refusal, Missing::Error);
            return Ok(());
        }
    };
    let store = at == 2;
    let first = if store { args.at(1) } else { sources.next().expect("there is at least one") };
    let ask = Ask::new(q, op, first).keys(sources).elements(options.weights);
    let ask = ask.flag(options.flags).numbers(options.limit, 0);
    if store {
        ask.flag(Flag::STORE).push(Shape::Number);
    } else if options.flags.has(Flag::CARD_ONLY) {
        ask.push(Shape::Number);
    } else if options.flags.has(Flag::WITH_SCORES) {
        ask.push(Shape::Pairs);
    } else {
        ask.push(Shape::Array);
    }
    Ok(())
}

fn combine_options<'a>(
    command: Cmd,
    args: Args<'a, '_>,
    mut at: usize,
    n: usize,
) -> Result<Combine<'a>, Refusal> {
    let mut out = Combine { weights: Vec::new(), flags: Flag::NONE, limit: 0 };
    if command == Cmd::Zintercard {
        out.flags = Flag::CARD_ONLY;
        out.limit = set::card_limit(args, at)?;
        return Ok(out);
    }
    let store = matches!(command, Cmd::Zunionstore | Cmd::Zinterstore | Cmd::Zdiffstore);
    let weighs = !matches!(command, Cmd::Zdiff | Cmd::Zdiffstore);
    while let Some(word) = args.get(at) {
        let left = args.len() - at;
        match word.to_ascii_lowercase().as_slice() {
            b"weights" if weighs && left > n => {
                out.weights.clear();
                for weight in args.from(at + 1).take(n) {
                    let weight = parse_score(weight)
                        .ok_or_else(|| text("ERR weight value is not a float"))?;
                    out.weights.push(Element::double(weight));
                }
                at += n;
            }
            b"aggregate" if weighs && left >= 2 => {
                at += 1;
                let keep = out.flags.0 & !(Flag::AGGREGATE_MIN | Flag::AGGREGATE_MAX).0;
                out.flags = Flag(keep)
                    | match args.at(at).to_ascii_lowercase().as_slice() {
                        b"sum" => Flag::NONE,
                        b"min" => Flag::AGGREGATE_MIN,
                        b"max" => Flag::AGGREGATE_MAX,
                        _ => return Err(Refusal::Syntax),
                    };
            }
            b"withscores" if !store => out.flags = out.flags | Flag::WITH_SCORES,
            _ => return Err(Refusal::Syntax),
        }
        at += 1;
    }
    Ok(out)
}
