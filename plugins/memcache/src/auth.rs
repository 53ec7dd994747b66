//! Who may give commands: SASL PLAIN for the binary encoding, the first `set` for text.
//!
//! Must hold: while a listener has users, nothing is obeyed before one of them was named with their
//! password; a refused attempt consumes its value to the byte. Called by the `serve` rooms.

use crucible_plugin_api::{Env, Next, Queue};

use crate::binary::{Opcode, Status};
use crate::counters::Count;
use crate::limits::SASL_BODY_LEN_BYTES_MAX;
use crate::line::{Split, Words};
use crate::number::parse_u32;
use crate::plugin::Worker;
use crate::serve_text::{BLOCK_END, block_len};
use crate::session::{Session, Step};
use crate::ticket::Ticket;

pub use crate::session::Auth;

/// What a fresh connection of this listener has to do.
pub fn at_open(env: &Env, listener: u32) -> Auth {
    match env.authenticate(listener, b"", b"") {
        None => Auth::NotNeeded,
        Some(_) => Auth::Required,
    }
}

fn check(worker: &Worker, session: &mut Session, env: &Env, user: &[u8], password: &[u8]) -> bool {
    let good = env.authenticate(session.listener, user, password) != Some(false);
    worker.counters.add(Count::auth_cmds, 1);
    if !good {
        worker.counters.add(Count::auth_errors, 1);
    }
    session.auth = if good { Auth::Done } else { Auth::Required };
    good
}

/// One step of SASL. PLAIN is `[authzid] NUL user NUL password`, with the request or in a step.
pub fn sasl(
    worker: &Worker,
    session: &mut Session,
    env: &Env,
    opcode: Opcode,
    mechanism: &[u8],
    message: &[u8],
) -> Status {
    let started = session.auth == Auth::Started;
    if mechanism != b"PLAIN" || opcode == Opcode::SaslStep && !started {
        return Status::AuthError;
    }
    if opcode == Opcode::SaslAuth && message.is_empty() {
        session.auth = Auth::Started;
        return Status::AuthContinue;
    }
    let mut parts = message.splitn(3, |b| *b == 0);
    let (Some(_authzid), Some(user), Some(password)) = (parts.next(), parts.next(), parts.next())
    else {
        session.auth = Auth::Required;
        return Status::AuthError;
    };
    if check(worker, session, env, user, password) { Status::Ok } else { Status::AuthError }
}

/// A text line before authentication: `set <any> <any> <any> <bytes>` with `user password` as its
/// value, or nothing.
pub fn text_line<'a>(
    worker: &Worker,
    session: &mut Session,
    line: &'a [u8],
    input: &'a [u8],
    used: usize,
    queue: &mut Queue<'a, Ticket>,
) -> Step {
    let split = Split::<8>::new(line);
    let len = match split.get() {
        [b"quit", ..] => return Step::Stop(used, Next::Close),
        [b"set", _, _, _, len, ..] => parse_u32(len),
        _ => None,
    };
    let Some(len) = len else {
        queue.end(Ticket::Line("CLIENT_ERROR unauthenticated"));
        return Step::Used(used);
    };
    if len as usize > SASL_BODY_LEN_BYTES_MAX {
        queue.end(Ticket::Line("CLIENT_ERROR bad authentication token format"));
        return Step::Stop(used, Next::Discard(block_len(len)));
    }
    let Some((value, end)) = input[used..].split_at_checked(len as usize) else {
        return Step::More;
    };
    let Some(end) = end.first_chunk::<2>() else { return Step::More };
    let mut words = Words::new(value);
    let answer = match (words.next(), words.next()) {
        _ if end != BLOCK_END => "CLIENT_ERROR bad command line termination",
        (Some(user), Some(password)) => {
            let env = queue.service().env();
            if check(worker, session, env, user, password) {
                "STORED"
            } else {
                "CLIENT_ERROR authentication failure"
            }
        }
        _ => "CLIENT_ERROR bad authentication token format",
    };
    queue.end(Ticket::Line(answer));
    Step::Used(used + value.len() + BLOCK_END.len())
}
