//! A worker's open connections, for people.
//!
//! What must always be true: a list is bounded, and made between two rounds of requests. Called
//! when the admin server asks by mail.

use kompio::{Addr, DriverCtx};

use super::Worker;
use super::conn::{flag, token_of};
use crate::services::ConnectionSeen;

impl Worker {
    /// At most so many connections as they are now.
    pub(super) fn list(&self, ctx: &DriverCtx, most: usize) -> Vec<ConnectionSeen> {
        let now = self.clock.host_ms;
        let open = self.conns.iter().filter_map(|conn| Some((conn, token_of(conn.id)?)));
        let seen = open.take(most).map(|(conn, token)| {
            let tls = conn.has(flag::TLS);
            let output_bytes = ctx.queued_bytes(token) + if tls { self.tls.left(token) } else { 0 };
            let state = match () {
                () if conn.has(flag::CLOSING) => "closing",
                () if !conn.has(flag::SESSION) => "handshake",
                () if conn.has(flag::FILLING) => "receiving a value",
                () if conn.has(flag::ALONE) => "waiting for the store",
                () if conn.has(flag::BLOCKED) => "waiting",
                () if output_bytes > 0 => "sending",
                () if conn.request_due != 0 => "receiving",
                () => "idle",
            };
            let peer = ctx.peer_addr(token);
            let inet = peer.as_ref().and_then(Addr::as_inet);
            ConnectionSeen {
                id: conn.id,
                worker: self.id,
                listener: usize::from(conn.listener),
                peer: inet.map_or_else(String::new, |inet| inet.to_string()),
                state,
                tls,
                age_ms: now.wrapping_sub(conn.opened_at),
                idle_ms: now.wrapping_sub(conn.active_at),
                input_bytes: ctx.input(token).len(),
                output_bytes,
                pinned_bytes: ctx.pinned_bytes(token),
            }
        });
        seen.collect()
    }
}
