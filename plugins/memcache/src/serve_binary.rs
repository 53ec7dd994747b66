//! Binary requests to operations.
//!
//! Must hold: a header is judged before its body is waited for; a request that is refused is answered
//! and its body discarded to the byte; lengths that contradict each other close the connection
//! after the answer. Called by the session's loop for the binary encoding.

use crucible_plugin_api::{Condition, Next, Op, Opts, Queue, Status as StoreStatus};

use crate::auth;
use crate::binary::{Header, Opcode, Status, Verdict};
use crate::counter;
use crate::counters::Count;
use crate::exptime::deadline_of_binary_ms;
use crate::limits::{BINARY_HEADER_LEN_BYTES, SASL_BODY_LEN_BYTES_MAX, STREAM_FROM_BYTES};
use crate::plugin::{Memcache, Worker};
use crate::reply_binary::status_of;
use crate::session::{Session, State, Step};
use crate::ticket::{Answer, Binary, Ticket, TooLarge};

/// An expiration that forbids to create a counter.
const NO_CREATE: u32 = u32::MAX;

/// Takes one request from the start of `input`.
pub fn step<'a>(
    plugin: &Memcache,
    worker: &mut Worker,
    session: &mut Session,
    input: &'a [u8],
    queue: &mut Queue<'a, Ticket>,
) -> Step {
    if matches!(session.state, State::Body(_)) {
        return landed(session, queue);
    }
    let Some(bytes) = input.first_chunk::<BINARY_HEADER_LEN_BYTES>() else { return Step::More };
    let Some(header) = Header::read(bytes) else { return Step::Stop(input.len(), Next::Close) };
    let (opcode, quiet) = match header.judge() {
        Verdict::Request(opcode, quiet) => (opcode, quiet),
        Verdict::Refuse(status) => {
            refuse(&header, Opcode::Noop, status, queue);
            let body = u64::from(header.body_len);
            return Step::Stop(BINARY_HEADER_LEN_BYTES, Next::Discard(body));
        }
        Verdict::RefuseAndClose(status) => {
            // Extras and key are waited for: closing on a peer that still sends would cut the answer.
            if input.len() < BINARY_HEADER_LEN_BYTES + header.prefix_len() {
                return Step::More;
            }
            refuse(&header, Opcode::Noop, status, queue);
            return Step::Stop(input.len(), Next::Close);
        }
    };
    if !session.auth.allows() && !opcode.before_authentication() {
        refuse(&header, opcode, Status::AuthError, queue);
        return Step::Stop(input.len(), Next::Close);
    }
    let Some(request) = Request::split(header, opcode, quiet, input) else { return Step::More };
    if opcode.has_value() {
        with_value(plugin, worker, session, &request, input, queue)
    } else {
        without_value(plugin, worker, session, &request, queue)
    }
}

fn refuse(header: &Header, opcode: Opcode, status: Status, queue: &mut Queue<'_, Ticket>) {
    queue.end(Ticket::BinaryStatus(repeated(header, opcode, false), status));
}

fn repeated(header: &Header, opcode: Opcode, quiet: bool) -> Binary {
    Binary { opcode, opcode_byte: header.opcode_byte, quiet, opaque: header.opaque }
}

/// A request whose extras and key are here.
struct Request<'a> {
    header: Header,
    ticket: Binary,
    extras: &'a [u8],
    key: &'a [u8],
    /// Bytes of header, extras and key.
    prefix_len: usize,
}

impl<'a> Request<'a> {
    fn split(header: Header, opcode: Opcode, quiet: bool, input: &'a [u8]) -> Option<Self> {
        let prefix_len = BINARY_HEADER_LEN_BYTES + header.prefix_len();
        let body = input.get(BINARY_HEADER_LEN_BYTES..prefix_len)?;
        let (extras, key) = body.split_at(usize::from(header.extras_len));
        Some(Self { header, ticket: repeated(&header, opcode, quiet), extras, key, prefix_len })
    }

    /// Extras are as long as the opcode wants; `judge` saw to it.
    fn extra_u32(&self, at: usize) -> u32 {
        self.extras.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn extra_u64(&self, at: usize) -> u64 {
        u64::from(self.extra_u32(at)) << 32 | u64::from(self.extra_u32(at + 4))
    }

    /// The write of a storage request.
    fn store_op(&self, value: &'a [u8], now_ms: u64) -> Op<'a> {
        let cas = self.header.cas;
        let op = match self.ticket.opcode {
            Opcode::Append => Op::append(self.key, value).condition(Condition::IF_PRESENT),
            Opcode::Prepend => Op::prepend(self.key, value).condition(Condition::IF_PRESENT),
            opcode => {
                let op = Op::store(self.key, value)
                    .flags(self.extra_u32(0))
                    .expires_at(deadline_of_binary_ms(self.extra_u32(4), now_ms));
                match opcode {
                    Opcode::Add => op.condition(Condition::IF_ABSENT),
                    Opcode::Replace => op.condition(Condition::IF_PRESENT),
                    _ => op,
                }
            }
        };
        if cas == 0 { op } else { op.if_cas(cas) }
    }
}

fn without_value<'a>(
    plugin: &Memcache,
    worker: &mut Worker,
    session: &mut Session,
    request: &Request<'a>,
    queue: &mut Queue<'a, Ticket>,
) -> Step {
    let (key, ticket) = (request.key, request.ticket);
    let plain = Ticket::Binary(ticket);
    let now_ms = queue.now_ms();
    match ticket.opcode {
        // Every reply carries a token that the client may send back: it must survive evictions.
        Opcode::Get | Opcode::GetK => queue.command(Op::get(key).opts(Opts::WANT_CAS), plain),
        Opcode::Gat | Opcode::GatK => {
            let at = deadline_of_binary_ms(request.extra_u32(0), now_ms);
            let opts = Opts::SET_EXPIRY | Opts::WANT_CAS;
            queue.command(Op::get(key).opts(opts).expires_at(at), plain);
        }
        Opcode::Touch => {
            // The reply carries the client flags: a read that touches shows them.
            let at = deadline_of_binary_ms(request.extra_u32(0), now_ms);
            queue.command(Op::get(key).opts(Opts::SET_EXPIRY).expires_at(at), plain);
        }
        Opcode::Delete => {
            let op = Op::delete(key);
            let cas = request.header.cas;
            queue.command(if cas == 0 { op } else { op.if_cas(cas) }, plain);
        }
        Opcode::Increment | Opcode::Decrement => {
            let expiration = request.extra_u32(16);
            let at = deadline_of_binary_ms(expiration, now_ms);
            let plan = counter::Plan {
                delta: request.extra_u64(0),
                decrement: ticket.opcode == Opcode::Decrement,
                cas: Some(request.header.cas),
                create: (expiration != NO_CREATE).then(|| (request.extra_u64(8), at)),
                ..counter::Plan::default()
            };
            queue.modify(key, move |old| plan.decide(old));
            queue.end(plain);
        }
        Opcode::Quit => {
            queue.end(plain);
            return Step::Stop(request.prefix_len, Next::Close);
        }
        Opcode::Flush => {
            worker.counters.add(Count::cmd_flush, 1);
            if !plugin.settings.flush_enabled {
                queue.end(Ticket::BinaryStatus(ticket, Status::AuthError));
                return Step::Used(request.prefix_len);
            }
            let at = deadline_of_binary_ms(request.extra_u32(0), now_ms);
            let delay_ms = at.saturating_sub(now_ms);
            queue.end_barrier(Ticket::Flush { delay_ms, answer: Answer::Binary(ticket) });
        }
        Opcode::Stat => {
            queue.op(Op::nop(key));
            queue.end_barrier(Ticket::StatsBinary(ticket));
        }
        Opcode::SaslListMechs => {
            let exists = session.auth != auth::Auth::NotNeeded;
            let status = if exists { Status::Ok } else { Status::UnknownCommand };
            queue.end(Ticket::BinaryStatus(ticket, status));
        }
        _ => queue.end(plain),
    }
    Step::Used(request.prefix_len)
}

fn with_value<'a>(
    plugin: &Memcache,
    worker: &mut Worker,
    session: &mut Session,
    request: &Request<'a>,
    input: &'a [u8],
    queue: &mut Queue<'a, Ticket>,
) -> Step {
    let (ticket, used) = (request.ticket, request.prefix_len);
    let len = request.header.value_len();
    let discard = Step::Stop(used, Next::Discard(u64::from(len)));
    let sasl = matches!(ticket.opcode, Opcode::SaslAuth | Opcode::SaslStep);
    if sasl && session.auth == auth::Auth::NotNeeded {
        queue.end(Ticket::BinaryStatus(ticket, Status::UnknownCommand));
        return discard;
    }
    if sasl && len as usize > SASL_BODY_LEN_BYTES_MAX {
        queue.end(Ticket::BinaryStatus(ticket, Status::Invalid));
        return discard;
    }
    let streams = matches!(ticket.opcode, Opcode::Set | Opcode::Add | Opcode::Replace);
    if !sasl && u64::from(len) > plugin.block_len_max(streams, queue.service()) {
        return too_large(request, queue);
    }
    if let Some(value) = input.get(used..used + len as usize) {
        if sasl {
            let service = queue.service();
            let status =
                auth::sasl(worker, session, service.env(), ticket.opcode, request.key, value);
            queue.end(Ticket::BinaryStatus(ticket, status));
        } else {
            let op = request.store_op(value, queue.now_ms());
            queue.command(op, Ticket::Binary(ticket));
        }
        return Step::Used(used + value.len());
    }
    if !streams || (len as usize) < STREAM_FROM_BYTES {
        return Step::More;
    }
    match queue.begin_body(request.key, u64::from(len), Opts::NONE) {
        Ok(()) => {
            session.state = State::Body(input[..used].into());
            Step::Stop(used, Next::Body)
        }
        Err(StoreStatus::TOO_LARGE) => too_large(request, queue),
        Err(status) => {
            queue.end(Ticket::BinaryStatus(ticket, status_of(status)));
            discard
        }
    }
}

/// Refuses a value by its header. A `set` forgets the old value: it must not survive a refused new one.
fn too_large<'a>(request: &Request<'a>, queue: &mut Queue<'a, Ticket>) -> Step {
    if request.ticket.opcode == Opcode::Set {
        queue.op(Op::delete(request.key));
    }
    queue.end(Ticket::TooLarge(TooLarge::Binary(request.ticket)));
    Step::Stop(request.prefix_len, Next::Discard(u64::from(request.header.value_len())))
}

/// A streamed value is in the store's memory.
fn landed(session: &mut Session, queue: &mut Queue<'_, Ticket>) -> Step {
    let State::Body(prefix) = std::mem::replace(&mut session.state, State::Command) else {
        return Step::More;
    };
    let prefix = queue.copy(&prefix);
    let request =
        prefix.first_chunk::<BINARY_HEADER_LEN_BYTES>().and_then(Header::read).and_then(|header| {
            match header.judge() {
                Verdict::Request(opcode, quiet) => Request::split(header, opcode, quiet, prefix),
                _ => None,
            }
        });
    let Some(request) = request else {
        debug_assert!(false, "a body's header was judged before");
        queue.drop_body();
        return Step::Stop(0, Next::Close);
    };
    let op = request.store_op(&[], queue.now_ms());
    queue.commit_body(op);
    queue.end(Ticket::Binary(request.ticket));
    Step::Used(0)
}
