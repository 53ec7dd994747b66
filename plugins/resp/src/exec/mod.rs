//! From arguments to operations: what each command asks of the store.
//!
//! A room per family of commands. Each function pushes operations and one ticket, or returns why
//! it refuses; nothing of a refused command stays queued. Commands that need no store, or change
//! the connection, carry their arguments to `reply` as `Cold`.

pub mod bitmaps;
pub mod cold;
pub mod hyperloglog;
pub mod keys;
pub mod streams;
pub mod strings;

use crucible_plugin_api::{Capabilities, Op, Queue};

use crate::error::Refusal;
use crate::frame::Args;
use crate::structs;
use crate::table::{Cmd, Need};
use crate::ticket::Ticket;

/// Where operations go.
pub type Ops<'q, 'a> = &'q mut Queue<'a, Ticket>;

/// Whether a command that is refused later would leave nothing behind.
pub type Pushed = Result<(), Refusal>;

/// Pushes what the store has to do for a command, whose arity has been checked.
#[inline]
pub fn push<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    match command {
        Cmd::Get => q.command(Op::get(args.at(1)), Ticket::Value),
        Cmd::Set => return strings::set(args, q),
        Cmd::Incr => strings::add(args, 1, q),
        Cmd::Ping if args.len() == 1 => q.end(Ticket::Static(b"+PONG\r\n")),
        Cmd::Exists => keys::exists(args, q),
        Cmd::Del | Cmd::Unlink => keys::delete(args, q),
        Cmd::Mget => strings::mget(args, q),
        _ => return push_more(command, args, q),
    }
    Ok(())
}

fn push_more<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    match command {
        Cmd::Echo => q.command(Op::nop(args.at(1)), Ticket::Echo),
        Cmd::Decr => strings::add(args, -1, q),
        Cmd::Incrby | Cmd::Decrby => return strings::add_by(command, args, q),
        Cmd::Incrbyfloat => return strings::add_float(args, q),
        Cmd::Mset => return strings::mset(args, q),
        Cmd::Msetnx => return strings::msetnx(args, q),
        Cmd::Msetex => return strings::msetex(args, q),
        Cmd::Setnx => strings::setnx(args, q),
        Cmd::Setex | Cmd::Psetex => return strings::setex(command, args, q),
        Cmd::Getset => strings::getset(args, q),
        Cmd::Getdel => strings::getdel(args, q),
        Cmd::Getex => return strings::getex(args, q),
        Cmd::Delifeq => strings::delifeq(args, q),
        Cmd::Append => return strings::append(args, q),
        Cmd::Strlen => q.command(Op::meta(args.at(1)), Ticket::Length),
        Cmd::Getrange | Cmd::Substr => return strings::getrange(args, q),
        Cmd::Setrange => return strings::setrange(args, q),
        Cmd::Lcs => return strings::lcs(args, q),
        Cmd::Touch => keys::touch(args, q),
        Cmd::Ttl | Cmd::Pttl | Cmd::Expiretime | Cmd::Pexpiretime => keys::ttl(command, args, q),
        Cmd::Expire | Cmd::Pexpire | Cmd::Expireat | Cmd::Pexpireat => {
            return keys::expire(command, args, q);
        }
        Cmd::Persist => keys::persist(args, q),
        Cmd::Type => q.command(Op::meta(args.at(1)), Ticket::Type),
        Cmd::Rename | Cmd::Renamenx => keys::rename(command, args, q),
        Cmd::Copy => return keys::copy(args, q),
        Cmd::Object => return keys::object(args, q),
        Cmd::Memory => return keys::memory(args, q),
        Cmd::Dump => q.command(Op::get(args.at(1)), Ticket::Dump),
        Cmd::Restore => return keys::restore(args, q),
        Cmd::Setbit => return bitmaps::setbit(args, q),
        Cmd::Getbit => return bitmaps::getbit(args, q),
        Cmd::Bitcount => return bitmaps::bitcount(args, q),
        Cmd::Bitpos => return bitmaps::bitpos(args, q),
        Cmd::Bitop => return bitmaps::bitop(args, q),
        Cmd::Pfadd => hyperloglog::pfadd(args, q),
        Cmd::Pfcount => hyperloglog::pfcount(args, q),
        Cmd::Pfmerge => hyperloglog::pfmerge(args, q),
        Cmd::Bitfield | Cmd::BitfieldRo => return bitmaps::bitfield(command, args, q),
        Cmd::Watch => keys::watch(args, q),
        // It counts what the commands before it have left.
        Cmd::Dbsize => q.end_barrier(Ticket::Items),
        Cmd::Publish | Cmd::Spublish | Cmd::Time | Cmd::Lolwut | Cmd::Command | Cmd::Ping => {
            cold::carry(command, args, q, false);
        }
        _ => match absence(command, q.service().capabilities()) {
            Some(refusal) => return Err(refusal),
            None if matches!(command.spec().need, Need::Structure(_)) => {
                return structs::push(command, args, q);
            }
            None => cold::carry(command, args, q, true),
        },
    }
    Ok(())
}

/// As [`push`], for a command that waits elsewhere but not in a transaction.
pub fn push_at_once<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    match absence(command, q.service().capabilities()) {
        Some(refusal) => Err(refusal),
        None => structs::blocking::push(command, args, false, q),
    }
}

/// Why a command is not served; `None` when it is.
pub fn absence(command: Cmd, backend: &Capabilities) -> Option<Refusal> {
    let name = command.spec().name;
    Some(Refusal::Text(match command.spec().need {
        Need::Structure(kind) if backend.has(kind.capability()) => return None,
        Need::Structure(kind) => format!(
            "ERR '{name}' needs a backend with the {kind} type, such as heap; the one this server \
             runs has none"
        ),
        Need::Absent(why) => format!("ERR '{name}' is not available: {why}"),
        _ => return None,
    }))
}
