//! Replies to binary requests.
//!
//! Must hold: a quiet request is answered only by a hit or by an error (a miss of a quiet get is
//! neither); every reply repeats opcode and opaque. Called by [`crate::plugin`] with the done
//! operation of one request.

use crucible_plugin_api::{ItemKind, Op, Out, Status as StoreStatus};

use crate::binary::{Opcode, Reply, Status};
use crate::counters::{Count, Counters};
use crate::reply_text;
use crate::ticket::Binary;

/// The mechanisms there are.
const MECHANISMS: &[u8] = b"PLAIN";

/// What the store's answer is on the wire.
pub const fn status_of(status: StoreStatus) -> Status {
    match status {
        StoreStatus::OK => Status::Ok,
        StoreStatus::MISS => Status::KeyNotFound,
        StoreStatus::EXISTS => Status::KeyExists,
        StoreStatus::NOT_STORED => Status::NotStored,
        StoreStatus::TOO_LARGE => Status::TooLarge,
        StoreStatus::NO_MEMORY => Status::OutOfMemory,
        StoreStatus::NOT_NUMBER => Status::NotNumeric,
        StoreStatus::UNSUPPORTED | StoreStatus::WRONG_TYPE => Status::NotSupported,
        StoreStatus::BUSY => Status::Busy,
        _ => Status::Internal,
    }
}

/// The parts of a reply's body but the value, and the value's length.
#[derive(Default)]
struct Body<'a> {
    extras: &'a [u8],
    key: &'a [u8],
    text: &'a [u8],
    value_len: usize,
    cas: u64,
}

fn write(to: &Binary, status: Status, body: &Body<'_>, out: &mut Out<'_>) {
    let len = body.extras.len() + body.key.len() + body.text.len() + body.value_len;
    let header = Reply {
        opcode_byte: to.opcode_byte,
        status,
        extras_len: body.extras.len() as u8,
        key_len: body.key.len() as u16,
        body_len: len as u32,
        opaque: to.opaque,
        cas: body.cas,
    };
    out.bytes(&header.bytes());
    out.bytes(body.extras);
    out.bytes(body.key);
    out.bytes(body.text);
}

/// An error with its text. Also for quiet requests.
pub fn error(to: &Binary, status: Status, out: &mut Out<'_>) {
    write(to, status, &Body { text: status.text().as_bytes(), ..Body::default() }, out);
}

/// Success without a body, left out if quiet; or the error.
pub fn plain(to: &Binary, status: StoreStatus, out: &mut Out<'_>) {
    match status_of(status) {
        Status::Ok if to.quiet => {}
        Status::Ok => write(to, Status::Ok, &Body::default(), out),
        status => error(to, status, out),
    }
}

/// A reply that was known when the request was read.
pub fn known(to: &Binary, status: Status, out: &mut Out<'_>) {
    let text: &[u8] = match (status, to.opcode) {
        (Status::Ok, Opcode::SaslListMechs) => MECHANISMS,
        (Status::Ok, Opcode::SaslAuth | Opcode::SaslStep) => b"Authenticated",
        _ => status.text().as_bytes(),
    };
    write(to, status, &Body { text, ..Body::default() }, out);
}

/// One row of statistics; without a name, the end.
pub fn stat(to: &Binary, name: &str, value: &str, out: &mut Out<'_>) {
    let body = Body { key: name.as_bytes(), text: value.as_bytes(), ..Body::default() };
    write(to, Status::Ok, &body, out);
}

/// Answers one request.
pub fn reply(
    counters: &Counters,
    to: &Binary,
    version: &str,
    op: Option<&Op<'_>>,
    out: &mut Out<'_>,
) {
    let Some(op) = op else {
        return match to.opcode {
            Opcode::Version => {
                write(to, Status::Ok, &Body { text: version.as_bytes(), ..Body::default() }, out);
            }
            _ => plain(to, StoreStatus::OK, out),
        };
    };
    match to.opcode {
        Opcode::Get | Opcode::GetK | Opcode::Gat | Opcode::GatK | Opcode::Touch => {
            get(counters, to, op, out);
        }
        Opcode::Delete => {
            reply_text::deleted(counters, op.status());
            plain(to, op.status(), out);
        }
        Opcode::Increment | Opcode::Decrement => {
            reply_text::counted(counters, to.opcode == Opcode::Decrement, op.status());
            let number = op.number().to_be_bytes();
            match op.status() {
                StoreStatus::OK if to.quiet => {}
                StoreStatus::OK => {
                    let body = Body { text: &number, cas: op.cas_out(), ..Body::default() };
                    write(to, Status::Ok, &body, out);
                }
                status => error(to, status_of(status), out),
            }
        }
        _ => store(counters, to, op, out),
    }
}

fn store(counters: &Counters, to: &Binary, op: &Op<'_>, out: &mut Out<'_>) {
    counters.add(Count::cmd_set, 1);
    let with_cas = op.raw().condition == crucible_plugin_api::Condition::IF_CAS;
    reply_text::stored(counters, with_cas, op.status());
    let joins = matches!(to.opcode, Opcode::Append | Opcode::Prepend);
    let status = match (op.status(), to.opcode) {
        (StoreStatus::OK, _) if to.quiet => return,
        (StoreStatus::OK, _) => {
            let body = Body { cas: op.cas_out(), ..Body::default() };
            return write(to, Status::Ok, &body, out);
        }
        (StoreStatus::NOT_STORED, Opcode::Add) => Status::KeyExists,
        (StoreStatus::NOT_STORED, Opcode::Replace) => Status::KeyNotFound,
        (StoreStatus::MISS, _) if joins => Status::NotStored,
        (status, _) => status_of(status),
    };
    error(to, status, out);
}

fn get(counters: &Counters, to: &Binary, op: &Op<'_>, out: &mut Out<'_>) {
    let touches = matches!(to.opcode, Opcode::Gat | Opcode::GatK | Opcode::Touch);
    if touches {
        reply_text::touched(counters, op.status());
    } else {
        counters.add(Count::cmd_get, 1);
    }
    let with_key = matches!(to.opcode, Opcode::GetK | Opcode::GatK);
    let key = if with_key { op.key() } else { &[] };
    let item = match (op.status(), op.item()) {
        (StoreStatus::OK, Some(item)) if item.kind() == ItemKind::String => item,
        (StoreStatus::OK, _) => return error(to, status_of(StoreStatus::WRONG_TYPE), out),
        (StoreStatus::MISS, _) => {
            if to.opcode != Opcode::Touch {
                counters.add(Count::get_misses, u64::from(!touches));
            }
            if to.quiet {
                return;
            }
            if !with_key {
                return error(to, Status::KeyNotFound, out);
            }
            return write(to, Status::KeyNotFound, &Body { key, ..Body::default() }, out);
        }
        (status, _) => return error(to, status_of(status), out),
    };
    counters.add(Count::get_hits, u64::from(to.opcode != Opcode::Touch));
    let value = (to.opcode != Opcode::Touch).then(|| item.value());
    let flags = item.flags().to_be_bytes();
    let value_len = value.map_or(0, |v| v.len());
    let body = Body { extras: &flags, key, value_len, cas: item.cas(), ..Body::default() };
    write(to, Status::Ok, &body, out);
    if let Some(value) = value {
        out.value(value);
    }
}
