//! TLS between the event loop and a plugin's turns.
//!
//! ```text
//!  on_data ─► greet (handshake, then the session opens) ─┐
//!         └─► decrypt ─► a turn with plaintext ─► flush ─┴─► kompio's output
//! ```
//! What must always be true: a TLS connection's socket carries records only, a
//! refusal included; ciphertext is opened only for a turn that can take it, so
//! that a blocked or congested connection stops reading; plaintext beyond what
//! the socket takes stays where it is (`Outflow`) and counts as output; a
//! session opens after the handshake. Called by the worker.
//!
//! # Safety
//! See `channel`: pieces and references are vouched for by the plugin.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering;

use crucible_plugin_api::abi::op::Buf;
use crucible_plugin_api::abi::tables::close_reason;
use crucible_plugin_api::abi::turn::TurnEvent;
use kompio::{Addr, ConnToken, DriverCtx};

use super::Worker;
use super::channel::Channel;
use super::conn::{flag, id_of};
use super::sides::Ready;
use crate::log::Throttle;
use crate::tls::session::{Progress, Session};

/// Handshakes that move on in one sweep: a signature takes as long as hundreds
/// of requests.
const GREETINGS_PER_SWEEP: usize = 8;

/// Plaintext that is encrypted before the socket is asked again.
const SEAL_BYTES: usize = 256 * 1024;

/// Buffers kept for connections that wake up, and the longest of them.
const FREE_BUFFERS_MAX: usize = 64;
const FREE_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// What the TLS connections of a worker share.
#[derive(Debug, Default)]
pub(super) struct Counter {
    /// By slot.
    channels: Vec<Option<Box<Channel>>>,
    /// Records on their way to kompio.
    wire: Vec<u8>,
    /// Memory for a record that is not whole.
    spare: Vec<u8>,
    free: Vec<Vec<u8>>,
    /// Connections whose handshake has input.
    greeting: Vec<ConnToken>,
    /// Connections that asked for another turn in the next sweep.
    again: Vec<u64>,
    failures: Throttle,
}

impl Counter {
    pub(super) fn get(&mut self, token: ConnToken) -> Option<&mut Channel> {
        self.channels.get_mut(token.index())?.as_deref_mut()
    }

    /// Output that is not encrypted yet.
    pub(super) fn left(&self, token: ConnToken) -> usize {
        let channel = self.channels.get(token.index()).and_then(Option::as_deref);
        channel.map_or(0, |channel| channel.outflow.left())
    }

    /// Plaintext of a connection in memory of its own.
    pub(super) fn held(&self, token: ConnToken) -> usize {
        let channel = self.channels.get(token.index()).and_then(Option::as_deref);
        channel.map_or(0, |c| c.inflow.input().len() + c.outflow.own_bytes())
    }

    /// Memory for plaintext.
    pub(super) fn room(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_default()
    }

    pub(super) fn give(&mut self, mut room: Vec<u8>) {
        let fits = (1..=FREE_BUFFER_BYTES_MAX).contains(&room.capacity());
        if fits && self.free.len() < FREE_BUFFERS_MAX {
            room.clear();
            self.free.push(room);
        }
    }
}

impl Worker {
    /// Begins a connection of a TLS listener; false when it must go.
    pub(super) fn begin_tls(&mut self, token: ConnToken, listener: usize) -> bool {
        let share = &self.crew.core.listeners[listener];
        let Some(tls) = &share.tls else { return false };
        let session = match Session::new(tls.config()) {
            Ok(session) => session,
            Err(error) => {
                tracing::error!(%error, listener = share.name, "cannot begin a TLS session");
                return false;
            }
        };
        let channels = &mut self.tls.channels;
        if token.index() >= channels.len() {
            channels.resize_with(token.index() + 1, || None);
        }
        channels[token.index()] = Some(Box::new(Channel::new(session)));
        let conn = &mut self.conns[token.index()];
        conn.flags |= flag::TLS;
        let limit_ms = tls.handshake_ms.load(Ordering::Relaxed);
        conn.request_due = self.clock.host_ms.wrapping_add(limit_ms).max(1);
        let under_way = tls.greeting.fetch_add(1, Ordering::Relaxed);
        under_way < tls.greeting_max.load(Ordering::Relaxed)
    }

    /// Notes that a connection without a session has input.
    pub(super) fn list_greeting(&mut self, token: ConnToken) {
        self.tls.greeting.push(token);
    }

    /// Moves handshakes on.
    pub(super) fn greet_all(&mut self, ctx: &mut DriverCtx) {
        if !self.tls.again.is_empty() {
            for conn_id in std::mem::take(&mut self.tls.again) {
                self.due(conn_id, TurnEvent::DATA, 0);
            }
        }
        if self.tls.greeting.is_empty() {
            return;
        }
        let mut listed = std::mem::take(&mut self.tls.greeting);
        for token in listed.drain(..listed.len().min(GREETINGS_PER_SWEEP)) {
            self.greet(ctx, token);
        }
        for &token in &listed {
            // kompio delivers what it kept, and so this is called again.
            ctx.redeliver(token);
        }
    }

    fn greet(&mut self, ctx: &mut DriverCtx, token: ConnToken) {
        if !ctx.is_open(token) || self.find(id_of(token)).is_none() {
            return;
        }
        let Some(progress) = self.decrypt(ctx, token) else { return };
        match progress {
            Progress::Handshaking => {}
            Progress::Ended => ctx.close_after_flush(token),
            Progress::Open | Progress::PeerEnded => self.welcome(ctx, token, progress),
        }
    }

    /// The handshake is done: the session opens.
    fn welcome(&mut self, ctx: &mut DriverCtx, token: ConnToken, progress: Progress) {
        let listener = usize::from(self.conns[token.index()].listener);
        let share = &self.crew.core.shares[self.id];
        share.tls_handshakes.fetch_add(1, Ordering::Relaxed);
        let Some(channel) = self.tls.get(token) else { return };
        let resumed =
            channel.session.negotiated().handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        share.tls_resumed.fetch_add(u64::from(resumed), Ordering::Relaxed);
        self.greeted(token, listener);
        self.conns[token.index()].request_due = 0;
        let peer: Option<Addr> = ctx.peer_addr(token);
        self.open(ctx, token, listener, peer.as_ref());
        let waiting = self.tls.get(token).is_some_and(|c| !c.inflow.input().is_empty());
        if waiting {
            self.due(id_of(token), TurnEvent::DATA, 0);
        }
        if progress == Progress::PeerEnded {
            self.tell_half_closed(token);
        }
    }

    /// A handshake is no longer under way.
    fn greeted(&mut self, token: ConnToken, listener: usize) {
        let Some(channel) = self.tls.get(token) else { return };
        if std::mem::take(&mut channel.greeting)
            && let Some(tls) = &self.crew.core.listeners[listener].tls
        {
            tls.greeting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn tell_half_closed(&mut self, token: ConnToken) {
        let first =
            self.tls.get(token).is_some_and(|c| !std::mem::replace(&mut c.half_closed, true));
        if first {
            self.due(id_of(token), TurnEvent::HALF_CLOSE, 0);
        }
    }

    /// Opens the records that have arrived. `None` when the connection ends
    /// because of what they were.
    fn decrypt(&mut self, ctx: &mut DriverCtx, token: ConnToken) -> Option<Progress> {
        let shop = &mut self.tls;
        let channel = shop.channels.get_mut(token.index())?.as_deref_mut()?;
        channel.inflow.lend(&mut shop.free);
        let cipher = ctx.input(token);
        let len = cipher.len();
        let (wire, spare) = (&mut shop.wire, &mut shop.spare);
        let result = channel.session.receive(cipher, &mut channel.inflow, wire, spare);
        let kept = channel.inflow.input().len();
        if let Some(room) = channel.inflow.reclaim() {
            shop.give(room);
        }
        ctx.consume(token, len);
        if !self.tls.wire.is_empty() {
            ctx.send(token, &self.tls.wire);
            self.tls.wire.clear();
        }
        match result {
            Ok(_) if kept > self.crew.input_max_bytes => {
                let share = &self.crew.core.shares[self.id];
                share.input_limits.fetch_add(1, Ordering::Relaxed);
                self.close(ctx, token, close_reason::INPUT_LIMIT);
                None
            }
            Ok(progress) => Some(progress),
            Err(error) => {
                self.tls_failed(ctx, token, &error);
                None
            }
        }
    }

    #[cold]
    fn tls_failed(&mut self, ctx: &mut DriverCtx, token: ConnToken, error: &rustls::Error) {
        self.crew.core.shares[self.id].tls_failures.fetch_add(1, Ordering::Relaxed);
        let conn = &mut self.conns[token.index()];
        conn.flags |= flag::CLOSING;
        conn.why = close_reason::ERROR as u16;
        if let Some(suppressed) = self.tls.failures.admit(ctx.now()) {
            let listener = &self.crew.core.listeners[usize::from(conn.listener)].name;
            let peer = ctx.peer_addr(token).map(|p| p.to_string()).unwrap_or_default();
            tracing::info!(%error, peer, listener, suppressed, "a TLS connection failed");
        }
        // The alert goes out first.
        ctx.close_after_flush(token);
    }

    /// Whether no more requests should be read.
    #[inline]
    pub(super) fn congested(&self, ctx: &DriverCtx, token: ConnToken, tls: bool) -> bool {
        ctx.is_congested(token) || (tls && self.tls.left(token) > 0)
    }

    /// Prepares a turn of a TLS connection: what has arrived is opened, and the
    /// event may become another one. False when there is nothing to do.
    pub(super) fn prepare_tls(
        &mut self,
        ctx: &mut DriverCtx,
        token: ConnToken,
        due: &mut Ready,
    ) -> bool {
        let filling = self.conns[token.index()].has(flag::FILLING);
        if filling && due.event != TurnEvent::DATA {
            return true;
        }
        let Some(progress) = self.decrypt(ctx, token) else { return false };
        let Some(channel) = self.tls.get(token) else { return false };
        let (full, empty) = (!channel.inflow.is_filling(), channel.inflow.input().is_empty());
        if matches!(progress, Progress::PeerEnded | Progress::Ended) {
            self.tell_half_closed(token);
        }
        if due.event != TurnEvent::DATA {
            return true;
        }
        if filling {
            if full {
                self.conns[token.index()].flags &= !flag::FILLING;
                self.bodies -= 1;
                due.event = TurnEvent::BODY_DONE;
            }
            return full;
        }
        !empty
    }

    /// Plaintext of a connection's next turn.
    pub(super) fn clear_input(&self, token: ConnToken) -> Buf {
        let channel = self.tls.channels.get(token.index()).and_then(Option::as_deref);
        let input = channel.map_or(&[][..], |channel| channel.inflow.input());
        Buf { ptr: input.as_ptr(), len: input.len() }
    }

    /// A turn took this much, and the next `skip` bytes are to be dropped.
    pub(super) fn consume_clear(&mut self, token: ConnToken, consumed: usize, skip: u64) {
        let Some(channel) = self.tls.get(token) else { return };
        let inflow = &mut channel.inflow;
        let free = inflow.consume(consumed);
        let skipped = if skip > 0 { inflow.discard(skip) } else { None };
        for room in free.into_iter().chain(skipped) {
            self.tls.give(room);
        }
    }

    /// Takes what a turn wrote and sends what the socket takes.
    pub(super) fn take_clear(
        &mut self,
        ctx: &mut DriverCtx,
        token: ConnToken,
        store: usize,
        i: usize,
    ) {
        let Some(channel) = self.tls.get(token) else { return };
        // Borrowed apart: the sinks, the names and the channels.
        let mut outflow = std::mem::take(&mut channel.outflow);
        let refs = &mut self.refs;
        let free = self.lent[i].take_clear(&mut outflow, |guard| refs.add(store as u32, guard));
        if let Some(channel) = self.tls.get(token) {
            channel.outflow = outflow;
        }
        self.tls.give(free);
        self.flush(ctx, token);
        let left = self.tls.left(token);
        if left > 0 && left + ctx.queued_bytes(token) > self.crew.output_max_bytes {
            self.crew.core.shares[self.id].output_limits.fetch_add(1, Ordering::Relaxed);
            self.close(ctx, token, close_reason::OUTPUT_LIMIT);
        }
    }

    /// Encrypts until the socket's queue is long enough; true when nothing is left.
    pub(super) fn flush(&mut self, ctx: &mut DriverCtx, token: ConnToken) -> bool {
        while self.tls.left(token) > 0 && !ctx.is_congested(token) {
            let Some(mut out) = ctx.take_out(token) else { return false };
            let Some(channel) = self.tls.channels[token.index()].as_deref_mut() else { break };
            let (refs, stores) = (&mut self.refs, &mut self.stores);
            let release = |id| {
                if let Some((store, guard)) = refs.take(id) {
                    stores[store as usize].release_later(guard);
                }
            };
            let wire = out.as_mut_vec();
            let alive = channel.outflow.seal(&mut channel.session, SEAL_BYTES, wire, release);
            ctx.put_out(token, out);
            if !alive {
                self.close(ctx, token, close_reason::ERROR);
                return false;
            }
        }
        let Some(channel) = self.tls.get(token) else { return false };
        if channel.outflow.left() > 0 {
            return false;
        }
        if let Some(room) = channel.outflow.reclaim() {
            self.tls.give(room);
        }
        true
    }

    /// The socket's queue is short again; true when a turn may follow.
    pub(super) fn resume_tls(&mut self, ctx: &mut DriverCtx, token: ConnToken) -> bool {
        if self.tls.get(token).is_none() {
            return true;
        }
        if !self.flush(ctx, token) {
            return false;
        }
        if self.tls.get(token).is_some_and(|channel| channel.closing) {
            self.end_tls(ctx, token);
            return false;
        }
        true
    }

    /// Asks for another turn in the next sweep.
    pub(super) fn again(&mut self, ctx: &mut DriverCtx, token: ConnToken) {
        self.tls.again.push(id_of(token));
        // The loop does not sleep over it.
        ctx.redeliver(token);
    }

    /// Closes once everything has left, with a close_notify on a TLS connection.
    pub(super) fn close_gently(&mut self, ctx: &mut DriverCtx, token: ConnToken) {
        let Some(channel) = self.tls.get(token) else { return ctx.close_after_flush(token) };
        if channel.outflow.left() > 0 {
            channel.closing = true;
            if let Some(conn) = self.find(id_of(token)) {
                conn.flags |= flag::CLOSING;
            }
            return;
        }
        self.end_tls(ctx, token);
    }

    fn end_tls(&mut self, ctx: &mut DriverCtx, token: ConnToken) {
        if let Some(channel) = self.tls.channels[token.index()].as_deref_mut()
            && !channel.session.is_handshaking()
        {
            channel.session.end(&mut self.tls.wire);
            ctx.send(token, &self.tls.wire);
            self.tls.wire.clear();
        }
        ctx.close_after_flush(token);
    }

    /// Receives a body through the connection's records; true when it is here.
    ///
    /// # Safety
    /// The pieces are writable, by nobody else, until BODY_DONE or `conn_drop`.
    pub(super) unsafe fn fill_tls(&mut self, token: ConnToken) -> Option<bool> {
        let pieces = std::mem::take(&mut self.pieces);
        let channel = self.tls.get(token);
        // SAFETY: the caller's promise.
        let full = channel.map(|channel| unsafe { channel.inflow.fill(&pieces) });
        self.pieces = pieces;
        full
    }

    /// A connection has closed.
    pub(super) fn drop_tls(&mut self, token: ConnToken, listener: usize, filling: bool) {
        self.greeted(token, listener);
        let channel = self.tls.channels.get_mut(token.index()).and_then(Option::take);
        let Some(mut channel) = channel else { return };
        self.bodies -= u64::from(filling);
        channel.outflow.drop_parts(|id| {
            if let Some((store, guard)) = self.refs.take(id) {
                self.stores[store as usize].release_later(guard);
            }
        });
        for store in &mut self.stores {
            store.release();
        }
    }
}

/// The name that a client's certificate carries: the first DNS name, else the
/// common name. Empty without a certificate.
pub(super) fn peer_name(session: &Session) -> Vec<u8> {
    let certificates = session.negotiated().peer_certificates();
    let Some(leaf) = certificates.and_then(<[_]>::first) else { return Vec::new() };
    let Ok(parsed) = webpki::EndEntityCert::try_from(leaf) else { return Vec::new() };
    if let Some(name) = parsed.valid_dns_names().next() {
        return name.as_bytes().to_vec();
    }
    common_name(parsed.subject()).unwrap_or_default().to_vec()
}

/// The common name in a subject: a list of sets of (object id, text), in DER.
fn common_name(subject: &[u8]) -> Option<&[u8]> {
    const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    let mut rest = subject;
    while let Some((set, after)) = element(rest) {
        rest = after;
        let mut pairs = set;
        while let Some((pair, after)) = element(pairs) {
            pairs = after;
            let (id, after) = element(pair)?;
            if id == COMMON_NAME {
                return Some(element(after)?.0);
            }
        }
    }
    None
}

/// Contents of the first element, and what comes after it.
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = der.get(1..)?.split_first()?;
    let (len, rest) = match len {
        0..=127 => (usize::from(len), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), &rest[2..]),
        _ => return None,
    };
    (len <= rest.len()).then(|| rest.split_at(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_name_is_found_among_others_and_garbage_is_none() {
        let pair = |id: u8, text: &[u8]| {
            let mut pair = vec![0x06, 3, 0x55, 0x04, id, 0x0c, text.len() as u8];
            pair.extend_from_slice(text);
            let mut sequence = vec![0x30, pair.len() as u8];
            sequence.extend(pair);
            let mut set = vec![0x31, sequence.len() as u8];
            set.extend(sequence);
            set
        };
        let subject = [pair(0x0a, b"Crucible"), pair(0x03, b"worker 7")].concat();
        assert_eq!(common_name(&subject), Some(&b"worker 7"[..]));
        assert_eq!(common_name(&pair(0x0a, b"Crucible")), None);
        for len in 0..subject.len() {
            let _never_panics = common_name(&subject[..len]);
        }
    }
}
