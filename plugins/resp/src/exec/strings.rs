//! String commands: GET and SET with their kin, counters, parts of values.

use std::rc::Rc;

use crucible_plugin_api::{Change, Condition, Op, Opts, Status};

use super::{Ops, Pushed};
use crate::error::Refusal;
use crate::frame::Args;
use crate::number::{FloatError, add_floats, parse_i64};
use crate::options::{self, Clock, Dialect, Expiry, Options, When};
use crate::table::Cmd;
use crate::ticket::{LcsOptions, SetAll, SharedFound, Ticket};
use crate::value::range;

/// Longest value that commands may build up, in bytes (`proto-max-bulk-len`'s default).
pub const VALUE_LEN_BYTES_MAX: usize = 512 << 20;

/// The ticket of a SET with these options.
pub fn set_ticket(options: &Options<'_>) -> Ticket {
    match (options.get, options.when) {
        (true, _) => Ticket::Old,
        (false, When::Always) => Ticket::Stored,
        (false, _) => Ticket::StoredOrNull,
    }
}

/// A store operation under SET's options.
pub fn set_op<'a>(key: &'a [u8], value: &'a [u8], options: &Options<'a>) -> Op<'a> {
    let mut op = Op::store(key, value);
    op = match options.when {
        When::Always => op,
        When::Absent => op.condition(Condition::IF_ABSENT),
        When::Present => op.condition(Condition::IF_PRESENT),
        When::Equals(expected) => op.if_equal(expected),
    };
    if options.get {
        op = op.opts(Opts::RETURN_OLD);
    }
    match options.expiry {
        Expiry::Unset | Expiry::Persist => op,
        Expiry::Keep => op.opts(Opts::KEEP_TTL),
        Expiry::At(ms) => op.expires_at(ms),
    }
}

pub(super) fn set<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    if args.len() == 3 {
        q.command(Op::store(args.at(1), args.at(2)), Ticket::Stored);
        return Ok(());
    }
    let options = options::parse(args, 3, Dialect::Set, q.now_ms(), "set")?;
    q.command(set_op(args.at(1), args.at(2), &options), set_ticket(&options));
    Ok(())
}

pub(super) fn setnx<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) {
    let op = Op::store(args.at(1), args.at(2)).condition(Condition::IF_ABSENT);
    q.command(op, Ticket::StoredOrZero);
}

/// The deadline of SETEX and PSETEX.
pub fn setex_deadline(command: Cmd, text: &[u8], now_ms: u64) -> Result<u64, Refusal> {
    let clock = if command == Cmd::Setex { Clock::Seconds } else { Clock::Millis };
    options::positive_deadline(text, clock, now_ms, command.spec().name)
}

pub(super) fn setex<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let at = setex_deadline(command, args.at(2), q.now_ms())?;
    q.command(Op::store(args.at(1), args.at(3)).expires_at(at), Ticket::Stored);
    Ok(())
}

pub(super) fn getset<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) {
    q.command(Op::store(args.at(1), args.at(2)).opts(Opts::RETURN_OLD), Ticket::Old);
}

pub(super) fn getdel<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) {
    let key = args.at(1);
    if super::keys::has_structures(q) {
        // A plain delete takes a value of any kind; this one refuses all but strings.
        let op = q.modify(key, |old| match old {
            Some(_) => Change::delete(),
            None => Change::keep(Status::MISS),
        });
        *op = std::mem::replace(op, Op::nop(b"")).opts(Opts::RETURN_OLD);
        q.end(Ticket::Value);
    } else {
        q.command(Op::delete(key).opts(Opts::RETURN_OLD), Ticket::Value);
    }
}

pub(super) fn getex<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let options = match options::parse(args, 2, Dialect::Getex, q.now_ms(), "getex") {
        Ok(options) => options,
        Err(Refusal::Syntax) => return Err(Refusal::Syntax),
        // A bad time matters only when there is a key to give it to.
        Err(refusal) => {
            q.command(Op::meta(args.at(1)), Ticket::NullOrError(refusal.to_string().into()));
            return Ok(());
        }
    };
    let op = Op::get(args.at(1));
    let op = match options.expiry {
        Expiry::Unset | Expiry::Keep => op,
        Expiry::Persist => op.opts(Opts::SET_EXPIRY),
        Expiry::At(ms) => op.opts(Opts::SET_EXPIRY).expires_at(ms),
    };
    q.command(op, Ticket::Value);
    Ok(())
}

pub(super) fn delifeq<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) {
    q.command(Op::delete(args.at(1)).if_equal(args.at(2)), Ticket::Flag);
}

pub(super) fn mget<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) {
    for key in args.from(1) {
        q.op(Op::get(key));
    }
    q.end(Ticket::Values);
}

fn pairs<'a>(
    args: Args<'a, '_>,
    first: usize,
    n: usize,
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    (0..n).map(move |i| (args.at(first + 2 * i), args.at(first + 2 * i + 1)))
}

pub(super) fn mset<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    if args.len().is_multiple_of(2) {
        return Err(Refusal::Arity("mset".to_owned()));
    }
    for (key, value) in pairs(args, 1, args.len() / 2) {
        q.op(Op::store(key, value));
    }
    q.end(Ticket::AllStored);
    Ok(())
}

pub(super) fn msetnx<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    if args.len().is_multiple_of(2) {
        return Err(Refusal::Arity("msetnx".to_owned()));
    }
    for (key, value) in pairs(args, 1, args.len() / 2) {
        q.op(Op::meta(key).arg(value));
    }
    let all = SetAll { absent: true, expires_at_ms: 0, keep_ttl: false };
    q.end_barrier(Ticket::SetAllCheck(all));
    Ok(())
}

pub(super) fn msetex<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let bad = || Refusal::Text("ERR invalid numkeys value".to_owned());
    let n = parse_i64(args.at(1)).filter(|n| *n > 0).ok_or_else(bad)?;
    let n = usize::try_from(n).map_err(|_| bad())?;
    let behind = n.checked_mul(2).and_then(|n| n.checked_add(2)).filter(|e| *e <= args.len());
    let behind = behind.ok_or_else(|| Refusal::Arity("msetex".to_owned()))?;
    let options = options::parse(args, behind, Dialect::Msetex, q.now_ms(), "msetex")?;
    let (expires_at_ms, keep_ttl) = match options.expiry {
        Expiry::At(ms) => (ms, false),
        Expiry::Keep => (0, true),
        Expiry::Unset | Expiry::Persist => (0, false),
    };
    if options.when == When::Always {
        // One atomic step per key is all that is asked; the reply is 1 when all were stored.
        for (key, value) in pairs(args, 2, n) {
            q.op(set_op(key, value, &options));
        }
        q.end(Ticket::SetAllDone(SetAll { absent: false, expires_at_ms, keep_ttl }));
        return Ok(());
    }
    for (key, value) in pairs(args, 2, n) {
        q.op(Op::meta(key).arg(value));
    }
    let absent = options.when == When::Absent;
    q.end_barrier(Ticket::SetAllCheck(SetAll { absent, expires_at_ms, keep_ttl }));
    Ok(())
}

pub(super) fn add<'a>(args: Args<'a, '_>, by: i64, q: Ops<'_, 'a>) {
    q.command(Op::arith(args.at(1), by, by as u64), Ticket::Number);
}

pub(super) fn add_by<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let by = parse_i64(args.at(2)).ok_or(Refusal::NotAnInteger)?;
    let by = match command {
        Cmd::Decrby => by.checked_neg().ok_or(Refusal::DecrementOverflow)?,
        _ => by,
    };
    add(args, by, q);
    Ok(())
}

pub(super) fn add_float<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let by = args.at(2);
    crate::number::parse_f64(by).ok_or(Refusal::NotAFloat)?;
    let found = SharedFound::default();
    let seen = Rc::clone(&found);
    q.modify(args.at(1), move |old| {
        let present = old.map(|item| item.value().to_cow());
        match add_floats(present.as_deref().unwrap_or(b"0"), by) {
            Ok(text) => {
                let change = Change::replace(text.clone().into_bytes(), old);
                seen.borrow_mut().text = text;
                change
            }
            Err(FloatError::NotAFloat) => Change::keep(Status::NOT_NUMBER),
            Err(FloatError::NotFinite) => Change::keep(Status::OVERFLOW),
        }
    });
    q.end(Ticket::FloatFound(found));
    Ok(())
}

pub(super) fn append<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    q.command(Op::append(args.at(1), args.at(2)), Ticket::Number);
    Ok(())
}

pub(super) fn getrange<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let start = parse_i64(args.at(2)).ok_or(Refusal::NotAnInteger)?;
    let end = parse_i64(args.at(3)).ok_or(Refusal::NotAnInteger)?;
    q.command(Op::get(args.at(1)), Ticket::Range(start, end));
    Ok(())
}

pub(super) fn setrange<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let offset = parse_i64(args.at(2)).ok_or(Refusal::NotAnInteger)?;
    let offset = usize::try_from(offset).map_err(|_| Refusal::Offset)?;
    let (key, patch) = (args.at(1), args.at(3));
    if patch.is_empty() {
        q.command(Op::meta(key), Ticket::Length);
        return Ok(());
    }
    if offset.checked_add(patch.len()).is_none_or(|end| end > VALUE_LEN_BYTES_MAX) {
        return Err(Refusal::StringTooLong);
    }
    if offset + patch.len() > value_len_max(q) {
        return Err(Refusal::ValueTooLarge);
    }
    q.modify(key, move |old| {
        let present = old.map(|item| item.value().to_cow());
        let new = range::overwrite(present.as_deref().unwrap_or(b""), offset, patch);
        let len = new.len() as i64;
        Change::replace(new, old).with_note(len)
    });
    q.end(Ticket::Number);
    Ok(())
}

/// Longest value the backend takes, so that nothing larger is ever built in memory.
pub(super) fn value_len_max(q: Ops<'_, '_>) -> usize {
    usize::try_from(q.service().capabilities().value_len_max).unwrap_or(usize::MAX)
}

pub(super) fn lcs<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let (mut options, mut at) = (LcsOptions::default(), 3);
    while at < args.len() {
        match args.at(at).to_ascii_lowercase().as_slice() {
            b"len" => options.len = true,
            b"idx" => options.idx = true,
            b"withmatchlen" => options.with_len = true,
            b"minmatchlen" if at + 1 < args.len() => {
                at += 1;
                let least = parse_i64(args.at(at)).ok_or(Refusal::NotAnInteger)?;
                options.min_len = usize::try_from(least).unwrap_or(0);
            }
            _ => return Err(Refusal::Syntax),
        }
        at += 1;
    }
    if options.len && options.idx {
        return Err(Refusal::LcsBoth);
    }
    q.op(Op::get(args.at(1)));
    q.op(Op::get(args.at(2)));
    q.end(Ticket::Lcs(Box::new(options)));
    Ok(())
}
