//! Replies to text commands.
//!
//! Must hold: an error is written even where a value was expected, and nothing at all for `noreply`;
//! what is counted is what happened. Called by [`crate::plugin`] with the done operations of one
//! command.

use crucible_plugin_api::{Item, ItemKind, Op, Out, Status};

use crate::counters::{Count, Counters};
use crate::number::Decimal;
use crate::session::Session;
use crate::text::Verb;
use crate::ticket::{Answer, TooLarge, Value};

/// The line for an operation that failed, whatever it was.
pub const fn failure(status: Status) -> &'static str {
    match status {
        Status::TOO_LARGE => "SERVER_ERROR object too large for cache",
        Status::NO_MEMORY => "SERVER_ERROR out of memory storing object",
        Status::WRONG_TYPE => "SERVER_ERROR the key holds another kind of value",
        Status::UNSUPPORTED => "SERVER_ERROR not supported by this backend",
        Status::BUSY => "SERVER_ERROR busy, try again",
        _ => "SERVER_ERROR internal error",
    }
}

/// A line and its end.
#[inline]
pub fn line(out: &mut Out<'_>, text: &str) {
    out.fill(text.len() + 2, |room| {
        room[..text.len()].copy_from_slice(text.as_bytes());
        room[text.len()..].copy_from_slice(b"\r\n");
        room.len()
    });
}

/// A line unless the client wants none.
pub fn line_unless(out: &mut Out<'_>, noreply: bool, text: &str) {
    if !noreply {
        line(out, text);
    }
}

/// Bytes of the longest `VALUE` line.
const VALUE_LINE_LEN_MAX: usize = 6 + 250 + 1 + 10 + 1 + 10 + 1 + 20 + 2;

/// Writes pieces one after the other.
struct Cursor<'b> {
    room: &'b mut [u8],
    len: usize,
}

impl Cursor<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.room[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    #[inline]
    fn number(&mut self, n: u64) {
        if n < 10 {
            self.room[self.len] = b'0' + n as u8;
            self.len += 1;
        } else {
            self.put(Decimal::new(n).as_bytes());
        }
    }
}

/// One key of a `get`.
#[inline]
pub fn value(
    counters: &Counters,
    session: &mut Session,
    value: Value,
    op: Option<&Op<'_>>,
    out: &mut Out<'_>,
) {
    let Some(op) = op else { return out.bytes(b"END\r\n") };
    counters.add(if value.touched { Count::cmd_touch } else { Count::cmd_get }, 1);
    if session.list_failed {
        return;
    }
    let item = match (op.status(), op.item()) {
        (Status::OK, Some(item)) if item.kind() == ItemKind::String => item,
        (Status::OK, Some(_)) => return list_fails(session, Status::WRONG_TYPE, out),
        (Status::MISS, _) => {
            counters.add(if value.touched { Count::touch_misses } else { Count::get_misses }, 1);
            if value.last {
                out.bytes(b"END\r\n");
            }
            return;
        }
        (status, _) => return list_fails(session, status, out),
    };
    counters.add(Count::get_hits, 1);
    if value.touched {
        counters.add(Count::touch_hits, 1);
    }
    value_line(op.key(), &item, value.with_cas, out);
    out.value(item.value());
    out.bytes(if value.last { b"\r\nEND\r\n" } else { b"\r\n" });
}

/// A failure in the middle of a list takes the place of its rest.
fn list_fails(session: &mut Session, status: Status, out: &mut Out<'_>) {
    session.list_failed = true;
    line(out, failure(status));
}

#[inline]
fn value_line(key: &[u8], item: &Item<'_>, with_cas: bool, out: &mut Out<'_>) {
    out.fill(VALUE_LINE_LEN_MAX, |room| {
        let mut c = Cursor { room, len: 0 };
        c.put(b"VALUE ");
        c.put(key);
        c.put(b" ");
        c.number(u64::from(item.flags()));
        c.put(b" ");
        c.number(item.len() as u64);
        if with_cas {
            c.put(b" ");
            c.number(item.cas());
        }
        c.put(b"\r\n");
        c.len
    });
}

/// A classic storage command.
pub fn store(counters: &Counters, verb: Verb, noreply: bool, op: &Op<'_>, out: &mut Out<'_>) {
    counters.add(Count::cmd_set, 1);
    let status = op.status();
    stored(counters, matches!(verb, Verb::Cas(_)), status);
    let text = match status {
        Status::OK => "STORED",
        Status::NOT_STORED => "NOT_STORED",
        Status::EXISTS => "EXISTS",
        Status::MISS => "NOT_FOUND",
        status => failure(status),
    };
    line_unless(out, noreply, text);
}

/// Counts what a store did.
pub fn stored(counters: &Counters, with_cas: bool, status: Status) {
    match status {
        Status::OK => counters.add(Count::total_items, 1),
        Status::TOO_LARGE => counters.add(Count::store_too_large, 1),
        Status::NO_MEMORY => counters.add(Count::store_no_memory, 1),
        _ => {}
    }
    if with_cas {
        match status {
            Status::OK => counters.add(Count::cas_hits, 1),
            Status::EXISTS => counters.add(Count::cas_badval, 1),
            Status::MISS => counters.add(Count::cas_misses, 1),
            _ => {}
        }
    }
}

/// A value refused for its length.
pub fn too_large(counters: &Counters, to: TooLarge, out: &mut Out<'_>) {
    counters.add(Count::store_too_large, 1);
    match to {
        TooLarge::Text { noreply } => line_unless(out, noreply, failure(Status::TOO_LARGE)),
        TooLarge::Binary(to) => {
            crate::reply_binary::error(&to, crate::binary::Status::TooLarge, out);
        }
    }
}

/// `delete`.
pub fn delete(counters: &Counters, noreply: bool, op: &Op<'_>, out: &mut Out<'_>) {
    deleted(counters, op.status());
    let text = match op.status() {
        Status::OK => "DELETED",
        Status::MISS => "NOT_FOUND",
        status => failure(status),
    };
    line_unless(out, noreply, text);
}

/// Counts what a deletion did.
pub fn deleted(counters: &Counters, status: Status) {
    match status {
        Status::OK => counters.add(Count::delete_hits, 1),
        Status::MISS | Status::EXISTS => counters.add(Count::delete_misses, 1),
        _ => {}
    }
}

/// Counts what arithmetic did.
pub fn counted(counters: &Counters, decrement: bool, status: Status) {
    match (decrement, status) {
        (false, Status::OK) => counters.add(Count::incr_hits, 1),
        (false, Status::MISS) => counters.add(Count::incr_misses, 1),
        (true, Status::OK) => counters.add(Count::decr_hits, 1),
        (true, Status::MISS) => counters.add(Count::decr_misses, 1),
        _ => {}
    }
}

/// What `incr` on something else than a number is told.
pub const NOT_A_NUMBER: &str = "CLIENT_ERROR cannot increment or decrement non-numeric value";

/// `incr`, `decr`.
pub fn arithmetic(
    counters: &Counters,
    decrement: bool,
    noreply: bool,
    op: &Op<'_>,
    out: &mut Out<'_>,
) {
    counted(counters, decrement, op.status());
    if noreply {
        return;
    }
    match op.status() {
        Status::OK => {
            out.decimal_unsigned(op.number().cast_unsigned());
            out.bytes(b"\r\n");
        }
        Status::MISS => line(out, "NOT_FOUND"),
        Status::NOT_NUMBER => line(out, NOT_A_NUMBER),
        status => line(out, failure(status)),
    }
}

/// `touch`.
pub fn touch(counters: &Counters, noreply: bool, op: &Op<'_>, out: &mut Out<'_>) {
    touched(counters, op.status());
    let text = match op.status() {
        Status::OK => "TOUCHED",
        Status::MISS => "NOT_FOUND",
        status => failure(status),
    };
    line_unless(out, noreply, text);
}

/// Counts what a touch did.
pub fn touched(counters: &Counters, status: Status) {
    counters.add(Count::cmd_touch, 1);
    match status {
        Status::OK => counters.add(Count::touch_hits, 1),
        Status::MISS => counters.add(Count::touch_misses, 1),
        _ => {}
    }
}

/// A plain success, or the failure.
pub fn answer(answer: Answer, status: Status, out: &mut Out<'_>) {
    match answer {
        Answer::Text { noreply } => {
            line_unless(out, noreply, if status == Status::OK { "OK" } else { failure(status) });
        }
        Answer::Binary(to) => crate::reply_binary::plain(&to, status, out),
    }
}
