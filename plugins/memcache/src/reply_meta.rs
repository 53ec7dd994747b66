//! Replies to meta commands.
//!
//! Must hold: what is returned keeps the order of the request; Z, X and W come last, in this
//! order; W is written only by the command that set the mark. Called by [`crate::plugin`] with the
//! done operations of one command; which operations those are, [`MetaKind`] says.

use crucible_plugin_api::{Item, ItemKind, Op, Out, Status};

use crate::base64;
use crate::counters::{Count, Counters};
use crate::exptime::remaining_s;
use crate::marks::{KEY_BINARY, Outcome, STALE, WON};
use crate::meta::{Mode, Return};
use crate::number::Decimal;
use crate::reply_text::{self, NOT_A_NUMBER, failure, line};
use crate::stale;
use crate::ticket::{Meta, MetaKind};

/// Answers one command.
pub fn reply(counters: &Counters, meta: &Meta, now_ms: u64, ops: &[Op<'_>], out: &mut Out<'_>) {
    let Some(last) = ops.last() else { return };
    match meta.kind {
        MetaKind::Get => get(counters, meta, now_ms, Outcome::default(), None, last, out),
        MetaKind::GetModify => {
            let outcome = Outcome::from_note(ops[0].number());
            match ops[0].status() {
                Status::OK | Status::MISS => {
                    get(counters, meta, now_ms, outcome, Some(&ops[0]), last, out);
                }
                status => line(out, failure(status)),
            }
        }
        MetaKind::Set { .. } => set(counters, meta, &ops[0], last, out),
        MetaKind::Delete => {
            reply_text::deleted(counters, ops[0].status());
            plain(meta, ops[0].status(), "NF", &Returned::of(meta, &ops[0], last), out);
        }
        MetaKind::Arithmetic { decrement } => {
            arithmetic(counters, meta, decrement, now_ms, ops, last, out);
        }
        MetaKind::Debug => debug(now_ms, last, out),
    }
}

/// What the return flags need.
struct Returned<'a> {
    key: &'a [u8],
    key_binary: bool,
    opaque: &'a [u8],
    cas: u64,
    len: usize,
    client_flags: u32,
    hit: bool,
    /// Seconds since the item was used; 0 where the backend does not know.
    idle_s: u32,
    ttl_before_s: Option<u64>,
    ttl_after_s: Option<u64>,
    /// Only the key and the opaque token are returned.
    miss: bool,
}

impl<'a> Returned<'a> {
    /// For replies about no item.
    fn of(meta: &Meta, keyed: &Op<'a>, last: &Op<'a>) -> Self {
        Self {
            key: keyed.key(),
            key_binary: meta.base64,
            opaque: last.get_arg(),
            cas: 0,
            len: 0,
            client_flags: 0,
            hit: false,
            idle_s: 0,
            ttl_before_s: None,
            ttl_after_s: None,
            miss: true,
        }
    }

    fn write(&self, meta: &Meta, out: &mut Out<'_>) {
        for r in meta.returns.iter() {
            match r {
                _ if !returns(meta.kind, r, self.miss) => {}
                Return::Opaque => {
                    out.bytes(b" ");
                    out.bytes(self.opaque);
                }
                Return::Key => key(self.key, self.key_binary, out),
                Return::Cas => number(b" c", self.cas, out),
                Return::Size => number(b" s", self.len as u64, out),
                Return::TtlBefore => ttl(self.ttl_before_s, out),
                Return::TtlAfter => ttl(self.ttl_after_s, out),
                Return::ClientFlags => number(b" f", u64::from(self.client_flags), out),
                Return::LastAccess => number(b" l", u64::from(self.idle_s), out),
                Return::Hit => out.bytes(if self.hit { b" h1" } else { b" h0" }),
            }
        }
    }
}

/// Whether this command returns this; a flag it does not return is accepted and means nothing.
const fn returns(kind: MetaKind, what: Return, miss: bool) -> bool {
    match what {
        Return::Opaque | Return::Key => true,
        Return::Cas if matches!(kind, MetaKind::Set { .. }) => true,
        _ if miss => false,
        Return::Cas | Return::TtlBefore | Return::TtlAfter => {
            matches!(kind, MetaKind::Get | MetaKind::GetModify | MetaKind::Arithmetic { .. })
        }
        Return::Size => matches!(kind, MetaKind::Get | MetaKind::GetModify | MetaKind::Set { .. }),
        _ => matches!(kind, MetaKind::Get | MetaKind::GetModify),
    }
}

fn number(flag: &[u8], n: u64, out: &mut Out<'_>) {
    out.bytes(flag);
    out.bytes(Decimal::new(n).as_bytes());
}

fn ttl(seconds: Option<u64>, out: &mut Out<'_>) {
    match seconds {
        Some(s) => number(b" t", s, out),
        None => out.bytes(b" t-1"),
    }
}

fn key(key: &[u8], binary: bool, out: &mut Out<'_>) {
    out.bytes(b" k");
    if binary {
        base64::encode(key, |four| out.bytes(four));
        out.bytes(b" b");
    } else {
        out.bytes(key);
    }
}

fn get(
    counters: &Counters,
    meta: &Meta,
    now_ms: u64,
    outcome: Outcome,
    modify: Option<&Op<'_>>,
    read: &Op<'_>,
    out: &mut Out<'_>,
) {
    counters.add(if meta.touched { Count::cmd_touch } else { Count::cmd_get }, 1);
    match (read.status(), read.item()) {
        (Status::OK, Some(item)) if item.kind() == ItemKind::String => {
            counters.add(Count::get_hits, 1);
            if meta.touched {
                counters.add(Count::touch_hits, 1);
            }
            found(meta, now_ms, outcome, modify, read, &item, out);
        }
        (Status::OK, _) => line(out, failure(Status::WRONG_TYPE)),
        (Status::MISS, _) => {
            counters.add(if meta.touched { Count::touch_misses } else { Count::get_misses }, 1);
            if meta.quiet {
                return;
            }
            out.bytes(b"EN");
            Returned::of(meta, read, read).write(meta, out);
            out.bytes(b"\r\n");
        }
        (status, _) => line(out, failure(status)),
    }
}

fn found(
    meta: &Meta,
    now_ms: u64,
    outcome: Outcome,
    modify: Option<&Op<'_>>,
    read: &Op<'_>,
    item: &Item<'_>,
    out: &mut Out<'_>,
) {
    if meta.value {
        out.bytes(b"VA ");
        out.bytes(Decimal::new(item.len() as u64).as_bytes());
    } else {
        out.bytes(b"HD");
    }
    let left = remaining_s(item.expires_at_ms(), now_ms);
    // The command's own read-modify-write is no earlier use.
    let first = modify.and_then(Op::item).unwrap_or(*item);
    let before = if modify.is_some() { outcome.left_before_s.map(u64::from) } else { left };
    let returned = Returned {
        key_binary: item.marks() & KEY_BINARY != 0,
        cas: item.cas(),
        len: item.len(),
        client_flags: item.flags(),
        hit: item.was_seen() && !outcome.created,
        idle_s: if outcome.created { 0 } else { first.idle_s().unwrap_or(0) },
        ttl_before_s: before,
        ttl_after_s: left,
        miss: false,
        ..Returned::of(meta, read, read)
    };
    returned.write(meta, out);
    // The mark is gone if somebody stored a new value since: then nothing is left to win.
    let marked = item.marks() & WON != 0;
    let won = outcome.won && marked;
    if marked && !won {
        out.bytes(b" Z");
    }
    if item.marks() & STALE != 0 {
        out.bytes(b" X");
        if !marked {
            stale::all().insert(read.key());
        }
    }
    if won {
        out.bytes(b" W");
    }
    out.bytes(b"\r\n");
    if meta.value {
        out.value(item.value());
        out.bytes(b"\r\n");
    }
}

/// The two-letter replies of `ms` and `md`.
fn plain(meta: &Meta, status: Status, miss: &str, returned: &Returned<'_>, out: &mut Out<'_>) {
    let code = match status {
        Status::OK if meta.quiet => return,
        Status::OK => "HD",
        Status::MISS => miss,
        Status::EXISTS => "EX",
        Status::NOT_STORED => "NS",
        status => return line(out, failure(status)),
    };
    out.bytes(code.as_bytes());
    returned.write(meta, out);
    out.bytes(b"\r\n");
}

fn set(counters: &Counters, meta: &Meta, write: &Op<'_>, last: &Op<'_>, out: &mut Out<'_>) {
    let MetaKind::Set { mode, with_cas, len } = meta.kind else { return };
    counters.add(Count::cmd_set, 1);
    let status = write.status();
    reply_text::stored(counters, with_cas, status);
    let joins = matches!(mode, Mode::Append | Mode::Prepend);
    let ok = status == Status::OK;
    let len = if joins { usize::try_from(write.number()).unwrap_or(0) } else { len as usize };
    let cas = if ok { write.cas_out() } else { 0 };
    let returned = Returned { cas, len, miss: !ok, ..Returned::of(meta, write, last) };
    // An append to nothing is not stored, whatever its token.
    let miss = if joins { "NS" } else { "NF" };
    plain(meta, status, miss, &returned, out);
}

fn arithmetic(
    counters: &Counters,
    meta: &Meta,
    decrement: bool,
    now_ms: u64,
    ops: &[Op<'_>],
    last: &Op<'_>,
    out: &mut Out<'_>,
) {
    let [before, modify, after] = ops else { return };
    reply_text::counted(counters, decrement, modify.status());
    let status = modify.status();
    if status == Status::NOT_NUMBER {
        return line(out, NOT_A_NUMBER);
    }
    let returned = Returned::of(meta, modify, last);
    if status != Status::OK {
        return plain(meta, status, "NF", &returned, out);
    }
    if meta.quiet {
        return;
    }
    let digits = Decimal::new(modify.number().cast_unsigned());
    let digits = digits.as_bytes();
    if meta.value {
        out.bytes(b"VA ");
        out.bytes(Decimal::new(digits.len() as u64).as_bytes());
    } else {
        out.bytes(b"HD");
    }
    let left = |op: &Op<'_>| op.item().and_then(|i| remaining_s(i.expires_at_ms(), now_ms));
    let returned = Returned {
        cas: modify.cas_out(),
        len: digits.len(),
        ttl_before_s: left(before),
        ttl_after_s: left(after),
        miss: false,
        ..returned
    };
    returned.write(meta, out);
    out.bytes(b"\r\n");
    if meta.value {
        out.bytes(digits);
        out.bytes(b"\r\n");
    }
}

fn debug(now_ms: u64, op: &Op<'_>, out: &mut Out<'_>) {
    let item = match (op.status(), op.item()) {
        (Status::OK, Some(item)) => item,
        (Status::MISS, _) => return line(out, "EN"),
        (status, _) => return line(out, failure(status)),
    };
    out.bytes(b"ME ");
    if item.marks() & KEY_BINARY != 0 {
        base64::encode(op.key(), |four| out.bytes(four));
    } else {
        out.bytes(op.key());
    }
    match remaining_s(item.expires_at_ms(), now_ms) {
        Some(s) => number(b" exp=", s, out),
        None => out.bytes(b" exp=-1"),
    }
    number(b" la=", u64::from(item.idle_s().unwrap_or(0)), out);
    number(b" cas=", item.cas(), out);
    out.bytes(if item.was_seen() { b" fetch=yes cls=1 size=" } else { b" fetch=no cls=1 size=" });
    let size = op.key().len() + item.len();
    out.bytes(Decimal::new(size as u64).as_bytes());
    out.bytes(b"\r\n");
}
