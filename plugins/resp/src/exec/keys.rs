//! Key commands: presence, time to live, renaming, facts about keys.

use crucible_plugin_api::{Condition, Element, Op, OpCode, Opts, StructFlags, StructOp};

use super::{Ops, Pushed};
use crate::error::Refusal;
use crate::frame::Args;
use crate::number::parse_i64;
use crate::options::{self, Clock};
use crate::rdb;
use crate::structs::Shape;
use crate::table::{Cmd, arity_fits};
use crate::ticket::{Target, Ticket, TtlKind};

pub(super) fn exists<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) {
    for key in args.from(1) {
        q.op(Op::meta(key));
    }
    q.end(Ticket::Count);
}

pub(super) fn touch<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) {
    for key in args.from(1) {
        q.op(Op::get(key));
    }
    q.end(Ticket::Count);
}

pub(super) fn delete<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) {
    for key in args.from(1) {
        q.op(Op::delete(key));
    }
    q.end(Ticket::Count);
}

pub(super) fn ttl<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>) {
    let kind = match command {
        Cmd::Ttl => TtlKind::Seconds,
        Cmd::Pttl => TtlKind::Millis,
        Cmd::Expiretime => TtlKind::UnixSeconds,
        _ => TtlKind::UnixMillis,
    };
    q.command(Op::meta(args.at(1)), Ticket::Ttl(kind));
}

pub(super) fn expire<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let when = options::parse_expire(args, 3)?;
    let clock = match command {
        Cmd::Expire => Clock::Seconds,
        Cmd::Pexpire => Clock::Millis,
        Cmd::Expireat => Clock::UnixSeconds,
        _ => Clock::UnixMillis,
    };
    let at = options::any_deadline(args.at(2), clock, q.now_ms(), command.spec().name)?;
    let mut op = Op::touch(args.at(1), at);
    for (asked, option) in [
        (when.nx, Opts::IF_NO_TTL),
        (when.xx, Opts::IF_TTL),
        (when.gt, Opts::IF_LATER),
        (when.lt, Opts::IF_EARLIER),
    ] {
        if asked {
            op = op.opts(option);
        }
    }
    q.command(op, Ticket::Flag);
    Ok(())
}

pub(super) fn persist<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) {
    q.command(Op::touch(args.at(1), 0).opts(Opts::IF_TTL), Ticket::Flag);
}

/// The value is taken away from its key, then stored under the other one. Nobody sees the moment
/// between: the command runs while the store is its own.
pub(super) fn rename<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>) {
    let (from, to) = (args.at(1), args.at(2));
    let target = if command == Cmd::Rename { Target::Replace } else { Target::Spare };
    if from == to {
        q.command(Op::meta(from), Ticket::RenameSame(target));
    } else if has_structures(q) {
        // Such a backend renames values of every kind, in one step.
        let to = q.elements([Element::bytes(to)]);
        let op = Op::structure(StructOp::RENAME, from).keys(to);
        let spare = if target == Target::Spare { StructFlags::IF_NEW } else { StructFlags::NONE };
        q.op(op.with_flags(spare));
        q.end_barrier(Ticket::Renamed(target));
    } else if target == Target::Replace {
        q.op(Op::delete(from).opts(Opts::RETURN_OLD).arg(to));
        q.end_barrier(Ticket::RenameTake(target));
    } else {
        // Looked at first, so that a refused rename does not disturb its source.
        q.op(Op::meta(from));
        q.op(Op::meta(to));
        q.end_barrier(Ticket::RenameCheck);
    }
}

/// Whether the backend serves operations on structures, which include those on whole keys.
pub(super) fn has_structures(q: Ops<'_, '_>) -> bool {
    q.service().capabilities().serves(OpCode::STRUCT)
}

pub(super) fn copy<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let (mut replace, mut at) = (false, 3);
    while at < args.len() {
        let word = args.at(at);
        if word.eq_ignore_ascii_case(b"replace") {
            replace = true;
        } else if word.eq_ignore_ascii_case(b"db") && at + 1 < args.len() {
            at += 1;
            match parse_i64(args.at(at)) {
                None => return Err(Refusal::NotAnInteger),
                Some(0) => {}
                Some(_) => return Err(Refusal::DbIndex),
            }
        } else {
            return Err(Refusal::Syntax);
        }
        at += 1;
    }
    if args.at(1) == args.at(2) {
        return Err(Refusal::SameObject);
    }
    if has_structures(q) {
        let to = q.elements([Element::bytes(args.at(2))]);
        let replace = if replace { StructFlags::REPLACE } else { StructFlags::NONE };
        q.op(Op::structure(StructOp::COPY, args.at(1)).keys(to).with_flags(replace));
        q.end_barrier(Ticket::Copied);
    } else {
        q.op(Op::get(args.at(1)).arg(args.at(2)));
        q.end_barrier(Ticket::CopyRead { replace });
    }
    Ok(())
}

/// Checks a subcommand's name and arity.
pub fn subcommand(command: Cmd, args: Args<'_, '_>) -> Result<&'static str, Refusal> {
    let spec = command.spec();
    let sub =
        spec.sub(args.at(1)).ok_or_else(|| Refusal::unknown_subcommand(spec.name, args.at(1)))?;
    if !arity_fits(sub.arity, args.len()) {
        return Err(Refusal::Arity(format!("{}|{}", spec.name, sub.name)));
    }
    Ok(sub.name)
}

pub(super) fn object<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    match subcommand(Cmd::Object, args)? {
        "help" => super::cold::carry(Cmd::Object, args, q, false),
        "encoding" => {
            q.op(Op::get(args.at(2)).opts(Opts::NO_TOUCH));
            if has_structures(q) {
                q.op(Op::structure(StructOp::ENCODING, args.at(2)));
            }
            q.end(Ticket::Encoding);
        }
        name => {
            let fact = name.as_bytes()[0];
            q.command(Op::meta(args.at(2)), Ticket::ObjectFact(fact));
        }
    }
    Ok(())
}

pub(super) fn memory<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    if subcommand(Cmd::Memory, args)? != "usage" {
        super::cold::carry(Cmd::Memory, args, q, false);
        return Ok(());
    }
    match args.len() {
        3 => {}
        5 if args.at(3).eq_ignore_ascii_case(b"samples") => {
            let samples = parse_i64(args.at(4)).ok_or(Refusal::NotAnInteger)?;
            if samples < 0 {
                return Err(Refusal::Syntax);
            }
        }
        _ => return Err(Refusal::Syntax),
    }
    if has_structures(q) {
        let op = Op::structure(StructOp::MEMORY, args.at(2));
        q.command(op, Ticket::Structure(Shape::NumberOrNull));
    } else {
        q.command(Op::meta(args.at(2)), Ticket::MemoryUsage);
    }
    Ok(())
}

pub(super) fn restore<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let (mut replace, mut absolute, mut at) = (false, false, 4);
    while at < args.len() {
        match args.at(at).to_ascii_lowercase().as_slice() {
            b"replace" => replace = true,
            b"absttl" => absolute = true,
            b"idletime" if at + 1 < args.len() => {
                at += 1;
                let idle = parse_i64(args.at(at)).ok_or(Refusal::NotAnInteger)?;
                if idle < 0 {
                    return Err(Refusal::Text("ERR Invalid IDLETIME value, must be >= 0".into()));
                }
            }
            b"freq" if at + 1 < args.len() => {
                at += 1;
                let freq = parse_i64(args.at(at)).ok_or(Refusal::NotAnInteger)?;
                if !(0..=255).contains(&freq) {
                    return Err(Refusal::Text(
                        "ERR Invalid FREQ value, must be >= 0 and <= 255".into(),
                    ));
                }
            }
            _ => return Err(Refusal::Syntax),
        }
        at += 1;
    }
    let ttl = parse_i64(args.at(2)).ok_or(Refusal::NotAnInteger)?;
    let ttl = u64::try_from(ttl)
        .map_err(|_| Refusal::Text("ERR Invalid TTL value, must be >= 0".into()))?;
    let value = rdb::load(args.at(3)).map_err(|e| Refusal::Text(e.to_string()))?;
    let expires_at_ms = match (ttl, absolute) {
        (0, _) => 0,
        (ms, true) => ms,
        (ms, false) => ms.saturating_add(q.now_ms()),
    };
    let value = q.copy(&value);
    let mut op = Op::store(args.at(1), value).expires_at(expires_at_ms);
    if !replace {
        op = op.condition(Condition::IF_ABSENT);
    }
    q.command(op, Ticket::Restored);
    Ok(())
}

pub(super) fn watch<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) {
    for key in args.from(1) {
        // The token is looked at again by EXEC: an eviction's move must not change it.
        q.op(Op::meta(key).opts(Opts::WANT_CAS));
    }
    q.end_barrier(Ticket::Watched);
}
