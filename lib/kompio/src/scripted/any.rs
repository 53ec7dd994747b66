//! The loop under a kernel that does anything a kernel may, in any order, as bytes say.
//!
//! Completions come in any order; sends are short, interrupted or fail; receives find no buffer or
//! end; zero-copy notifications come late; cancels come too late; clients close in the middle. What
//! must hold: input is delivered once and in order, what was queued leaves once and in order, memory
//! that was lent is given back exactly once and never read afterwards, every connection is closed
//! exactly once and is silent from then on. Run by a test on random bytes and by the fuzzer.
//!
//! # Safety
//! Memory that is lent to sends is kept until its release, and spoiled then.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use crate::buffers::Buffers;
use crate::ctx::DriverCtx;
use crate::handler::Consumed;
use crate::kernel::{Cqe, File, Op};
use crate::out::SendPart;
use crate::scripted::{Rig, Seen};
use crate::sys;
use crate::token::{ConnToken, Kind, Tag};

/// Moves of one input: enough for every state, few enough for many inputs a second.
const MOVES_MAX: usize = 600;
const CONNECTIONS_MAX: usize = 6;
/// Rounds in which everything outstanding must have come to its end.
const SETTLE_ROUNDS_MAX: usize = 2000;
/// Replies from this length on are lent, not copied.
const LENT_LEN_MIN: usize = 16 * 1024;

/// The script.
struct Tape<'a>(&'a [u8]);

impl Tape<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit.max(1)
    }

    /// Small and large lengths.
    fn len(&mut self) -> usize {
        let byte = usize::from(self.byte());
        if byte < 200 { byte + 1 } else { (byte - 199) * 977 }
    }
}

/// What is known of one connection.
#[derive(Default)]
struct Known {
    fed: Vec<u8>,
    consumed: usize,
    /// What the handler queued, and what the peer got of it.
    queued: Vec<u8>,
    got: usize,
    closed: bool,
}

#[derive(Default)]
struct World {
    conns: HashMap<ConnToken, Known>,
    lent: HashMap<u64, Box<[u8]>>,
    ids: u64,
}

impl World {
    /// Takes what it likes of the input, and answers it by copy or by reference.
    fn on_data(&mut self, ctx: &mut DriverCtx, conn: ConnToken, data: &[u8]) -> Consumed {
        let known = self.conns.get_mut(&conn).expect("accepted");
        assert!(!known.closed, "data after the close");
        let rest = &known.fed[known.consumed..];
        assert!(rest.starts_with(data), "input came twice, torn or out of order");
        if ctx.is_congested(conn) || data[0] == 13 {
            return Consumed::Later;
        }
        let take = if data[0] % 5 == 4 { data.len().div_ceil(2) } else { data.len() };
        known.consumed += take;
        let times = if data[0] % 16 == 3 { 40 } else { 1 };
        let reply = data[..take].repeat(times);
        let taken = if reply.len() >= LENT_LEN_MIN {
            self.ids += 1;
            let memory: Box<[u8]> = reply.clone().into();
            let part =
                SendPart::Ref { ptr: memory.as_ptr(), len: memory.len(), release_id: self.ids };
            self.lent.insert(self.ids, memory);
            // SAFETY: the box stays in `lent` until its id is released.
            unsafe { ctx.send_parts(conn, &[part]) }
        } else {
            ctx.send(conn, &reply)
        };
        if taken {
            known.queued.extend(reply);
        }
        Consumed::Bytes(take)
    }
}

struct Play<'a> {
    tape: Tape<'a>,
    rig: Rig,
    world: Rc<RefCell<World>>,
    open: Vec<ConnToken>,
    /// Zero-copy sends whose notification is still to come.
    notices: Vec<Tag>,
    counter: u8,
}

/// Plays what the bytes say.
pub(crate) fn run(bytes: &[u8]) {
    let mut tape = Tape(bytes);
    let incremental = tape.byte().is_multiple_of(2);
    let count = [2, 4, 8][tape.below(3)];
    let buffers = Buffers::new(count, 4096, incremental).expect("buffers");
    let change = |c: &mut crate::Config| {
        c.output_low_water_bytes = 4 << 10;
        c.output_high_water_bytes = 32 << 10;
        c.output_hard_limit_bytes = 8 << 20;
    };
    let mut rig = Rig::with(change, buffers);
    let world = Rc::new(RefCell::new(World::default()));
    let handler = world.clone();
    rig.on_data(move |ctx, conn, data| handler.borrow_mut().on_data(ctx, conn, data));
    let mut play = Play { tape, rig, world, open: Vec::new(), notices: Vec::new(), counter: 0 };
    for _ in 0..MOVES_MAX {
        if play.tape.0.is_empty() {
            break;
        }
        play.step();
    }
    play.settle();
    play.end();
}

impl Play<'_> {
    fn step(&mut self) {
        match self.tape.below(12) {
            0 => self.accept(),
            1..=3 => self.complete_one(),
            4 | 5 => self.feed(),
            6 => self.app(),
            7 => self.notify_one(),
            8 => self.rig.worker.kernel.now += Duration::from_millis(self.tape.byte().into()),
            _ => self.turn(),
        }
    }

    fn turn(&mut self) {
        self.rig.turn();
        for seen in self.rig.seen() {
            self.saw(seen);
        }
    }

    fn saw(&mut self, seen: Seen) {
        let mut world = self.world.borrow_mut();
        match seen {
            Seen::Accept(conn) => {
                let before = world.conns.insert(conn, Known::default());
                assert!(before.is_none(), "{conn:?} was accepted twice");
                self.open.push(conn);
            }
            Seen::Close(conn, _) => {
                let known = world.conns.get_mut(&conn).expect("accepted");
                assert!(!known.closed, "{conn:?} was closed twice");
                known.closed = true;
                self.open.retain(|open| *open != conn);
            }
            Seen::Release(ids) => {
                for id in ids {
                    let mut memory =
                        world.lent.remove(&id).expect("released once, and lent before");
                    // Whoever reads it from now on shows it.
                    memory.fill(0xee);
                }
            }
            Seen::Sent(conn) | Seen::Writable(conn) | Seen::HalfClose(conn) => {
                assert!(!world.conns[&conn].closed, "{conn:?} heard of after its close");
            }
            Seen::Data(..) | Seen::Fill(..) | Seen::Connect(..) | Seen::Timer(_) => {}
        }
    }

    fn accept(&mut self) {
        let tag = Tag { kind: Kind::Accept, slot: 0, generation: 0 };
        let errors = [libc::ECONNABORTED, libc::EINTR, libc::EMFILE];
        if self.tape.byte().is_multiple_of(8) {
            let at = self.rig.worker.kernel.outstanding.iter().position(|(_, t)| *t == tag);
            if at.is_some() {
                self.rig.take(tag);
                let errno = errors[self.tape.below(errors.len())];
                self.rig.worker.kernel.complete(tag, -errno, 0);
            }
        } else if self.open.len() < CONNECTIONS_MAX
            && self.rig.worker.kernel.outstanding.iter().any(|(_, t)| *t == tag)
        {
            self.rig.worker.kernel.complete(tag, sys::descriptor(), Cqe::MORE);
            // The connection is known before anything else happens to it.
            self.turn();
        }
    }

    /// Lets bytes arrive where somebody receives.
    fn feed(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let conn = self.open[self.tape.below(self.open.len())];
        let len = self.tape.len();
        let tag = self.rig.tag(Kind::Recv, conn);
        let once = match self.rig.ops(Kind::Recv, conn)[..] {
            [Op::RecvMulti { .. }] => false,
            [Op::RecvOnce { .. }] => true,
            _ => return,
        };
        self.counter = self.counter.wrapping_add(1);
        let mut bytes = vec![self.counter; len];
        bytes[0] = self.tape.byte();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let Some((flags, taken)) = self.rig.worker.kernel.put(rest) else {
                self.rig.take(tag);
                self.rig.worker.kernel.complete(tag, -libc::ENOBUFS, 0);
                return;
            };
            self.world.borrow_mut().conns.get_mut(&conn).expect("open").fed.extend(&rest[..taken]);
            rest = &rest[taken..];
            // At times the kernel ends a receive with its last bytes.
            if once || (rest.is_empty() && len.is_multiple_of(11)) {
                self.rig.take(tag);
                self.rig.worker.kernel.complete(tag, taken as i32, flags);
                return;
            }
            self.rig.worker.kernel.complete(tag, taken as i32, flags | Cqe::MORE);
        }
    }

    /// What a program may do at any time.
    fn app(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let conn = self.open[self.tape.below(self.open.len())];
        match self.tape.below(6) {
            0 => self.rig.ctx().close(conn),
            1 => self.rig.ctx().close_after_flush(conn),
            2 => self.rig.ctx().pause_recv(conn),
            3 => self.rig.ctx().resume_recv(conn),
            4 => self.rig.ctx().unpin(conn),
            _ => {
                let len = self.tape.len();
                let bytes = vec![b's'; len];
                if self.rig.ctx().send(conn, &bytes) {
                    self.world
                        .borrow_mut()
                        .conns
                        .get_mut(&conn)
                        .expect("open")
                        .queued
                        .extend(bytes);
                }
            }
        }
    }

    fn notify_one(&mut self) {
        if !self.notices.is_empty() {
            let tag = self.notices.remove(self.tape.below(self.notices.len()));
            let result = if self.tape.byte().is_multiple_of(4) { Cqe::COPIED as i32 } else { 0 };
            self.rig.worker.kernel.complete(tag, result, Cqe::NOTIFICATION);
        }
    }

    /// Ends one outstanding operation in one of the ways it may end.
    fn complete_one(&mut self) {
        let len = self.rig.worker.kernel.outstanding.len();
        if len > 0 {
            let at = self.tape.below(len);
            let way = self.tape.byte();
            self.complete(at, way);
        }
    }

    fn complete(&mut self, at: usize, way: u8) {
        let (op, tag) = self.rig.worker.kernel.outstanding[at];
        match op {
            Op::Send { .. } | Op::SendMessage { .. } => {
                self.rig.worker.kernel.outstanding.remove(at);
                let result = match way {
                    0 => -libc::EPIPE,
                    1 => -libc::ECONNRESET,
                    2 | 3 => -libc::EINTR,
                    _ => self.transmit(op, tag, way),
                };
                self.rig.worker.kernel.complete(tag, result, 0);
            }
            Op::SendZeroCopy { .. } | Op::SendMessageZeroCopy { .. } => {
                self.rig.worker.kernel.outstanding.remove(at);
                match way {
                    0 => self.rig.worker.kernel.complete(tag, -libc::EPIPE, 0),
                    1 => self.rig.worker.kernel.complete(tag, -libc::EOPNOTSUPP, 0),
                    2 => {
                        self.rig.worker.kernel.complete(tag, -libc::ECONNRESET, Cqe::MORE);
                        self.notices.push(tag);
                    }
                    _ => {
                        let result = self.transmit(op, tag, way);
                        self.rig.worker.kernel.complete(tag, result, Cqe::MORE);
                        self.notices.push(tag);
                    }
                }
            }
            Op::RecvMulti { .. } | Op::RecvOnce { .. } => {
                let result = match way {
                    0 => 0,
                    1 => -libc::ECONNRESET,
                    2..=5 => -libc::ENOBUFS,
                    6 => -libc::EINTR,
                    _ => return,
                };
                self.rig.worker.kernel.outstanding.remove(at);
                self.rig.worker.kernel.complete(tag, result, 0);
            }
            Op::Cancel { target } => {
                self.rig.worker.kernel.outstanding.remove(at);
                self.cancel(way, |_, other| other == target, tag);
            }
            Op::CancelAll { file } => {
                self.rig.worker.kernel.outstanding.remove(at);
                self.cancel(way, |op, _| file_of(op) == Some(file), tag);
            }
            Op::Timer { .. } if way.is_multiple_of(2) => {
                self.rig.worker.kernel.outstanding.remove(at);
                self.rig.worker.kernel.complete(tag, -libc::ETIME, 0);
            }
            _ => {}
        }
    }

    /// Ends the operations that are meant; when there are none, says so.
    fn cancel(&mut self, way: u8, meant: impl Fn(Op, Tag) -> bool, cancel: Tag) {
        let mut found = false;
        let mut at = 0;
        while at < self.rig.worker.kernel.outstanding.len() {
            let (op, tag) = self.rig.worker.kernel.outstanding[at];
            if !meant(op, tag) {
                at += 1;
                continue;
            }
            found = true;
            self.rig.worker.kernel.outstanding.remove(at);
            let sends = matches!(
                op,
                Op::Send { .. }
                    | Op::SendMessage { .. }
                    | Op::SendZeroCopy { .. }
                    | Op::SendMessageZeroCopy { .. }
            );
            // A send may have moved something before it was cancelled.
            if sends && way.is_multiple_of(3) {
                let result = self.transmit(op, tag, way);
                let zero_copy = tag.kind == Kind::ZeroCopy;
                if zero_copy {
                    self.notices.push(tag);
                }
                let flags = if zero_copy { Cqe::MORE } else { 0 };
                self.rig.worker.kernel.complete(tag, result, flags);
            } else {
                self.rig.worker.kernel.complete(tag, -libc::ECANCELED, 0);
            }
        }
        if !found {
            self.rig.worker.kernel.complete(cancel, -libc::ENOENT, 0);
        }
    }

    /// Moves all or a part of a send's bytes to its peer; how many.
    fn transmit(&mut self, op: Op, tag: Tag, way: u8) -> i32 {
        let bytes = Rig::sending(op).concat();
        let len = match way {
            4..=60 => bytes.len().min(usize::from(way)),
            61..=120 => bytes.len().div_ceil(2),
            _ => bytes.len(),
        };
        let mut world = self.world.borrow_mut();
        let slot = match file_of(op) {
            Some(File::Fixed(place)) => place as usize,
            _ => tag.slot as usize,
        };
        let all = world.conns.iter_mut();
        let mut there = all.filter(|(conn, known)| conn.index() == slot && !known.closed);
        let (conn, known) = there.next().expect("a send belongs to a connection");
        let expected = &known.queued[known.got..];
        assert!(expected.starts_with(&bytes[..len]), "{conn:?} was sent what was not queued next");
        known.got += len;
        len as i32
    }

    /// Lets everything that is under way come to a good end.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < SETTLE_ROUNDS_MAX, "the loop does not come to rest");
            let before = self.rig.worker.kernel.outstanding.len();
            let mut at = 0;
            let mut moved = false;
            while at < self.rig.worker.kernel.outstanding.len() {
                let len = self.rig.worker.kernel.outstanding.len();
                let ends = matches!(
                    self.rig.worker.kernel.outstanding[at].0,
                    Op::Send { .. }
                        | Op::SendMessage { .. }
                        | Op::SendZeroCopy { .. }
                        | Op::SendMessageZeroCopy { .. }
                        | Op::Cancel { .. }
                        | Op::CancelAll { .. }
                );
                if ends {
                    self.complete(at, 255);
                    moved = true;
                }
                if self.rig.worker.kernel.outstanding.len() == len {
                    at += 1;
                }
            }
            for tag in std::mem::take(&mut self.notices) {
                self.rig.worker.kernel.complete(tag, 0, Cqe::NOTIFICATION);
                moved = true;
            }
            let known = |play: &Self| {
                let world = play.world.borrow();
                let sum = world.conns.values().map(|k| k.consumed + k.queued.len() + k.got);
                (sum.sum::<usize>(), world.lent.len(), play.open.len())
            };
            let was = known(self);
            self.turn();
            let still = self.rig.worker.kernel.outstanding.len() == before && known(self) == was;
            if !moved && still {
                break;
            }
        }
    }

    fn end(mut self) {
        for conn in self.open.clone() {
            let world = self.world.borrow();
            let known = &world.conns[&conn];
            assert_eq!(known.got, known.queued.len(), "{conn:?} did not get all of its replies");
        }
        for conn in self.open.clone() {
            self.rig.ctx().close(conn);
        }
        // Lingering ends after a while.
        for _ in 0..4 {
            self.settle();
            self.rig.worker.kernel.now += Duration::from_secs(10);
            self.turn();
        }
        self.settle();
        let world = self.world.borrow();
        assert!(self.open.is_empty(), "{:?} were never closed", self.open);
        assert!(
            world.lent.is_empty(),
            "{} pieces of memory were never given back",
            world.lent.len()
        );
        assert_eq!(self.rig.worker.ctx.connections(), 0);
    }
}

fn file_of(op: Op) -> Option<File> {
    match op {
        Op::RecvMulti { file }
        | Op::RecvStamped { file, .. }
        | Op::RecvOnce { file, .. }
        | Op::RecvInto { file, .. }
        | Op::RecvMessage { file, .. }
        | Op::Send { file, .. }
        | Op::SendMessage { file, .. }
        | Op::SendZeroCopy { file, .. }
        | Op::SendMessageZeroCopy { file, .. }
        | Op::Connect { file, .. } => Some(file),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    /// Bytes that are the same in every run.
    fn bytes(seed: u64) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        };
        let len = 50 + usize::from(next()) * 6;
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn whatever_the_kernel_does_nothing_is_lost_doubled_or_torn() {
        for seed in 1..=1500 {
            let input = bytes(seed);
            let outcome = std::panic::catch_unwind(|| super::run(&input));
            assert!(outcome.is_ok(), "seed {seed}");
        }
    }
}
