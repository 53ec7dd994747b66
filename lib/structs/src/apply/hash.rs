//! Operations on a hash.

use crucible_plugin_api::decimal::{FloatError, add_floats};
use crucible_plugin_api::semantics::parse_signed;
use crucible_plugin_api::{Opts, Status, StructAnswer, StructCall, StructFlags, StructOp};

use super::{Ctx, budget, random_count, tell_cursor};
use crate::Hash;
use crate::hash::Deadline;

pub(super) fn run(
    hash: &mut Hash,
    call: &StructCall<'_>,
    ctx: &mut Ctx<'_>,
    out: &mut StructAnswer<'_>,
) {
    let fields = || call.args.iter().map(|field| field.as_bytes());
    match call.op {
        StructOp::HASH_SET => set(hash, call, ctx, out),
        StructOp::HASH_GET => fields().for_each(|field| out.bytes_or_nil(hash.get(field))),
        StructOp::HASH_GETALL => {
            let (no_fields, no_values) =
                (call.has(StructFlags::VALUES_ONLY), call.has(StructFlags::FIELDS_ONLY));
            hash.for_each(|field, value| {
                if !no_fields {
                    out.bytes(field);
                }
                if !no_values {
                    out.bytes(value);
                }
            });
            out.set_number(hash.len() as i64);
        }
        StructOp::HASH_DEL => {
            let removed = match call.args {
                [] => std::mem::replace(hash, Hash::new()).len(),
                _ => fields().filter(|field| hash.remove(field)).count(),
            };
            if removed > 0 {
                out.changed();
            }
            out.set_number(removed as i64);
        }
        StructOp::HASH_LEN => out.set_number(hash.len() as i64),
        StructOp::HASH_EXISTS => {
            out.set_number(fields().filter(|field| hash.get(field).is_some()).count() as i64);
        }
        StructOp::HASH_STRLEN => {
            out.set_number(hash.get(call.arg(0)).map_or(0, <[u8]>::len) as i64);
        }
        StructOp::HASH_INCR => incr(hash, call, ctx, out),
        StructOp::HASH_INCR_FLOAT => incr_float(hash, call, ctx, out),
        StructOp::HASH_RANDOM => {
            let Some(count) = random_count(call, out) else { return };
            let with_values = call.has(StructFlags::WITH_VALUES);
            hash.random(ctx.rng, count, |field, value| {
                out.bytes(field);
                if with_values {
                    out.bytes(value);
                }
            });
        }
        StructOp::HASH_SCAN => {
            let no_values = call.has(StructFlags::FIELDS_ONLY);
            let next = hash.scan(call.cursor, budget(call), |field, value| {
                out.bytes(field);
                if !no_values {
                    out.bytes(value);
                }
            });
            tell_cursor(next, out);
        }
        StructOp::HASH_EXPIRE => expire(hash, call, ctx, out),
        StructOp::HASH_DEADLINE => fields().for_each(|field| match hash.deadline(field) {
            None => out.int(-2),
            Some(0) => out.int(-1),
            Some(at) => out.int(at.cast_signed()),
        }),
        StructOp::HASH_PERSIST => fields().for_each(|field| match hash.deadline(field) {
            None => out.int(-2),
            Some(0) => out.int(-1),
            Some(_) => {
                hash.set_deadline(field, 0);
                out.changed();
                out.int(1);
            }
        }),
        StructOp::HASH_GETDEL => {
            let mut removed = 0;
            for field in fields() {
                out.bytes_or_nil(hash.get(field));
                removed += i64::from(hash.remove(field));
            }
            if removed > 0 {
                out.changed();
            }
            out.set_number(removed);
        }
        StructOp::HASH_GETEX => getex(hash, call, ctx, out),
        _ => out.fail(Status::UNSUPPORTED),
    }
}

fn set(hash: &mut Hash, call: &StructCall<'_>, ctx: &mut Ctx<'_>, out: &mut StructAnswer<'_>) {
    if !call.args.len().is_multiple_of(2) {
        return out.fail(Status::INVALID);
    }
    let pairs = || call.args.chunks_exact(2).map(|p| (p[0].as_bytes(), p[1].as_bytes()));
    let forbidden =
        |has: bool| call.has(StructFlags::IF_NEW) && has || call.has(StructFlags::IF_HELD) && !has;
    if (call.has(StructFlags::IF_NEW) || call.has(StructFlags::IF_HELD))
        && pairs().any(|(field, _)| forbidden(hash.get(field).is_some()))
    {
        return out.fail(Status::NOT_STORED);
    }
    let deadline = match (call.has(StructFlags::FIELD_TTL), call.second) {
        (true, at) => Deadline::At(at.cast_unsigned()),
        _ if call.has(StructFlags::KEEP_FIELD_TTL) => Deadline::Keep,
        _ => Deadline::Clear,
    };
    let mut added = 0;
    for (field, value) in pairs() {
        match deadline {
            // It is over before it began.
            Deadline::At(at) if at <= ctx.now_ms => {
                if hash.remove(field) {
                    out.changed();
                }
            }
            _ => {
                added += i64::from(hash.set(field, value, deadline, ctx.limits));
                out.changed();
            }
        }
    }
    out.set_number(added);
}

fn incr(hash: &mut Hash, call: &StructCall<'_>, ctx: &mut Ctx<'_>, out: &mut StructAnswer<'_>) {
    let field = call.arg(0);
    let old = match hash.get(field).map(parse_signed) {
        None => 0,
        Some(Some(number)) => number,
        Some(None) => return out.fail(Status::NOT_NUMBER),
    };
    let Some(sum) = old.checked_add(call.first) else { return out.fail(Status::OVERFLOW) };
    hash.set(field, itoa::Buffer::new().format(sum).as_bytes(), Deadline::Keep, ctx.limits);
    out.changed();
    out.set_number(sum);
}

fn incr_float(
    hash: &mut Hash,
    call: &StructCall<'_>,
    ctx: &mut Ctx<'_>,
    out: &mut StructAnswer<'_>,
) {
    let field = call.arg(0);
    match add_floats(hash.get(field).unwrap_or(b"0"), call.arg(1)) {
        Ok(sum) => {
            hash.set(field, sum.as_bytes(), Deadline::Keep, ctx.limits);
            out.changed();
            out.bytes(sum.as_bytes());
        }
        Err(FloatError::NotAFloat) => out.fail(Status::NOT_FLOAT),
        Err(FloatError::NotFinite) => out.fail(Status::NOT_FINITE),
    }
}

fn expire(hash: &mut Hash, call: &StructCall<'_>, ctx: &mut Ctx<'_>, out: &mut StructAnswer<'_>) {
    let new = call.second.cast_unsigned();
    let latest = |at: u64| if at == 0 { u64::MAX } else { at };
    for field in call.args.iter().map(|field| field.as_bytes()) {
        let Some(old) = hash.deadline(field) else {
            out.int(-2);
            continue;
        };
        let opts = call.opts;
        if opts.has(Opts::IF_NO_TTL) && old != 0
            || opts.has(Opts::IF_TTL) && old == 0
            || opts.has(Opts::IF_LATER) && latest(new) <= latest(old)
            || opts.has(Opts::IF_EARLIER) && latest(new) >= latest(old)
        {
            out.int(0);
        } else if new != 0 && new <= ctx.now_ms {
            hash.remove(field);
            out.changed();
            out.int(2);
        } else {
            hash.set_deadline(field, new);
            out.changed();
            out.int(1);
        }
    }
}

fn getex(hash: &mut Hash, call: &StructCall<'_>, ctx: &mut Ctx<'_>, out: &mut StructAnswer<'_>) {
    let sets = call.has(StructFlags::FIELD_TTL);
    for field in call.args.iter().map(|field| field.as_bytes()) {
        out.bytes_or_nil(hash.get(field));
        let Some(old) = hash.deadline(field) else { continue };
        let new = call.second.cast_unsigned();
        if sets && new <= ctx.now_ms {
            hash.remove(field);
            out.changed();
        } else if sets {
            hash.set_deadline(field, new);
            out.changed();
        } else if call.has(StructFlags::PERSIST) && old != 0 {
            hash.set_deadline(field, 0);
            out.changed();
        }
    }
}
