//! New connections: whether they may stay, and their sessions.
//!
//! What must always be true: a connection is counted from `admit` until it has
//! closed, whatever `admit` said; a session is opened once. Called by the
//! worker's `on_accept`.
//!
//! # Safety
//! The session comes from the plugin and is only handed back to it.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering;

use crucible_plugin_api::Status;
use crucible_plugin_api::abi::op::{Buf, Reservation};
use crucible_plugin_api::abi::turn::{ConnInfo, Turn, TurnEvent, verdict};
use kompio::{Addr, ConnToken, DriverCtx};

use super::Worker;
use super::conn::{flag, id_of};
use crate::services::lock;

impl Worker {
    /// Opens the session of a connection that was accepted.
    pub(super) fn open(
        &mut self,
        ctx: &mut DriverCtx,
        token: ConnToken,
        listener: usize,
        peer: Option<&Addr>,
    ) {
        let p = self.by_listener[listener];
        let tls = self.conns[token.index()].has(flag::TLS);
        if !self.lend(ctx, token, tls, 0) {
            return;
        }
        let mut info = conn_info(token, listener, peer, ctx.local_addr(token).as_ref());
        // The name outlives the call below.
        let name = match self.tls.get(token) {
            Some(channel) if tls => super::tls::peer_name(&channel.session),
            _ => Vec::new(),
        };
        if let Some(channel) = self.tls.get(token)
            && tls
        {
            let buf = |bytes: &[u8]| Buf { ptr: bytes.as_ptr(), len: bytes.len() };
            let negotiated = channel.session.negotiated();
            info.tls = 1;
            info.alpn = buf(negotiated.alpn_protocol().unwrap_or_default());
            // The library does not tell the name that was asked for (SNI).
            info.peer_name = buf(&name);
        }
        self.enter(self.protocols[p].store, ctx.now());
        let mut turn = Turn {
            session: std::ptr::null_mut(),
            conn_id: id_of(token),
            input: Buf { ptr: std::ptr::null(), len: 0 },
            event: TurnEvent::DATA,
            _rsv0: 0,
            token: 0,
            done: std::ptr::null_mut(),
            sink: &raw mut self.lent[0].sink,
            consumed: 0,
            verdict: 0,
            status: Status::OK,
            skip_bytes: 0,
            body: Reservation { token: 0, parts: std::ptr::null(), nparts: 0, _rsv: 0 },
            body_left: 0,
            _rsv1: [0; 2],
        };
        let opened = self.protocols[p].open(&mut turn, &info);
        let store = self.protocols[p].store;
        if opened != Status::OK || turn.session.is_null() {
            self.batch_of.push(token);
            self.end_panicked(ctx, store, 0);
            self.batch_of.clear();
            return;
        }
        self.take_back(ctx, token, store, 0, tls);
        let conn = &mut self.conns[token.index()];
        conn.session = turn.session;
        conn.flags |= flag::SESSION;
        self.sessions += 1;
        self.protocols[p].instance.sessions.fetch_add(1, Ordering::Relaxed);
        self.after_crossing(ctx, p);
        if turn.verdict & (verdict::CLOSE_NOW | verdict::CLOSE_AFTER_FLUSH) != 0 {
            self.close_gently(ctx, token);
        }
    }

    /// Whether limits allow one more connection; the counts include it then.
    pub(super) fn admit(&mut self, token: ConnToken, listener: usize, peer: Option<&Addr>) -> bool {
        let core = &self.crew.core;
        let share = &core.listeners[listener];
        share.accepted.fetch_add(1, Ordering::Relaxed);
        if share.connections.fetch_add(1, Ordering::Relaxed) >= self.crew.most_connections[listener]
        {
            return false;
        }
        let limit = core.max_per_address.load(Ordering::Relaxed);
        if limit > 0
            && let Some(ip) = peer.and_then(Addr::as_inet).map(|inet| inet.ip())
        {
            let mut addresses = lock(&core.addresses);
            let count = addresses.entry(ip).or_insert(0);
            if *count >= limit {
                return false;
            }
            *count += 1;
            self.conns[token.index()].flags |= flag::BY_ADDRESS;
        }
        true
    }

    pub(super) fn refuse(&mut self, ctx: &mut DriverCtx, token: ConnToken, listener: usize) {
        self.core().shares[self.id].refusals.fetch_add(1, Ordering::Relaxed);
        ctx.send(token, &self.refusals[listener]);
        self.conns[token.index()].flags |= flag::CLOSING;
        ctx.close_after_flush(token);
    }
}

fn conn_info(
    token: ConnToken,
    listener: usize,
    peer: Option<&Addr>,
    local: Option<&Addr>,
) -> ConnInfo {
    let inet = |address: Option<&Addr>| address.and_then(Addr::as_inet);
    let mapped = |address: std::net::SocketAddr| match address.ip() {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    };
    let (peer_inet, local_inet) = (inet(peer), inet(local));
    let family = match local.or(peer) {
        Some(Addr::Unix(_)) => 1,
        _ if local_inet.is_some_and(|a| a.is_ipv6()) => 6,
        _ => 4,
    };
    let empty = Buf { ptr: std::ptr::null(), len: 0 };
    ConnInfo {
        conn_id: id_of(token),
        peer: peer_inet.map_or([0; 16], mapped),
        peer_port: peer_inet.map_or(0, |a| a.port()),
        family,
        tls: 0,
        listener: listener as u32,
        local: local_inet.map_or([0; 16], mapped),
        local_port: local_inet.map_or(0, |a| a.port()),
        _rsv0: [0; 6],
        alpn: empty,
        sni: empty,
        peer_name: empty,
        _rsv1: [0; 2],
    }
}
