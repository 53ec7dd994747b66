//! A scripted kernel, and the loop driven by it: every odd thing a kernel may do, on demand.
//!
//! What must always be true: the scripted kernel reads and writes the operations' memory only
//! when the script completes them, as late as a real one may, so memory that moved or was reused
//! too early shows up as wrong bytes. Called by the tests beside it.
//!
//! # Safety
//! The pointers of an operation are used while it is outstanding: the loop's own contract, which
//! is what these tests are about.
#![allow(unsafe_code)]

pub(crate) mod any;
#[cfg(test)]
mod life;
#[cfg(test)]
mod receive;
#[cfg(test)]
mod send;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::buffers::Buffers;
use crate::config::Config;
use crate::ctx::DriverCtx;
use crate::handler::{CloseReason, Consumed, EventHandler, FillResult, ListenerId, WorkerInfo};
use crate::kernel::{Counts, Cqe, Kernel, Op, Wait};
use crate::shared::Shared;
use crate::sys;
use crate::token::{ConnToken, Kind, Tag};
use crate::worker::{Listening, Worker};

/// The scripted kernel.
pub(crate) struct Fake {
    buffers: Buffers,
    /// Position in the buffer ring, and bytes used of the buffer there.
    head: u16,
    used: usize,
    queued: Vec<(Op, Tag)>,
    /// Submitted and not completed.
    pub(crate) outstanding: VecDeque<(Op, Tag)>,
    completions: VecDeque<Cqe>,
    pub(crate) shutdowns: Vec<(RawFd, i32)>,
    pub(crate) zero_copy: (bool, bool),
    pub(crate) now: Instant,
    pub(crate) waits: Vec<Wait>,
    /// What the timer operation was moved to, as text, for kernel times do not compare.
    pub(crate) moved: Vec<String>,
    counts: Counts,
}

impl Fake {
    fn new(buffers: Buffers) -> Fake {
        Fake {
            buffers,
            head: 0,
            used: 0,
            queued: Vec::new(),
            outstanding: VecDeque::new(),
            completions: VecDeque::new(),
            shutdowns: Vec::new(),
            zero_copy: (true, true),
            now: Instant::now(),
            waits: Vec::new(),
            moved: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Queues a completion for the next sweep.
    pub(crate) fn complete(&mut self, tag: Tag, result: i32, flags: u32) {
        self.completions.push_back(Cqe { user_data: tag.pack(), result, flags });
    }

    /// Puts bytes into the next provided buffer, as much as fits; flags and length.
    fn put(&mut self, bytes: &[u8]) -> Option<(u32, usize)> {
        let (id, start, len) = self.buffers.provided(self.head)?;
        let incremental = self.buffers.incremental();
        let take = bytes.len().min(len - self.used);
        // SAFETY: the entry names `len` bytes of the buffers' own memory.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), start.add(self.used), take);
        }
        self.used += take;
        let mut flags = Cqe::BUFFER | (u32::from(id) << 16);
        if incremental && self.used < len {
            flags |= Cqe::BUFFER_MORE;
        } else {
            self.used = 0;
            self.head = self.head.wrapping_add(1);
        }
        Some((flags, take))
    }

    fn submit(&mut self) {
        for (op, tag) in self.queued.drain(..) {
            self.counts.sqes += 1;
            match op {
                Op::Close { fd } => sys::close(fd),
                Op::Install { .. } | Op::Remove { .. } => {}
                Op::TimerUpdate { after, .. } => {
                    // SAFETY: the operation is being submitted, so its memory is there.
                    let after = unsafe { &*after };
                    self.moved.push(format!("{after:?}"));
                }
                _ => self.outstanding.push_back((op, tag)),
            }
        }
    }
}

impl Kernel for Fake {
    fn push(&mut self, op: Op, tag: Tag) {
        self.queued.push((op, tag));
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.counts.enters += 1;
        self.waits.push(wait);
        self.submit();
        Ok(())
    }

    fn reap(&mut self, into: &mut Vec<Cqe>) {
        into.extend(self.completions.drain(..));
    }

    fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    fn shutdown(&mut self, fd: RawFd, how: i32) {
        self.shutdowns.push((fd, how));
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn cpu_time(&self) -> Duration {
        Duration::from_micros(self.counts.enters)
    }

    fn places(&self) -> u32 {
        64
    }

    fn zero_copy(&self) -> (bool, bool) {
        self.zero_copy
    }

    fn counts(&self) -> Counts {
        self.counts
    }
}

/// What the handler of these tests saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Accept(ConnToken),
    Data(ConnToken, Vec<u8>),
    Sent(ConnToken),
    Writable(ConnToken),
    Fill(ConnToken, FillResult),
    HalfClose(ConnToken),
    Close(ConnToken, CloseReason),
    Connect(ConnToken, Result<(), i32>),
    Release(Vec<u64>),
    Timer(u64),
}

/// How the handler treats input.
pub(crate) type OnData = Box<dyn FnMut(&mut DriverCtx, ConnToken, &[u8]) -> Consumed>;
pub(crate) type OnSweep = Box<dyn FnMut(&mut DriverCtx)>;

pub(crate) struct Recorder {
    pub(crate) seen: Vec<Seen>,
    pub(crate) on_data: OnData,
    pub(crate) on_sweep: OnSweep,
    pub(crate) keep_half_closed: bool,
}

impl EventHandler for Recorder {
    fn on_accept(&mut self, _: &mut DriverCtx, conn: ConnToken, _: ListenerId) {
        self.seen.push(Seen::Accept(conn));
    }

    fn on_connect(&mut self, _: &mut DriverCtx, conn: ConnToken, result: io::Result<()>) {
        let result = result.map_err(|e| e.raw_os_error().unwrap_or(-1));
        self.seen.push(Seen::Connect(conn, result));
    }

    fn on_data(&mut self, ctx: &mut DriverCtx, conn: ConnToken, data: &[u8]) -> Consumed {
        self.seen.push(Seen::Data(conn, data.to_vec()));
        (self.on_data)(ctx, conn, data)
    }

    fn on_sweep(&mut self, ctx: &mut DriverCtx) {
        (self.on_sweep)(ctx);
    }

    fn on_send_complete(&mut self, _: &mut DriverCtx, conn: ConnToken) {
        self.seen.push(Seen::Sent(conn));
    }

    fn on_writable(&mut self, _: &mut DriverCtx, conn: ConnToken) {
        self.seen.push(Seen::Writable(conn));
    }

    fn on_release(&mut self, _: &mut DriverCtx, ids: &[u64]) {
        self.seen.push(Seen::Release(ids.to_vec()));
    }

    fn on_fill(&mut self, _: &mut DriverCtx, conn: ConnToken, result: FillResult) {
        self.seen.push(Seen::Fill(conn, result));
    }

    fn on_half_close(&mut self, ctx: &mut DriverCtx, conn: ConnToken) {
        self.seen.push(Seen::HalfClose(conn));
        if !self.keep_half_closed {
            ctx.close_after_flush(conn);
        }
    }

    fn on_close(&mut self, _: &mut DriverCtx, conn: ConnToken, reason: CloseReason) {
        self.seen.push(Seen::Close(conn, reason));
    }

    fn on_timer(&mut self, _: &mut DriverCtx, token: u64) {
        self.seen.push(Seen::Timer(token));
    }
}

/// The loop on the scripted kernel.
pub(crate) struct Rig {
    pub(crate) worker: Worker<Fake, Recorder>,
    /// What each connection's peer received.
    pub(crate) wire: HashMap<ConnToken, Vec<u8>>,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        Rig::with(|_| {}, Buffers::new(4, 4096, true).expect("buffers"))
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config), buffers: Buffers) -> Rig {
        let mut config = Config { tick: None, ..Config::default() };
        change(&mut config);
        config.check().expect("in range");
        let info = WorkerInfo { id: 0, workers: 1, cpu: None };
        let shared = Arc::new(Shared::new(1).expect("eventfd"));
        let ctx = DriverCtx::new(info, Arc::new(config), shared, 64);
        let recorder = Recorder {
            seen: Vec::new(),
            on_data: Box::new(|_, _, data| Consumed::Bytes(data.len())),
            on_sweep: Box::new(|_| {}),
            keep_half_closed: false,
        };
        let listener = Listening::new(0, sys::eventfd().expect("a descriptor"), true);
        let worker = Worker::new(Fake::new(buffers), recorder, ctx, vec![listener]);
        let mut rig = Rig { worker, wire: HashMap::new() };
        rig.turn();
        rig
    }

    pub(crate) fn on_data(
        &mut self,
        f: impl FnMut(&mut DriverCtx, ConnToken, &[u8]) -> Consumed + 'static,
    ) {
        self.worker.handler.on_data = Box::new(f);
    }

    pub(crate) fn on_sweep(&mut self, f: impl FnMut(&mut DriverCtx) + 'static) {
        self.worker.handler.on_sweep = Box::new(f);
    }

    /// One sweep, and one more submission so that its operations are with the kernel.
    pub(crate) fn turn(&mut self) -> bool {
        let running = self.worker.turn(Some(Duration::ZERO)).expect("a turn");
        self.worker.kernel.submit();
        running
    }

    pub(crate) fn ctx(&mut self) -> &mut DriverCtx {
        &mut self.worker.ctx
    }

    /// What was seen since the last call.
    pub(crate) fn seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.worker.handler.seen)
    }

    /// Released ids so far, in order, taken out of what was seen.
    pub(crate) fn released(&mut self) -> Vec<u64> {
        let mut ids = Vec::new();
        self.worker.handler.seen.retain(|seen| match seen {
            Seen::Release(some) => {
                ids.extend(some);
                false
            }
            _ => true,
        });
        ids
    }

    /// A new connection.
    pub(crate) fn accept(&mut self) -> ConnToken {
        let fd = sys::descriptor();
        self.worker.kernel.complete(Tag::new(Kind::Accept, 0, 0), fd, Cqe::MORE);
        self.turn();
        let accepted = self.worker.handler.seen.iter().rev().find_map(|seen| match seen {
            Seen::Accept(conn) => Some(*conn),
            _ => None,
        });
        let conn = accepted.expect("accepted");
        self.worker.handler.seen.clear();
        conn
    }

    pub(crate) fn tag(&self, kind: Kind, conn: ConnToken) -> Tag {
        Tag::new(kind, conn.index() as u32, conn.generation())
    }

    /// Outstanding operations of one kind on a connection.
    pub(crate) fn ops(&self, kind: Kind, conn: ConnToken) -> Vec<Op> {
        let tag = self.tag(kind, conn);
        let all = self.worker.kernel.outstanding.iter();
        all.filter(|(_, t)| *t == tag).map(|(op, _)| *op).collect()
    }

    /// Ends an outstanding operation.
    pub(crate) fn take(&mut self, tag: Tag) -> Op {
        let all = &mut self.worker.kernel.outstanding;
        let at = all.iter().position(|(_, t)| *t == tag).unwrap_or_else(|| {
            panic!("no outstanding operation {tag:?} in {all:?}");
        });
        all.remove(at).expect("just found").0
    }

    /// Completes a connection's receive with bytes; the receive goes on.
    pub(crate) fn receive(&mut self, conn: ConnToken, mut bytes: &[u8]) {
        let tag = self.tag(Kind::Recv, conn);
        let ops = self.ops(Kind::Recv, conn);
        assert!(matches!(ops[..], [Op::RecvMulti { .. }]), "one receive: {ops:?}");
        while !bytes.is_empty() {
            let (flags, taken) = self.worker.kernel.put(bytes).expect("a buffer");
            self.worker.kernel.complete(tag, taken as i32, flags | Cqe::MORE);
            bytes = &bytes[taken..];
        }
    }

    /// Ends a connection's receive with a result that used no buffer.
    pub(crate) fn end_receive(&mut self, conn: ConnToken, result: i32) {
        let tag = self.tag(Kind::Recv, conn);
        self.take(tag);
        self.worker.kernel.complete(tag, result, 0);
    }

    /// Bytes and pieces of an outstanding send, read now.
    pub(crate) fn sending(op: Op) -> Vec<Vec<u8>> {
        // SAFETY: the operation is outstanding, so its memory must be there and unchanged.
        let piece =
            |ptr: *const u8, len: usize| unsafe { std::slice::from_raw_parts(ptr, len).to_vec() };
        match op {
            Op::Send { ptr, len, .. } | Op::SendZeroCopy { ptr, len, .. } => {
                vec![piece(ptr, len as usize)]
            }
            Op::SendMessage { message, .. } | Op::SendMessageZeroCopy { message, .. } => {
                // SAFETY: as above, for the message and its iovecs.
                let iovecs = unsafe {
                    let message = &*message;
                    std::slice::from_raw_parts(message.msg_iov, message.msg_iovlen)
                };
                iovecs.iter().map(|v| piece(v.iov_base.cast(), v.iov_len)).collect()
            }
            other => panic!("not a send: {other:?}"),
        }
    }

    /// Completes the connection's send after at most `most` bytes; how many went.
    pub(crate) fn send(&mut self, conn: ConnToken, most: usize) -> usize {
        let tag = self.tag(Kind::Send, conn);
        assert_eq!(self.ops(Kind::Send, conn).len(), 1, "one send of a connection at a time");
        let bytes = Self::sending(self.take(tag)).concat();
        let took = bytes.len().min(most);
        self.wire.entry(conn).or_default().extend(&bytes[..took]);
        self.worker.kernel.complete(tag, took as i32, 0);
        took
    }

    /// Completes sends until nothing is queued.
    pub(crate) fn flush(&mut self, conn: ConnToken) {
        while !self.ops(Kind::Send, conn).is_empty() {
            self.send(conn, usize::MAX);
            self.turn();
        }
    }

    pub(crate) fn wire(&self, conn: ConnToken) -> &[u8] {
        self.wire.get(&conn).map_or(&[], Vec::as_slice)
    }

    /// Lets the operations of a closing connection end as a kernel would.
    pub(crate) fn cancel_all(&mut self, conn: ConnToken) {
        for kind in [Kind::Recv, Kind::Send, Kind::Fill, Kind::Connect] {
            let tag = self.tag(kind, conn);
            while !self.ops(kind, conn).is_empty() {
                self.take(tag);
                self.worker.kernel.complete(tag, -libc::ECANCELED, 0);
            }
        }
        self.turn();
    }

    pub(crate) fn closed(&self, conn: ConnToken) -> Vec<CloseReason> {
        let all = self.worker.handler.seen.iter();
        all.filter_map(|seen| match seen {
            Seen::Close(c, reason) if *c == conn => Some(*reason),
            _ => None,
        })
        .collect()
    }
}
