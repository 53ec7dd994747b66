//! From results to bytes: how each ticket is answered.
//!
//! Called once per ticket, in the order of the commands. Rooms below answer commands that need no
//! store; multi-step commands queue their next step here.

pub mod client;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod info;
pub mod listing;
pub mod pubsub;
pub mod scan;
pub mod server;
pub mod steps;
pub mod tracking;
pub mod transaction;

use crucible_plugin_api::{After, ItemKind, Op, Queue, Status};

use crate::Resp;
use crate::error::Refusal;
use crate::exec::hyperloglog::bad_of;
use crate::number::parse_i64;
use crate::rdb;
use crate::session::Session;
use crate::structs::{self, Shape};
use crate::ticket::{LcsOptions, Ticket, TtlKind};
use crate::value::hll::Union;
use crate::value::{bitfield, bits, lcs, range};
use crate::worker::Worker;
use crate::write::{SHORT_LEN_BYTES_MAX, Sink, Writer};

/// Everything a reply may touch.
pub struct Cx<'x, 'a> {
    /// The protocol.
    pub resp: &'x Resp,
    /// This worker.
    pub worker: &'x mut Worker,
    /// This connection.
    pub session: &'x mut Session,
    /// Where follow-ups go.
    pub queue: &'x mut Queue<'a, Ticket>,
    /// A next step was queued.
    pub followed_up: bool,
}

/// The error for a failure of the store.
pub fn store_refusal(status: Status) -> Refusal {
    match status {
        Status::TOO_LARGE => Refusal::ValueTooLarge,
        Status::NO_MEMORY => Refusal::NoMemory,
        Status::WRONG_TYPE => Refusal::WrongType,
        Status::NOT_NUMBER => Refusal::NotAnInteger,
        Status::OVERFLOW => Refusal::Overflow,
        Status::NOT_FLOAT => Refusal::NotAFloat,
        Status::NOT_FINITE => Refusal::NotFinite,
        Status::BUSY => Refusal::Busy,
        Status::UNSUPPORTED => Refusal::Unsupported,
        _ => Refusal::Store,
    }
}

impl Cx<'_, '_> {
    /// Ends the next step of the command.
    pub fn next_step(&mut self, ticket: Ticket) {
        self.queue.end_barrier(ticket);
        self.followed_up = true;
    }

    /// Answers an error and counts it.
    pub fn refuse<S: Sink + ?Sized>(&self, w: &mut Writer<'_, S>, refusal: &Refusal) {
        self.error(w, &refusal.to_string());
    }

    /// Answers an error text and counts it.
    pub fn error<S: Sink + ?Sized>(&self, w: &mut Writer<'_, S>, text: &str) {
        self.resp.hub.stats.of(self.worker.id).error(Refusal::code(text.as_bytes()));
        w.error(text.as_bytes());
    }

    /// Answers a failure of the store.
    #[cold]
    pub fn failed<S: Sink + ?Sized>(&self, w: &mut Writer<'_, S>, op: &Op<'_>) {
        let refusal = match op.status() {
            // The key itself may be what is too long.
            Status::TOO_LARGE
                if op.key().len() > self.queue.service().capabilities().key_len_max as usize =>
            {
                Refusal::KeyTooLong
            }
            status => store_refusal(status),
        };
        self.refuse(w, &refusal);
    }

    /// Counts a look for a key, for INFO.
    #[inline]
    pub(crate) fn looked_up(&self, found: bool) {
        self.resp.hub.stats.of(self.worker.id).looked_up(found);
    }

    #[inline]
    fn value<S: Sink + ?Sized>(&self, w: &mut Writer<'_, S>, op: &Op<'_>) {
        match op.value_bytes() {
            Some(bytes) if op.status() == Status::OK && bytes.len() <= SHORT_LEN_BYTES_MAX => {
                self.looked_up(true);
                w.short(bytes);
            }
            _ => self.other_value(w, op),
        }
    }

    /// A miss, a failure, an empty value, a long one, or one in pieces.
    #[inline(never)]
    fn other_value<S: Sink + ?Sized>(&self, w: &mut Writer<'_, S>, op: &Op<'_>) {
        match (op.status(), op.item()) {
            (Status::OK, Some(item)) => {
                self.looked_up(true);
                w.value(item.value());
            }
            (Status::MISS | Status::OK, _) => {
                self.looked_up(false);
                w.null();
            }
            _ => self.failed(w, op),
        }
    }
}

/// Answers one command.
#[inline]
pub fn answer<'a, S: Sink>(
    cx: &mut Cx<'_, 'a>,
    ticket: Ticket,
    ops: &[Op<'a>],
    w: &mut Writer<'_, S>,
) -> After {
    match ticket {
        Ticket::Value => cx.value(w, &ops[0]),
        Ticket::Stored => match ops[0].status() {
            Status::OK => w.ok(),
            _ => cx.failed(w, &ops[0]),
        },
        Ticket::Number => match ops[0].status() {
            Status::OK => w.int(ops[0].number()),
            _ => cx.failed(w, &ops[0]),
        },
        Ticket::Static(bytes) => w.raw(bytes),
        Ticket::Structure(shape) => structs::answer(cx, shape, &ops[0], w),
        Ticket::Count => count(cx, ops, w),
        Ticket::Values => {
            w.array(ops.len());
            for op in ops {
                // A value of another kind is no error for MGET, but absent.
                if op.status() == Status::WRONG_TYPE { w.null() } else { cx.value(w, op) }
            }
        }
        _ => return answer_more(cx, ticket, ops, &mut w.erased()),
    }
    After::Done
}

fn count<S: Sink + ?Sized>(cx: &Cx<'_, '_>, ops: &[Op<'_>], w: &mut Writer<'_, S>) {
    match ops.iter().find(|op| !op.status().is_answer()) {
        Some(op) => cx.failed(w, op),
        None => w.int(ops.iter().filter(|op| op.status() == Status::OK).count() as i64),
    }
}

fn answer_more<'a>(
    cx: &mut Cx<'_, 'a>,
    ticket: Ticket,
    ops: &[Op<'a>],
    w: &mut Writer<'_, dyn Sink + '_>,
) -> After {
    match ticket {
        Ticket::Error(text) => cx.error(w, &text),
        Ticket::Echo => w.bulk(ops[0].val()),
        Ticket::Items => w.int(info::items(cx) as i64),
        Ticket::Cold(command) => return server::run(cx, command, ops, w),
        Ticket::Pause => return connection::wait_for_pause(cx),
        Ticket::Watched => transaction::watched(cx, ops, w),
        Ticket::Exec => transaction::run(cx, ops, w),
        Ticket::ExecSet => transaction::exec_set(cx, &ops[0], w),
        Ticket::ExecMore => {}
        Ticket::Guarded(other, text) => structs::answer_guarded(cx, other, &text, &ops[0], w),
        Ticket::Walk(scan) => structs::answer_scan(cx, &scan, &ops[0], w),
        Ticket::Block(blocked) => return structs::blocking::go_on(cx, blocked, ops, w),
        Ticket::Sort(sorting) => structs::sort::go_on(cx, *sorting, ops, w),
        Ticket::Geo(told) => structs::geo::answer(cx, told, &ops[0], w),
        Ticket::Search(search) => structs::geosearch::go_on(cx, *search, ops, w),
        ticket @ (Ticket::SetAllCheck(_)
        | Ticket::SetAllDone(_)
        | Ticket::SetAllUndone
        | Ticket::RenameSame(_)
        | Ticket::RenameCheck
        | Ticket::RenameTake(_)
        | Ticket::RenameStored(_)
        | Ticket::RenamePutBack
        | Ticket::CopyRead { .. }
        | Ticket::CopyStored
        | Ticket::Renamed(_)
        | Ticket::Copied
        | Ticket::Bitop(_)
        | Ticket::BitopStored(_)
        | Ticket::SketchMerge
        | Ticket::SketchStored) => steps::go_on(cx, &ticket, ops, w),
        // Only a structure has no bytes to tell the encoding from.
        Ticket::Encoding if ops[0].status() == Status::WRONG_TYPE && ops.len() == 2 => {
            structs::answer(cx, Shape::One, &ops[1], w);
        }
        Ticket::Encoding => one_value(cx, &Ticket::Encoding, &ops[..1], w),
        ticket => one_value(cx, &ticket, ops, w),
    }
    After::Done
}

/// Answers that come from one key's outcome.
fn one_value<S: Sink + ?Sized>(
    cx: &Cx<'_, '_>,
    ticket: &Ticket,
    ops: &[Op<'_>],
    w: &mut Writer<'_, S>,
) {
    let op = &ops[0];
    if let Some(bad) = ops.iter().find(|op| !op.status().is_answer()) {
        return match (ticket, bad.status()) {
            (Ticket::FloatFound(_), Status::NOT_NUMBER) => cx.refuse(w, &Refusal::NotAFloat),
            (Ticket::FloatFound(_), Status::OVERFLOW) => cx.refuse(w, &Refusal::NotFinite),
            (Ticket::Lcs(_), Status::WRONG_TYPE) => {
                cx.error(w, "ERR The specified keys must contain string values");
            }
            (Ticket::Dump, Status::WRONG_TYPE) => {
                cx.error(w, "ERR this server dumps strings only");
            }
            _ => cx.failed(w, bad),
        };
    }
    let done = op.status() == Status::OK;
    match ticket {
        Ticket::StoredOrNull => {
            if done {
                w.ok()
            } else {
                w.null()
            }
        }
        Ticket::StoredOrZero | Ticket::Flag => w.int(i64::from(done)),
        Ticket::Old => match op.item() {
            Some(item) => w.value(item.value()),
            None => w.null(),
        },
        Ticket::AllStored => w.ok(),
        Ticket::NullOrError(text) => {
            if done {
                cx.error(w, text)
            } else {
                w.null()
            }
        }
        Ticket::Length => match op.item() {
            Some(item) if !matches!(item.kind(), ItemKind::String | ItemKind::Other(_)) => {
                cx.refuse(w, &Refusal::WrongType);
            }
            item => w.int(item.map_or(0, |item| item.len() as i64)),
        },
        Ticket::Ttl(kind) => ttl(cx, *kind, op, w),
        Ticket::Type => w.simple(match op.item().map(|item| item.kind()) {
            None => "none",
            Some(ItemKind::String | ItemKind::Other(_)) => "string",
            Some(ItemKind::List) => "list",
            Some(ItemKind::Set) => "set",
            Some(ItemKind::SortedSet) => "zset",
            Some(ItemKind::Hash) => "hash",
        }),
        Ticket::Sketch => match bad_of(op.number()) {
            Some(bad) => cx.error(w, &bad.to_string()),
            None => w.int(op.number()),
        },
        Ticket::SketchUnion => {
            match steps::sketches(ops).and_then(|(_, all)| Union::of(all.iter())) {
                Ok(union) => w.int(union.count() as i64),
                Err(bad) => cx.error(w, &bad.to_string()),
            }
        }
        Ticket::FieldsFound(found) => numbers(&found.borrow().numbers, w),
        Ticket::FloatFound(found) => w.bulk(found.borrow().text.as_bytes()),
        Ticket::ObjectFact(fact) => object_fact(cx, *fact, op, w),
        Ticket::MemoryUsage => match op.item() {
            None => w.null(),
            Some(item) => {
                let deadline = if item.expires_at_ms() == 0 { 0 } else { 5 };
                w.int((op.key().len() + item.len() + ITEM_LEN_BYTES + deadline) as i64);
            }
        },
        Ticket::Restored => {
            if done {
                w.ok();
            } else {
                cx.error(w, "BUSYKEY Target key name already exists.");
            }
        }
        _ => of_bytes(cx, ticket, ops, w),
    }
}

/// What an item takes besides key and value, in bytes: its header and its place in the table.
const ITEM_LEN_BYTES: usize = 14;

/// Answers that are computed from a value's bytes.
fn of_bytes<S: Sink + ?Sized>(
    cx: &Cx<'_, '_>,
    ticket: &Ticket,
    ops: &[Op<'_>],
    w: &mut Writer<'_, S>,
) {
    let op = &ops[0];
    let item = op.item();
    let bytes = item.map(|item| item.value().to_cow());
    let value = bytes.as_deref().unwrap_or(b"");
    match ticket {
        Ticket::Range(start, end) => {
            cx.looked_up(item.is_some());
            w.bulk(range::slice(value, *start, *end));
        }
        Ticket::Bit(offset) => w.int(i64::from(bits::get(value, *offset))),
        Ticket::CountBytes(start, end) => {
            w.int(bits::count(value, *start, *end, bits::Unit::Byte) as i64);
        }
        Ticket::CountBits(start, end) => {
            w.int(bits::count(value, *start, *end, bits::Unit::Bit) as i64);
        }
        Ticket::Bitpos(ask) => {
            w.int(bits::position(value, ask.on, ask.start, ask.end, ask.unit, ask.open_end));
        }
        Ticket::Fields(steps) => numbers(&bitfield::run(steps, value).0, w),
        Ticket::Encoding => match item {
            None => w.null(),
            Some(_) => w.bulk(encoding(value).as_bytes()),
        },
        Ticket::Dump => match item {
            None => w.null(),
            Some(_) => w.bulk(&rdb::dump(value)),
        },
        Ticket::Lcs(options) => {
            let other = ops[1].item().map(|item| item.value().to_cow());
            common(cx, options, value, other.as_deref().unwrap_or(b""), w);
        }
        _ => cx.refuse(w, &Refusal::Store),
    }
}

fn numbers<S: Sink + ?Sized>(numbers: &[Option<i64>], w: &mut Writer<'_, S>) {
    w.array(numbers.len());
    for number in numbers {
        match number {
            Some(n) => w.int(*n),
            None => w.null(),
        }
    }
}

/// Longest value that Redis calls `embstr`, in bytes.
const EMBSTR_LEN_BYTES_MAX: usize = 44;

fn encoding(value: &[u8]) -> &'static str {
    if parse_i64(value).is_some() {
        "int"
    } else if value.len() <= EMBSTR_LEN_BYTES_MAX {
        "embstr"
    } else {
        "raw"
    }
}

fn ttl<S: Sink + ?Sized>(cx: &Cx<'_, '_>, kind: TtlKind, op: &Op<'_>, w: &mut Writer<'_, S>) {
    let Some(item) = op.item().filter(|_| op.status() == Status::OK) else { return w.int(-2) };
    let at = item.expires_at_ms();
    if at == 0 {
        return w.int(-1);
    }
    let left = at.saturating_sub(cx.queue.now_ms());
    // Seconds are rounded to the nearest, as Redis does.
    w.int(match kind {
        TtlKind::Seconds => left.saturating_add(500) / 1000,
        TtlKind::Millis => left,
        TtlKind::UnixSeconds => at.saturating_add(500) / 1000,
        TtlKind::UnixMillis => at,
    } as i64);
}

fn object_fact<S: Sink + ?Sized>(cx: &Cx<'_, '_>, fact: u8, op: &Op<'_>, w: &mut Writer<'_, S>) {
    match (fact, op.item()) {
        (_, None) => w.null(),
        (b'r', Some(_)) => w.int(1),
        (b'f', Some(item)) => w.int(i64::from(item.hits())),
        (_, Some(item)) => match item.idle_s() {
            Some(seconds) => w.int(i64::from(seconds)),
            None => {
                let text =
                    "ERR this backend keeps no access times; OBJECT IDLETIME is not available";
                cx.error(w, text);
            }
        },
    }
}

fn common<S: Sink + ?Sized>(
    cx: &Cx<'_, '_>,
    options: &LcsOptions,
    a: &[u8],
    b: &[u8],
    w: &mut Writer<'_, S>,
) {
    let Some(found) = lcs::find(a, b) else {
        return cx.error(w, "ERR Insufficient memory, transient memory for LCS exceeds limit");
    };
    if options.len {
        return w.int(found.bytes.len() as i64);
    }
    if !options.idx {
        return w.bulk(&found.bytes);
    }
    let matches: Vec<_> =
        found.matches.iter().filter(|m| m.len_bytes() >= options.min_len).collect();
    w.map(2);
    w.bulk(b"matches");
    w.array(matches.len());
    for m in matches {
        w.array(if options.with_len { 3 } else { 2 });
        for (first, last) in [m.a, m.b] {
            w.array(2);
            w.int(first as i64);
            w.int(last as i64);
        }
        if options.with_len {
            w.int(m.len_bytes() as i64);
        }
    }
    w.bulk(b"len");
    w.int(found.bytes.len() as i64);
}

/// Arguments that a cold command carries.
pub fn carried<'a>(ops: &[Op<'a>]) -> Vec<&'a [u8]> {
    ops.iter().map(Op::val).collect()
}
