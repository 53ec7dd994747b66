//! Operations on a set.

use crucible_plugin_api::{Status, StructAnswer, StructCall, StructOp};

use super::{Ctx, at_most, budget, random_count, tell_cursor};
use crate::Set;

pub(super) fn run(
    set: &mut Set,
    call: &StructCall<'_>,
    ctx: &mut Ctx<'_>,
    out: &mut StructAnswer<'_>,
) {
    let members = || call.args.iter().map(|member| member.as_bytes());
    match call.op {
        StructOp::SET_ADD | StructOp::SET_REMOVE => {
            let n = if call.op == StructOp::SET_ADD {
                members().filter(|member| set.add(member, ctx.limits)).count()
            } else {
                members().filter(|member| set.remove(member)).count()
            };
            if n > 0 {
                out.changed();
            }
            out.set_number(n as i64);
        }
        StructOp::SET_HAS => {
            let mut held = 0;
            for member in members() {
                let has = i64::from(set.has(member));
                out.int(has);
                held += has;
            }
            out.set_number(held);
        }
        StructOp::SET_LEN => out.set_number(set.len() as i64),
        StructOp::SET_MEMBERS => {
            set.for_each(|member| out.bytes(member));
            out.set_number(set.len() as i64);
        }
        StructOp::SET_RANDOM => {
            let Some(count) = random_count(call, out) else { return };
            set.random(ctx.rng, count, |member| out.bytes(member));
        }
        StructOp::SET_POP => {
            let count = at_most(call.first, set.len());
            if count > 0 {
                set.pop(ctx.rng, count, |member| out.bytes(member));
                out.changed();
            }
        }
        // Nothing is made of a set that is not there.
        StructOp::SET_COMPLEMENT if !set.is_empty() => {
            let mut left = Set::new();
            for member in members().filter(|member| !set.has(member)) {
                left.add(member, ctx.limits);
            }
            *set = left;
            out.changed();
            out.set_number(set.len() as i64);
        }
        StructOp::SET_COMPLEMENT => {}
        StructOp::SET_SCAN => {
            let next = set.scan(call.cursor, budget(call), |member| out.bytes(member));
            tell_cursor(next, out);
        }
        _ => out.fail(Status::UNSUPPORTED),
    }
}
