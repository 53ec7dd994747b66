//! The short way of commands that name one key and one element of it, or a few.
//!
//! ```text
//!  bytes ── frame::short ──> row of the command ──> one operation ──> a number or an element
//! ```
//! Such a command is one operation whose arguments are its words, so a row says all there is to
//! know of it. What must always be true: [`push`] queues what the long way queues for the same
//! bytes, or nothing at all; a test holds the two against each other. Called for connections in no
//! mode, at the start of a command; everything odd (options, numbers that are none, other lengths)
//! takes the long way.

use crucible_plugin_api::{
    Capabilities, Datum, Element, Op, Queue, Status, StructFlags as Flag, StructOp,
};

use super::Shape;
use crate::Resp;
use crate::frame::short::{self, Head, Name};
use crate::number::{parse_i64, parse_score};
use crate::table::Cmd;
use crate::ticket::Ticket;
use crate::write::{SHORT_LEN_BYTES_MAX, Sink, Writer};

/// What the words behind the key are.
#[derive(Clone, Copy, Debug)]
enum Words {
    /// There are none.
    None,
    /// There are none; one element is meant.
    Pop,
    /// One argument.
    One,
    /// Two arguments.
    Two,
    /// An argument, then a number.
    OneAndNumber,
    /// A score, then an argument.
    ScoreAndOne,
    /// First and last of a few elements, from the front.
    Few,
}

/// What a range may hold, and how far from the front it may lie, to go the short way: nothing of
/// the kind takes long.
const FEW: i64 = 128;
const NEAR: i64 = 1024;

/// One command.
#[derive(Debug)]
struct Row {
    name: Name,
    argc: usize,
    command: Cmd,
    op: StructOp,
    flags: Flag,
    words: Words,
    shape: Shape,
}

const fn row(name: &str, command: Cmd, op: StructOp, words: Words, shape: Shape) -> Row {
    let argc = match words {
        Words::None | Words::Pop => 2,
        Words::One => 3,
        Words::Two | Words::OneAndNumber | Words::ScoreAndOne | Words::Few => 4,
    };
    Row { name: Name::of(name), argc, command, op, flags: Flag::NONE, words, shape }
}

const fn with(flags: Flag, row: Row) -> Row {
    Row { flags, ..row }
}

static ROWS: [Row; 28] = [
    row("hset", Cmd::Hset, StructOp::HASH_SET, Words::Two, Shape::Number),
    row("hget", Cmd::Hget, StructOp::HASH_GET, Words::One, Shape::One),
    row("hdel", Cmd::Hdel, StructOp::HASH_DEL, Words::One, Shape::Number),
    row("hexists", Cmd::Hexists, StructOp::HASH_EXISTS, Words::One, Shape::Number),
    row("hincrby", Cmd::Hincrby, StructOp::HASH_INCR, Words::OneAndNumber, Shape::HashNumber),
    row("hlen", Cmd::Hlen, StructOp::HASH_LEN, Words::None, Shape::Number),
    with(Flag::LEFT, row("lpush", Cmd::Lpush, StructOp::LIST_PUSH, Words::One, Shape::Number)),
    row("rpush", Cmd::Rpush, StructOp::LIST_PUSH, Words::One, Shape::Number),
    with(Flag::LEFT, row("lpop", Cmd::Lpop, StructOp::LIST_POP, Words::Pop, Shape::One)),
    row("rpop", Cmd::Rpop, StructOp::LIST_POP, Words::Pop, Shape::One),
    row("llen", Cmd::Llen, StructOp::LIST_LEN, Words::None, Shape::Number),
    row("sadd", Cmd::Sadd, StructOp::SET_ADD, Words::One, Shape::Number),
    row("srem", Cmd::Srem, StructOp::SET_REMOVE, Words::One, Shape::Number),
    row("sismember", Cmd::Sismember, StructOp::SET_HAS, Words::One, Shape::Number),
    row("scard", Cmd::Scard, StructOp::SET_LEN, Words::None, Shape::Number),
    row("spop", Cmd::Spop, StructOp::SET_POP, Words::Pop, Shape::One),
    row("zadd", Cmd::Zadd, StructOp::ZSET_ADD, Words::ScoreAndOne, Shape::Number),
    with(
        Flag::INCR,
        row("zincrby", Cmd::Zincrby, StructOp::ZSET_ADD, Words::ScoreAndOne, Shape::Score),
    ),
    row("zrem", Cmd::Zrem, StructOp::ZSET_REMOVE, Words::One, Shape::Number),
    row("zscore", Cmd::Zscore, StructOp::ZSET_SCORE, Words::One, Shape::Score),
    row("zrank", Cmd::Zrank, StructOp::ZSET_RANK, Words::One, Shape::Rank { with_score: false }),
    with(
        Flag::REV,
        row(
            "zrevrank",
            Cmd::Zrevrank,
            StructOp::ZSET_RANK,
            Words::One,
            Shape::Rank { with_score: false },
        ),
    ),
    row("zcard", Cmd::Zcard, StructOp::ZSET_LEN, Words::None, Shape::Number),
    row("hstrlen", Cmd::Hstrlen, StructOp::HASH_STRLEN, Words::One, Shape::Number),
    row("zpopmin", Cmd::Zpopmin, StructOp::ZSET_POP, Words::Pop, Shape::Array),
    row("zrange", Cmd::Zrange, StructOp::ZSET_RANGE, Words::Few, Shape::Array),
    row("lrange", Cmd::Lrange, StructOp::LIST_RANGE, Words::Few, Shape::Array),
    with(Flag::REV, row("zpopmax", Cmd::Zpopmax, StructOp::ZSET_POP, Words::Pop, Shape::Array)),
];

const SLOT_BITS: u32 = 7;
const EMPTY: u8 = u8::MAX;

/// Where each name's row is, or the next free slot behind.
static SLOTS: [u8; 1 << SLOT_BITS] = {
    let mut slots = [EMPTY; 1 << SLOT_BITS];
    let mut i = 0;
    while i < ROWS.len() {
        let mut slot = ROWS[i].name.mixed(SLOT_BITS);
        while slots[slot] != EMPTY {
            slot = (slot + 1) % slots.len();
        }
        slots[slot] = i as u8;
        i += 1;
    }
    slots
};

#[inline]
fn row_of(head: &Head) -> Option<&'static Row> {
    let mut slot = head.name.mixed(SLOT_BITS);
    loop {
        let row = ROWS.get(usize::from(SLOTS[slot]))?;
        if row.name == head.name {
            return (row.argc == head.argc).then_some(row);
        }
        slot = (slot + 1) % SLOTS.len();
    }
}

/// Whether a backend has all kinds of structures.
#[must_use]
pub fn are_served(backend: &Capabilities) -> bool {
    let all = Capabilities::HASH | Capabilities::LIST | Capabilities::SET | Capabilities::ZSET;
    backend.has(all)
}

/// Queues the command at the start of `input`, if it is one of these; returns which, and its
/// length.
#[inline]
pub fn push<'a>(input: &'a [u8], queue: &mut Queue<'a, Ticket>) -> Option<(Cmd, usize)> {
    let head = short::head(input)?;
    let row = row_of(&head)?;
    let op = |key| Op::structure(row.op, key).with_flags(row.flags);
    let (op, len) = match row.words {
        Words::None => {
            let ([key], len) = short::words(input, &head)?;
            (op(key), len)
        }
        Words::Pop => {
            let ([key], len) = short::words(input, &head)?;
            (op(key).numbers(1, 0), len)
        }
        Words::One => {
            let ([key, word], len) = short::words(input, &head)?;
            (op(key).args(queue.few_elements([Element::bytes(word)])), len)
        }
        Words::Two => {
            let ([key, a, b], len) = short::words(input, &head)?;
            (op(key).args(queue.few_elements([Element::bytes(a), Element::bytes(b)])), len)
        }
        Words::OneAndNumber => {
            let ([key, word, number], len) = short::words(input, &head)?;
            let number = parse_i64(number)?;
            let args = queue.few_elements([Element::bytes(word)]);
            (op(key).args(args).numbers(number, 0), len)
        }
        Words::ScoreAndOne => {
            let ([key, score, member], len) = short::words(input, &head)?;
            let score = parse_score(score)?;
            (
                op(key).args(queue.few_elements([Element::double(score), Element::bytes(member)])),
                len,
            )
        }
        Words::Few => {
            let ([key, first, last], len) = short::words(input, &head)?;
            let (first, last) = (parse_i64(first)?, parse_i64(last)?);
            if !(0..NEAR).contains(&first) || !(first..first + FEW).contains(&last) {
                return None;
            }
            (op(key).numbers(first, last), len)
        }
    };
    queue.command(op, Ticket::Structure(row.shape));
    Some((row.command, len))
}

/// Answers a number or one short element, as [`super::answer`] does; false, and nothing is
/// written, when it is anything else.
#[inline]
pub fn answer<S: Sink>(
    (resp, worker): (&Resp, usize),
    shape: Shape,
    op: &Op<'_>,
    w: &mut Writer<'_, S>,
) -> bool {
    let (status, changes) = (op.status(), op.key_changes());
    if !matches!(status, Status::OK | Status::MISS) || changes.of_other().grew() {
        return false;
    }
    match shape {
        Shape::Number | Shape::HashNumber => w.int(op.number()),
        Shape::Rank { with_score: false } if status == Status::OK => w.int(op.number()),
        Shape::One | Shape::Score => match op.elements().first().map(|one| one.get()) {
            None | Some(Datum::Nil) => w.null(),
            Some(Datum::Bytes(bytes)) if bytes.len() <= SHORT_LEN_BYTES_MAX => w.short(bytes),
            Some(Datum::Double(score)) => w.double(score),
            Some(_) => return false,
        },
        _ => return false,
    }
    super::note((resp, worker), op);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Group, arity_fits, flag};
    use crate::watch::may_take_long;

    #[test]
    fn rows_say_of_their_commands_what_the_table_says() {
        for row in &ROWS {
            let spec = row.command.spec();
            assert_eq!(row.name, Name::of(spec.name), "{}", spec.name);
            assert!(arity_fits(spec.arity, row.argc), "{}", spec.name);
            assert!(matches!(
                spec.group,
                Group::Hash | Group::List | Group::Set | Group::SortedSet
            ));
            // Neither of these is looked at on the short way; a range of a few takes no time.
            let is_few = matches!(row.words, Words::Few);
            assert!(is_few || !may_take_long(row.command, row.argc), "{} is slow", spec.name);
            assert!(!spec.is(flag::ISOLATED) && !spec.is(flag::BLOCKING), "{}", spec.name);
        }
    }

    #[test]
    fn every_row_is_found_by_its_name_and_by_no_other() {
        let found = |name: &str, argc: usize| {
            let start = format!("*{argc}\r\n${}\r\n{name}\r\n$1\r\n", name.len());
            row_of(&short::head(start.as_bytes())?)
        };
        for row in &ROWS {
            let name = row.command.spec().name;
            assert!(found(name, row.argc).is_some_and(|found| found.command == row.command));
            assert!(found(&name.to_uppercase(), row.argc).is_some());
            assert!(found(name, row.argc + 1).is_none());
        }
        for command in Cmd::all().filter(|c| ROWS.iter().all(|row| row.command != *c)) {
            assert!((2..5).all(|argc| found(command.spec().name, argc).is_none()));
        }
    }
}
