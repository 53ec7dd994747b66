//! Sweeps: turns are gathered, one crossing for each protocol and worker, and
//! verdicts are obeyed.
//!
//! # Safety
//! Inputs are boxed copies that live until the crossing is over; afterwards
//! they are overwritten, so that a plugin that kept a pointer reads nonsense.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering;

use crucible_plugin_api::abi::op::{Buf, Op as RawOp, Reservation};
use crucible_plugin_api::abi::turn::{ConnInfo, KeyEvent, Splice, Turn, TurnEvent, verdict};
use crucible_plugin_api::{CloseReason, Status};

use super::Inner;
use super::conn::{ConnState, Filling, Peer, Piece};
use super::sink::Lent;
use crate::services::lock;

/// Sweeps after which a test is said to spin.
const SWEEPS_MAX: usize = 100_000;

const NO_BODY: Reservation = Reservation { token: 0, parts: std::ptr::null(), nparts: 0, _rsv: 0 };

fn blank_turn(conn_id: u64) -> Turn {
    Turn {
        session: std::ptr::null_mut(),
        conn_id,
        input: Buf::EMPTY,
        event: TurnEvent::DATA,
        _rsv0: 0,
        token: 0,
        done: std::ptr::null_mut(),
        sink: std::ptr::null_mut(),
        // What the plugin must set, set wrong.
        consumed: u64::MAX,
        verdict: u32::MAX,
        status: Status::INTERNAL,
        skip_bytes: u64::MAX,
        body: NO_BODY,
        body_left: 0,
        _rsv1: [0; 2],
    }
}

impl Inner {
    fn lend_sink(&self, conn: &ConnState) -> Lent {
        let o = &self.options;
        let budget =
            if conn.reads { o.budget_bytes } else { o.budget_bytes.saturating_sub(conn.backlog()) };
        Lent::new(o.sink_bytes, o.sink_splices, o.splice_len_min, budget)
    }

    /// Opens a connection; returns its id.
    pub(super) fn open(&mut self, protocol: usize, peer: Peer) -> u64 {
        self.renew_event_mask();
        self.last_conn_id += 1;
        let id = self.last_conn_id;
        let mut conn = ConnState::new(protocol, peer.worker as usize);
        let sink = self.lend_sink(&conn);
        let mut turn = blank_turn(id);
        turn.sink = sink.lend();
        let address = peer.address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 40000)));
        let mapped = |ip: IpAddr| match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let unix = peer.unix;
        let local = mapped(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let nowhere = Ipv6Addr::UNSPECIFIED.octets();
        let info = ConnInfo {
            conn_id: id,
            peer: if unix { nowhere } else { mapped(address.ip()) },
            peer_port: if unix { 0 } else { address.port() },
            family: if unix {
                1
            } else if address.is_ipv4() {
                4
            } else {
                6
            },
            tls: u8::from(peer.tls),
            listener: peer.listener,
            local: if unix { nowhere } else { local },
            local_port: if unix { 0 } else { 4000 },
            _rsv0: [0; 6],
            alpn: Buf::EMPTY,
            sni: Buf::EMPTY,
            peer_name: Buf::of(&peer.name),
            _rsv1: [0; 2],
        };
        let slot = &self.protocols[protocol];
        let store = &self.stores[slot.store].workers[conn.worker].raw;
        store.enter();
        // SAFETY: this worker's thread; turn and info outlive the call.
        let status = unsafe {
            slot.vt.conn_open()(slot.workers[conn.worker], &raw mut turn, &raw const info)
        };
        store.leave();
        if status == Status::OK {
            conn.session = turn.session;
            write_out(&mut conn, &sink);
        } else {
            conn.closed = Some(CloseReason::PANIC);
        }
        self.conns.insert(id, conn);
        id
    }

    /// Closes a connection; its output can still be read.
    pub(super) fn close(&mut self, id: u64, why: CloseReason) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.closed.is_some() {
            return;
        }
        conn.closed = Some(why);
        conn.body = None;
        let session = std::mem::replace(&mut conn.session, std::ptr::null_mut());
        let slot = &self.protocols[conn.protocol];
        let store = &self.stores[slot.store].workers[conn.worker].raw;
        store.enter();
        // SAFETY: this worker's thread; the session is dropped once.
        unsafe { slot.vt.conn_drop()(slot.workers[conn.worker], session, why.0) }
        store.leave();
    }

    /// Copies the waiting output and releases what it spliced in.
    pub(super) fn read_output(&mut self, id: u64) -> Vec<u8> {
        let Some(conn) = self.conns.get_mut(&id) else { return Vec::new() };
        let (mut bytes, mut guards) = (Vec::new(), Vec::new());
        for piece in conn.output.drain(..) {
            match piece {
                Piece::Bytes(more) => bytes.extend(more),
                Piece::Value { ptr, len, guard } => {
                    // SAFETY: retained until the release below.
                    bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(ptr, len) });
                    if guard != 0 {
                        guards.push(guard);
                    }
                }
            }
        }
        let slot = &self.stores[self.protocols[conn.protocol].store];
        if !guards.is_empty() {
            slot.workers[conn.worker].raw.release(&guards);
        }
        if std::mem::take(&mut conn.paused) && conn.closed.is_none() {
            conn.event(TurnEvent::WRITABLE, 0);
        }
        bytes
    }

    pub(super) fn discard_output(&mut self, id: u64) {
        let _bytes = self.read_output(id);
    }

    pub(super) fn drain(&mut self) {
        for conn in self.conns.values_mut().filter(|c| c.closed.is_none()) {
            conn.event(TurnEvent::DRAIN, 0);
        }
    }

    /// Sweeps until nothing is due.
    pub(super) fn settle(&mut self) {
        for _ in 0..SWEEPS_MAX {
            self.renew_event_mask();
            self.collect();
            let mut worked = false;
            for protocol in 0..self.protocols.len() {
                for worker in 0..self.protocols[protocol].workers.len() {
                    worked |= self.cross(protocol, worker);
                }
            }
            worked |= self.tell_key_events();
            self.stores.iter().for_each(|slot| slot.store.check());
            if !worked {
                return;
            }
        }
        panic!("the plugins do not settle: each sweep makes work for the next");
    }

    fn renew_event_mask(&self) {
        let mask = self.protocols.iter().fold(0, |mask, slot| {
            // SAFETY: any thread, the instance lives.
            mask | unsafe { slot.vt.event_kinds()(slot.ctx) }
        });
        self.services.event_mask.store(mask, Ordering::Relaxed);
    }

    /// Gathers what happened outside: bytes, wakes, timers, completions.
    fn collect(&mut self) {
        for (id, token) in std::mem::take(&mut *lock(&self.services.wakes)) {
            if let Some(conn) = self.conns.get_mut(&id).filter(|c| c.closed.is_none()) {
                conn.event(TurnEvent::WAKE, token);
            }
        }
        for done in std::mem::take(&mut *lock(&self.services.completions)) {
            let conn = self.conns.get_mut(&done.op().conn_id);
            if let Some(conn) = conn.filter(|c| c.closed.is_none()) {
                assert_eq!(conn.worker, done.worker as usize, "completed on another worker");
                conn.due.push_back(super::conn::Due {
                    event: TurnEvent::COMPLETION,
                    token: 0,
                    done: Some(done),
                });
            }
        }
        let now_ms = self.services.now_ms.load(Ordering::Relaxed);
        for worker in self.stores.iter().flat_map(|slot| &slot.workers) {
            let mut timers = lock(&worker.services.timers);
            timers.sort_unstable();
            let due = timers.partition_point(|(at, ..)| *at <= now_ms);
            for (_, id, token) in timers.drain(..due) {
                if let Some(conn) = self.conns.get_mut(&id).filter(|c| c.closed.is_none()) {
                    conn.event(TurnEvent::TIMER, token);
                }
            }
        }
        for conn in self.conns.values_mut() {
            conn.receive();
            let all_received = conn.wire.is_empty() && !conn.paused && !conn.fresh;
            if conn.half_closed && all_received && conn.due.is_empty() && conn.closed.is_none() {
                conn.half_closed = false;
                conn.event(TurnEvent::HALF_CLOSE, 0);
            }
        }
    }

    /// One crossing; false when no turn was due.
    fn cross(&mut self, protocol: usize, worker: usize) -> bool {
        let due = |(_, c): &(&u64, &ConnState)| {
            c.protocol == protocol && c.worker == worker && c.is_due()
        };
        let alone = |(_, c): &(&u64, &ConnState)| {
            c.due.front().is_some_and(|next| next.event == TurnEvent::EXCLUSIVE)
        };
        // An exclusive turn has its crossing for itself, before the others.
        let ids: Vec<u64> = match self.conns.iter().filter(due).find(alone) {
            Some((id, _)) => vec![*id],
            None => {
                let due = self.conns.iter().filter(due).map(|(id, _)| *id);
                due.take(self.options.turns_max).collect()
            }
        };
        if ids.is_empty() {
            return false;
        }
        let sinks: Vec<Lent> = ids.iter().map(|id| self.lend_sink(&self.conns[id])).collect();
        let mut inputs: Vec<Box<[u8]>> = Vec::new();
        let mut events = Vec::new();
        let mut done_ops: Vec<Option<Box<RawOp>>> = Vec::new();
        for id in &ids {
            let conn = self.conns.get_mut(id).expect("listed above");
            let event = conn.due.pop_front();
            let offers = conn.body.is_none() && conn.skip == 0 && !conn.paused;
            inputs.push(if offers { conn.inbound.as_slice().into() } else { Box::default() });
            conn.fresh &= !offers;
            done_ops.push(event.as_ref().and_then(|e| e.done.as_ref()).map(|d| Box::new(d.op())));
            events.push(event);
        }
        let mut turns: Vec<Turn> = Vec::new();
        for (at, id) in ids.iter().enumerate() {
            let mut turn = blank_turn(*id);
            turn.session = self.conns[id].session;
            turn.sink = sinks[at].lend();
            turn.input = Buf::of(&inputs[at]);
            if let Some(event) = &events[at] {
                (turn.event, turn.token) = (event.event, event.token);
            }
            if let Some(op) = &mut done_ops[at] {
                turn.done = &raw mut **op;
            }
            turns.push(turn);
        }
        let slot = &self.protocols[protocol];
        let store = &self.stores[slot.store].workers[worker].raw;
        self.crossings += 1;
        store.enter();
        // SAFETY: this worker's thread; turns and what they point to outlive
        // the call.
        unsafe {
            slot.vt.on_turns()(slot.workers[worker], turns.as_mut_ptr(), turns.len() as u32);
        }
        store.leave();
        for ((id, turn), sink) in ids.iter().zip(&turns).zip(&sinks) {
            self.obey(*id, turn, sink);
        }
        inputs.iter_mut().for_each(|input| input.fill(0xaa));
        true
    }

    /// Does what a turn's verdict says.
    fn obey(&mut self, id: u64, turn: &Turn, sink: &Lent) {
        let conn = self.conns.get_mut(&id).expect("it took a turn");
        let has = |bit: u32| turn.verdict & bit != 0;
        if has(verdict::PANICKED) {
            let (_, splices) = sink.written();
            let guards: Vec<u64> = splices.iter().map(|s| s.guard).filter(|g| *g != 0).collect();
            let slot = &self.stores[self.protocols[conn.protocol].store];
            slot.workers[conn.worker].raw.release(&guards);
            return self.close(id, CloseReason::PANIC);
        }
        let consumed = usize::try_from(turn.consumed).expect("consumed was set");
        assert!(consumed <= turn.input.len, "more was consumed than offered");
        conn.inbound.drain(..consumed);
        if turn.skip_bytes > 0 {
            assert!(conn.inbound.is_empty(), "skips before everything is consumed");
            conn.skip = turn.skip_bytes;
        }
        if has(verdict::BODY) {
            assert!(conn.inbound.is_empty(), "a body before everything is consumed");
            assert!(conn.body.is_none(), "a body within a body");
            // SAFETY: BODY promises `nparts` parts.
            let parts =
                unsafe { std::slice::from_raw_parts(turn.body.parts, turn.body.nparts as usize) };
            let sum: u64 = parts.iter().map(|p| p.len as u64).sum();
            assert_eq!(sum, turn.body_left, "parts add up to what is left");
            assert!(turn.body_left > 0, "a body that has landed is not announced");
            let parts: VecDeque<_> = parts.iter().copied().filter(|p| p.len > 0).collect();
            conn.body = Some(Filling { parts, left: turn.body_left });
        }
        conn.blocked = has(verdict::BLOCKED);
        conn.partial = has(verdict::PARTIAL);
        conn.fresh |= has(verdict::MORE);
        if has(verdict::EXCLUSIVE) && !conn.due.iter().any(|d| d.event == TurnEvent::EXCLUSIVE) {
            conn.event(TurnEvent::EXCLUSIVE, 0);
        }
        write_out(conn, sink);
        if has(verdict::PAUSE) {
            if conn.reads {
                conn.event(TurnEvent::WRITABLE, 0);
            } else {
                conn.paused = true;
            }
        }
        if has(verdict::CLOSE_NOW) || has(verdict::CLOSE_AFTER_FLUSH) {
            self.close(id, CloseReason::PROTOCOL);
        }
    }

    /// Delivers key events to every worker of every protocol that asked.
    fn tell_key_events(&mut self) -> bool {
        let mut told = false;
        for (store, slot) in self.stores.iter().enumerate() {
            let events: Vec<_> = slot
                .workers
                .iter()
                .flat_map(|w| std::mem::take(&mut *lock(&w.services.events)))
                .collect();
            for protocol in self.protocols.iter().filter(|p| p.store == store) {
                // SAFETY: any thread, the instance lives.
                let kinds = unsafe { protocol.vt.event_kinds()(protocol.ctx) };
                let raw: Vec<KeyEvent> = events
                    .iter()
                    .filter(|event| event.kind & kinds != 0)
                    .map(|event| KeyEvent {
                        kind: event.kind,
                        _rsv: 0,
                        key: Buf::of(&event.key),
                        conn_id: event.conn_id,
                        value_len: event.value_len,
                    })
                    .collect();
                if raw.is_empty() {
                    continue;
                }
                told = true;
                for worker in &protocol.workers {
                    // SAFETY: this worker's thread; the events outlive the call.
                    unsafe {
                        protocol.vt.on_key_events()(*worker, raw.as_ptr(), raw.len() as u32);
                    }
                }
            }
        }
        told
    }
}

/// Queues what a turn wrote, in order.
fn write_out(conn: &mut ConnState, sink: &Lent) {
    let (bytes, splices) = sink.written();
    let mut from = 0;
    for Splice { at, ptr, len, guard } in splices {
        let at = *at as usize;
        assert!(from <= at && at <= bytes.len(), "splices are in order, within the bytes");
        if at > from {
            conn.output.push(Piece::Bytes(bytes[from..at].to_vec()));
        }
        conn.output.push(Piece::Value { ptr: *ptr, len: *len as usize, guard: *guard });
        from = at;
    }
    if bytes.len() > from {
        conn.output.push(Piece::Bytes(bytes[from..].to_vec()));
    }
}
