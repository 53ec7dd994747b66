//! Hashes, lists, sets and sorted sets: from arguments to one operation of the store, and from its
//! elements to a reply.
//!
//! ```text
//!  bytes ──> direct: the short way of commands about one element, else
//!  args ──> hash, list, set, zset ──> Ask (one STRUCT operation) + Shape ──> answer: elements as
//!                                                                            the reply's shape
//!  BLPOP & co ──> blocking: the same operation, tried again when the key got elements
//!  SORT ──> sort: rounds of operations around the pure part in `sorting`
//!  GEOSEARCH & co ──> geosearch: the same around `georequest` and [`crate::geo`]
//! ```
//! Every command is one atomic step for all of its keys, except SORT and geo searches. Numbers and options are
//! judged here, before the store is asked; where Redis looks at the key first, a *guarded* error
//! does the same: it is answered only when the key is of the right kind.

pub mod blocking;
pub mod bounds;
pub mod direct;
pub mod geo;
mod georequest;
pub mod geosearch;
mod hash;
mod list;
mod set;
pub mod sort;
pub mod sorting;
mod zset;

use crucible_plugin_api::{
    Condition, Datum, Element, Op, Opts, Status, StructFlags as Flag, StructOp,
};

use crate::Resp;
use crate::error::Refusal;
use crate::exec::{Ops, Pushed};
use crate::frame::Args;
use crate::glob;
use crate::hub::Hub;
use crate::number::{parse_cursor, parse_i64, score_text};
use crate::reply::Cx;
use crate::table::{Cmd, Group};
use crate::ticket::{Ticket, TtlKind};
use crate::write::{SHORT_LEN_BYTES_MAX, Sink, Writer};

/// How the elements of one operation are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The number.
    Number,
    /// The number, or null without the key.
    NumberOrNull,
    /// OK.
    Ok,
    /// OK, or an error without the key.
    OkIfPresent,
    /// 1, or 0 when the condition did not hold.
    Flag,
    /// The first element, or null.
    One,
    /// A score, or null.
    Score,
    /// The elements.
    Array,
    /// The elements; without the key, the null array.
    ArrayOrNull,
    /// So many elements; without the key, so many of the other.
    Each(u32, Missing),
    /// Names and values.
    Map,
    /// Members.
    Set,
    /// Pairs: flat in RESP2, each an array in RESP3.
    Pairs,
    /// A rank, perhaps with the score.
    Rank {
        /// Whether the score is told as well.
        with_score: bool,
    },
    /// The key that was popped from, and what was taken.
    KeyAndArray,
    /// The same with scores, each pair an array.
    KeyAndPairs,
    /// The sum in a field.
    HashNumber,
    /// The sum in a field, as text.
    HashFloat,
    /// When so many fields end.
    Deadlines(u32, TtlKind),
}

/// What stands for something that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Null.
    Null,
    /// 0.
    Zero,
    /// -2.
    NoField,
    /// The empty array.
    EmptyArray,
    /// A finished walk.
    EmptyScan,
    /// An error about the key.
    NoSuchKey,
    /// The guarded error itself.
    Error,
}

/// A walk over one key's elements.
#[derive(Debug)]
pub struct Scan {
    pattern: Option<Box<[u8]>>,
    /// Names are told without their values.
    names_only: bool,
    /// Elements come in pairs.
    pairs: bool,
}

/// An operation in the making.
pub(crate) struct Ask<'q, 'a> {
    q: Ops<'q, 'a>,
    op: Op<'a>,
}

impl<'q, 'a> Ask<'q, 'a> {
    fn new(q: Ops<'q, 'a>, op: StructOp, key: &'a [u8]) -> Self {
        Ask { q, op: Op::structure(op, key) }
    }

    fn elements(mut self, elements: impl IntoIterator<Item = Element<'a>>) -> Self {
        let elements = self.q.elements(elements);
        self.op = self.op.args(elements);
        self
    }

    fn words(self, words: impl Iterator<Item = &'a [u8]>) -> Self {
        self.elements(words.map(Element::bytes))
    }

    fn word(self, word: &'a [u8]) -> Self {
        self.elements([Element::bytes(word)])
    }

    /// The further keys.
    fn keys(mut self, keys: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let keys = self.q.elements(keys.into_iter().map(Element::bytes));
        self.op = self.op.keys(keys);
        self
    }

    fn numbers(mut self, first: i64, second: i64) -> Self {
        self.op = self.op.numbers(first, second);
        self
    }

    fn flag(mut self, flag: Flag) -> Self {
        self.op = self.op.with_flags(flag);
        self
    }

    fn opts(mut self, opts: Opts) -> Self {
        self.op = self.op.opts(opts);
        self
    }

    fn condition(mut self, condition: Condition) -> Self {
        self.op = self.op.condition(condition);
        self
    }

    /// A command of this operation.
    fn push(self, shape: Shape) {
        self.q.command(self.op, Ticket::Structure(shape));
    }

    /// Runs a read for its verdict about the key alone, and then answers `refusal`.
    fn guarded(self, refusal: &Refusal, missing: Missing) {
        self.q.command(self.op, Ticket::Guarded(missing, refusal.to_string().into()));
    }
}

/// Pushes what a command on structures asks of the store.
pub fn push<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    match (command, command.spec().group) {
        (
            Cmd::Blpop
            | Cmd::Brpop
            | Cmd::Blmove
            | Cmd::Brpoplpush
            | Cmd::Blmpop
            | Cmd::Bzpopmin
            | Cmd::Bzpopmax
            | Cmd::Bzmpop,
            _,
        ) => blocking::push(command, args, true, q),
        (Cmd::Sort | Cmd::SortRo, _) => sort::push(command, args, q),
        (_, Group::Hash) => hash::push(command, args, q),
        (_, Group::List) => list::push(command, args, q),
        (_, Group::Set) => set::push(command, args, q),
        (_, Group::Geo) => geo::push(command, args, q),
        _ => zset::push(command, args, q),
    }
}

/// `numkeys` at position `at`, checked against the arguments behind it.
fn numbered_keys(args: Args<'_, '_>, at: usize, too_many: Refusal) -> Result<usize, Refusal> {
    let n = positive(args.at(at), "ERR numkeys should be greater than 0")?;
    match usize::try_from(n) {
        Ok(n) if n <= args.len() - (at + 1) => Ok(n),
        _ => Err(too_many),
    }
}

fn positive(word: &[u8], error: &str) -> Result<i64, Refusal> {
    parse_i64(word).filter(|n| *n > 0).ok_or_else(|| Refusal::Text(error.to_owned()))
}

/// How many elements a pop takes at most.
fn pop_count(word: &[u8]) -> Result<i64, Refusal> {
    parse_i64(word).filter(|n| *n >= 0).ok_or(Refusal::NotPositive)
}

/// `[count [with]]` of the commands that pick at random; no `with` when that is empty.
fn count_with_values(args: Args<'_, '_>, with: &[u8]) -> Result<Option<(i64, bool)>, Refusal> {
    let Some(word) = args.get(2) else { return Ok(None) };
    let count = parse_i64(word).ok_or(Refusal::NotAnInteger)?;
    if count == i64::MIN {
        return Err(Refusal::Text(
            "ERR value is out of range, value must between -9223372036854775807 and \
             9223372036854775807"
                .to_owned(),
        ));
    }
    match args.get(3) {
        None => Ok(Some((count, false))),
        Some(word) if args.len() == 4 && word.eq_ignore_ascii_case(with) && !with.is_empty() => {
            if count.unsigned_abs() > i64::MAX as u64 / 2 {
                return Err(Refusal::OutOfRange);
            }
            Ok(Some((count, true)))
        }
        Some(_) => Err(Refusal::Syntax),
    }
}

/// Elements that one step of a walk visits when the client does not say.
const SCAN_COUNT_DEFAULT: i64 = 10;

/// HSCAN, SSCAN, ZSCAN key cursor [MATCH pattern] [COUNT n] [NOVALUES]
fn scan<'a>(op: StructOp, args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let cursor = parse_cursor(args.at(2)).ok_or(Refusal::Cursor)?;
    let key = args.at(1);
    let mut ask = Scan { pattern: None, names_only: false, pairs: op != StructOp::SET_SCAN };
    let mut count = SCAN_COUNT_DEFAULT;
    let read = (|| {
        let mut at = 3;
        while let Some(word) = args.get(at) {
            let value = args.get(at + 1);
            match (word.to_ascii_lowercase().as_slice(), value) {
                (b"match", Some(pattern)) => {
                    ask.pattern = Some(pattern).filter(|p| *p != b"*").map(Into::into);
                }
                (b"count", Some(n)) => {
                    count = parse_i64(n).ok_or(Refusal::NotAnInteger)?;
                    if count < 1 {
                        return Err(Refusal::Syntax);
                    }
                }
                (b"novalues", _) if op == StructOp::HASH_SCAN => {
                    ask.names_only = true;
                    at += 1;
                    continue;
                }
                _ => return Err(Refusal::Syntax),
            }
            at += 2;
        }
        Ok(())
    })();
    if let Err(refusal) = read {
        // Redis looks at the key before it looks at the options.
        let len = match op {
            StructOp::HASH_SCAN => StructOp::HASH_LEN,
            StructOp::SET_SCAN => StructOp::SET_LEN,
            _ => StructOp::ZSET_LEN,
        };
        Ask::new(q, len, key).guarded(&refusal, Missing::EmptyScan);
        return Ok(());
    }
    let flags = if ask.names_only { Flag::FIELDS_ONLY } else { Flag::NONE };
    ask.pairs &= !ask.names_only;
    let op = Op::structure(op, key).cursor(cursor).numbers(count, 0).with_flags(flags);
    q.command(op, Ticket::Walk(Box::new(ask)));
    Ok(())
}

#[inline]
fn element<S: Sink + ?Sized>(w: &mut Writer<'_, S>, element: Element<'_>) {
    match element.get() {
        Datum::Nil => w.null(),
        Datum::Int(n) => w.int(n),
        Datum::Double(n) => w.double(n),
        Datum::Bytes(bytes) if bytes.len() <= SHORT_LEN_BYTES_MAX => w.short(bytes),
        Datum::Bytes(bytes) => w.bulk(bytes),
    }
}

fn each<S: Sink + ?Sized>(w: &mut Writer<'_, S>, elements: &[Element<'_>]) {
    for e in elements {
        element(w, *e);
    }
}

fn nested<S: Sink + ?Sized>(w: &mut Writer<'_, S>, elements: &[Element<'_>]) {
    w.array(elements.len() / 2);
    for pair in elements.chunks_exact(2) {
        w.array(2);
        each(w, pair);
    }
}

fn missing<S: Sink + ?Sized>(cx: &Cx<'_, '_>, w: &mut Writer<'_, S>, missing: Missing) {
    match missing {
        Missing::Null => w.null(),
        Missing::Zero => w.int(0),
        Missing::NoField => w.int(-2),
        Missing::EmptyArray => w.array(0),
        Missing::EmptyScan => {
            w.array(2);
            w.bulk(b"0");
            w.array(0);
        }
        Missing::NoSuchKey => cx.refuse(w, &Refusal::NoSuchKey),
        Missing::Error => {}
    }
}

/// Wakes those who wait for what an operation added, and counts a read.
#[inline]
pub fn note((resp, worker): (&Resp, usize), op: &Op<'_>) {
    let changes = op.key_changes();
    if changes.grew() || changes.of_other().grew() {
        note_growth(&resp.hub, op);
    }
    if op.reads_structure() {
        resp.hub.stats.of(worker).looked_up(op.status() == Status::OK);
    }
}

fn note_growth(hub: &Hub, op: &Op<'_>) {
    if hub.waiting.connections() == 0 {
        return;
    }
    let changes = op.key_changes();
    if changes.grew() {
        hub.waiting.ready(&hub.env, op.key());
    }
    if changes.of_other().grew()
        && let Some(other) = op.other_key()
    {
        hub.waiting.ready(&hub.env, other);
    }
}

/// The error for a failed operation, in the words of the command.
fn failure(shape: Shape, op: &Op<'_>) -> Option<Refusal> {
    let text = |text: &str| Some(Refusal::Text(text.to_owned()));
    match (shape, op.status()) {
        (Shape::HashNumber, Status::NOT_NUMBER) => text("ERR hash value is not an integer"),
        (Shape::HashFloat, Status::NOT_FLOAT | Status::NOT_NUMBER) => {
            text("ERR hash value is not a float")
        }
        (Shape::HashFloat, Status::NOT_FINITE | Status::OVERFLOW) => Some(Refusal::NotFinite),
        (Shape::Score, Status::NOT_FINITE) => text("ERR resulting score is not a number (NaN)"),
        (_, Status::OUT_OF_RANGE) => text("ERR index out of range"),
        _ => None,
    }
}

/// Answers one operation on a structure.
pub fn answer<S: Sink + ?Sized>(cx: &Cx<'_, '_>, shape: Shape, op: &Op<'_>, w: &mut Writer<'_, S>) {
    if !op.status().is_answer() {
        return match failure(shape, op) {
            Some(refusal) => cx.refuse(w, &refusal),
            None => cx.failed(w, op),
        };
    }
    note((cx.resp, cx.worker.id), op);
    let (found, elements) = (op.status() != Status::MISS, op.elements());
    match shape {
        Shape::NumberOrNull if !found => w.null(),
        Shape::Number | Shape::NumberOrNull | Shape::HashNumber => w.int(op.number()),
        Shape::Ok => w.ok(),
        Shape::OkIfPresent => {
            if found {
                w.ok();
            } else {
                cx.refuse(w, &Refusal::NoSuchKey);
            }
        }
        Shape::Flag => w.int(i64::from(op.status() == Status::OK)),
        Shape::One | Shape::Score | Shape::HashFloat => match elements.first() {
            Some(e) => element(w, *e),
            None => w.null(),
        },
        Shape::ArrayOrNull if !found => w.null_array(),
        Shape::Array | Shape::ArrayOrNull => {
            w.array(elements.len());
            each(w, elements);
        }
        Shape::Each(n, other) => {
            w.array(n as usize);
            if elements.len() == n as usize {
                each(w, elements);
            } else {
                (0..n).for_each(|_| missing(cx, w, other));
            }
        }
        Shape::Map => {
            w.map(elements.len() / 2);
            each(w, elements);
        }
        Shape::Set => {
            w.set(elements.len());
            each(w, elements);
        }
        Shape::Pairs if w.is_resp3() => nested(w, elements),
        Shape::Pairs => {
            w.array(elements.len());
            each(w, elements);
        }
        Shape::Rank { with_score } => match (found, with_score) {
            (false, false) => w.null(),
            (false, true) => w.null_array(),
            (true, false) => w.int(op.number()),
            (true, true) => {
                w.array(2);
                w.int(op.number());
                each(w, &elements[..elements.len().min(1)]);
            }
        },
        Shape::KeyAndArray | Shape::KeyAndPairs => {
            popped(w, popped_key(op).filter(|_| found), elements, shape == Shape::KeyAndPairs);
        }
        Shape::Deadlines(n, kind) => deadlines(cx, w, n, kind, elements),
    }
}

/// The key that a pop over several keys took from.
fn popped_key<'a>(op: &Op<'a>) -> Option<&'a [u8]> {
    let call = op.struct_call()?;
    call.all_keys().nth(usize::try_from(op.number()).ok()?)
}

fn popped<S: Sink + ?Sized>(
    w: &mut Writer<'_, S>,
    key: Option<&[u8]>,
    elements: &[Element<'_>],
    pairs: bool,
) {
    let Some(key) = key else { return w.null_array() };
    w.array(2);
    w.bulk(key);
    if pairs {
        nested(w, elements);
    } else {
        w.array(elements.len());
        each(w, elements);
    }
}

/// Times of fields, in the unit that was asked for.
fn deadlines<S: Sink + ?Sized>(
    cx: &Cx<'_, '_>,
    w: &mut Writer<'_, S>,
    n: u32,
    kind: TtlKind,
    elements: &[Element<'_>],
) {
    w.array(n as usize);
    for at in 0..n as usize {
        let at_ms = elements.get(at).and_then(|e| e.as_int()).unwrap_or(-2);
        let left_ms = at_ms.saturating_sub_unsigned(cx.queue.now_ms()).max(0);
        w.int(match kind {
            _ if at_ms < 0 => at_ms,
            TtlKind::Seconds => (left_ms + 999) / 1000,
            TtlKind::Millis => left_ms,
            TtlKind::UnixSeconds => (at_ms + 999) / 1000,
            TtlKind::UnixMillis => at_ms,
        });
    }
}

/// Answers an error that the kind of the key, or its absence, goes before.
pub fn answer_guarded<S: Sink + ?Sized>(
    cx: &Cx<'_, '_>,
    other: Missing,
    error: &str,
    op: &Op<'_>,
    w: &mut Writer<'_, S>,
) {
    match op.status() {
        Status::MISS if other != Missing::Error => missing(cx, w, other),
        status if status.is_answer() => cx.error(w, error),
        _ => cx.failed(w, op),
    }
}

/// Answers a step of a walk.
pub fn answer_scan<S: Sink + ?Sized>(
    cx: &Cx<'_, '_>,
    scan: &Scan,
    op: &Op<'_>,
    w: &mut Writer<'_, S>,
) {
    if !op.status().is_answer() {
        return cx.failed(w, op);
    }
    note((cx.resp, cx.worker.id), op);
    let step = if scan.pairs { 2 } else { 1 };
    let wanted = |group: &&[Element<'_>]| {
        scan.pattern.as_ref().is_none_or(|p| glob::matches(p, group[0].as_bytes()))
    };
    let groups: Vec<_> = op.elements().chunks_exact(step).filter(wanted).collect();
    w.array(2);
    w.bulk(op.number().cast_unsigned().to_string().as_bytes());
    w.array(groups.len() * step);
    for e in groups.into_iter().flatten() {
        match e.get() {
            // A walk tells scores as text in both versions.
            Datum::Double(score) => w.bulk(score_text(score).as_bytes()),
            _ => element(w, *e),
        }
    }
}
