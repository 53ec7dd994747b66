//! Values that are too long to be gathered: they go straight into the store, or past us.
//!
//! ```text
//!  header of a long bulk seen ──> begin ──> body received by the host ──> rest of the command
//!                                   │                                            │
//!                                   └─ refused: bytes discarded ─────────────────┤
//!                                                                                v
//!                                             options judged; committed, dropped or error
//! ```
//! Options behind the value count just as in front of a short one. Called by `parse`.

use crucible_plugin_api::{Condition, Next, Op, Opts, Parsed};

use super::{Ops, strings};
use crate::error::Refusal;
use crate::frame::{Args, Pending};
use crate::options::{self, Dialect};
use crate::session::{Session, Stream, mode};
use crate::table::{Cmd, arity_fits};
use crate::ticket::Ticket;

/// Which argument of a command is the value that may stream.
fn value_index(command: Cmd) -> Option<usize> {
    match command {
        Cmd::Set | Cmd::Setnx | Cmd::Getset => Some(2),
        Cmd::Setex | Cmd::Psetex => Some(3),
        _ => None,
    }
}

/// Begins to stream or to discard the pending bulk, if that is called for. `consumed` is where the
/// bulk's bytes begin in the input of this `parse`; `find` knows what commands are called here.
pub fn begin<'a>(
    session: &mut Session,
    find: impl Fn(&[u8]) -> Option<Cmd>,
    args: Args<'a, '_>,
    pending: Pending,
    consumed: usize,
    stream_len_bytes_min: usize,
    q: Ops<'_, 'a>,
) -> Option<Parsed> {
    if pending.len_bytes < stream_len_bytes_min || args.is_empty() {
        return None;
    }
    let command = find(args.at(0))?;
    let plain = !session.is(mode::MULTI | mode::UNAUTHENTICATED | mode::SUBSCRIBED | mode::CLUSTER);
    let argc = pending.index + 1 + pending.more;
    let streams = plain
        && value_index(command) == Some(pending.index)
        && arity_fits(command.spec().arity, argc);
    let too_large = pending.len_bytes > strings::value_len_max(q);
    let refused: Option<Box<str>> = if streams && !too_large {
        let opts = if argc > 3 { Opts::MAY_EXPIRE } else { Opts::NONE };
        match q.begin_body(args.at(1), pending.len_bytes as u64, opts) {
            Ok(()) => None,
            Err(status) => Some(crate::reply::store_refusal(status).to_string().into()),
        }
    } else if too_large {
        Some(Refusal::ValueTooLarge.to_string().into())
    } else {
        return None;
    };
    let next = match refused {
        None => Next::Body,
        Some(_) => Next::Discard(pending.len_bytes as u64),
    };
    let before = args.from(0).map(<[u8]>::to_vec).collect();
    session.rare().stream = Some(Stream { command, before, refused });
    session.set(mode::STREAM, true);
    Some(Parsed::with(consumed, next))
}

/// Ends the streamed command: `rest` are the arguments behind the value.
pub fn finish<'a>(session: &mut Session, rest: Args<'a, '_>, q: Ops<'_, 'a>) -> Result<Cmd, Cmd> {
    session.set(mode::STREAM, false);
    let Some(stream) = session.rare().stream.take() else { return Err(Cmd::Set) };
    let command = stream.command;
    if let Some(text) = stream.refused {
        if session.is(mode::MULTI) {
            session.rare().transaction.aborted = true;
        }
        q.end(Ticket::Error(text));
        return Err(command);
    }
    match publish(&stream, rest, q) {
        Ok(()) => Ok(command),
        Err(refusal) => {
            q.drop_body();
            q.end(Ticket::Error(refusal.to_string().into()));
            Err(command)
        }
    }
}

fn publish<'a>(stream: &Stream, rest: Args<'a, '_>, q: Ops<'_, 'a>) -> Result<(), Refusal> {
    let now_ms = q.now_ms();
    let key = q.copy(&stream.before[1]);
    let (op, ticket) = match stream.command {
        Cmd::Set => {
            let options = options::parse(rest, 0, Dialect::Set, now_ms, "set")?;
            (strings::set_op(key, b"", &options), strings::set_ticket(&options))
        }
        Cmd::Setnx => (Op::store(key, b"").condition(Condition::IF_ABSENT), Ticket::StoredOrZero),
        Cmd::Getset => (Op::store(key, b"").opts(Opts::RETURN_OLD), Ticket::Old),
        command => {
            let at = strings::setex_deadline(command, &stream.before[2], now_ms)?;
            (Op::store(key, b"").expires_at(at), Ticket::Stored)
        }
    };
    q.commit_body(op);
    q.end(ticket);
    Ok(())
}
