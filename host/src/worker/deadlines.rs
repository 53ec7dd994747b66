//! Time-outs: idle connections, requests that never become whole, replies that
//! nobody takes. The same look counts the store's memory that replies hold.
//!
//! A peer that takes nothing holds the store's memory only so long; its replies are
//! copied then, and wait on in the connection's own memory.
//!
//! What must always be true: no timer for each connection; a fifth of the slots
//! is looked at with each tick of the loop, so that each is seen twice a second.
//! A large value gets a second more for each 64 KiB. Called by the worker.

use std::sync::atomic::Ordering;

use crucible_plugin_api::abi::tables::close_reason;
use kompio::{ConnToken, DriverCtx};

use super::Worker;
use super::conn::{flag, token_of};

/// Ticks of the loop in which every slot is looked at.
const TICKS_PER_SCAN: usize = 5;

/// Bytes that even a slow peer moves in a second.
const BYTES_PER_S_MIN: u64 = 64 * 1024;

/// Time that so many bytes may take beyond the limit.
pub(super) fn extra_ms(bytes: u64) -> u32 {
    u32::try_from(bytes / BYTES_PER_S_MIN * 1000).unwrap_or(u32::MAX / 4).min(u32::MAX / 4)
}

/// A connection is not closed for holding so little, however many there are.
const SHARE_BYTES_MIN: usize = 64 * 1024;

/// Whether `now` is at or past `due`, on a clock that wraps.
fn is_past(now: u32, due: u32) -> bool {
    now.wrapping_sub(due) < u32::MAX / 2
}

impl Worker {
    /// Looks at the next part of the connections.
    pub(super) fn scan_deadlines(&mut self, ctx: &mut DriverCtx) {
        let len = self.conns.len();
        if len == 0 {
            return;
        }
        let share = &self.crew.core.shares[self.id];
        let step = len.div_ceil(TICKS_PER_SCAN);
        let mut from = self.scan_from;
        if from >= len {
            from = 0;
            let seen = std::mem::take(&mut self.pinned_bytes);
            share.pinned_bytes.store(seen, Ordering::Relaxed);
            let held = std::mem::take(&mut self.held_bytes);
            share.held_bytes.store(held, Ordering::Relaxed);
        }
        let to = (from + step).min(len);
        self.scan_from = to;
        let share_max = self.share_max();
        for at in from..to {
            let overdue = self.is_overdue(ctx, at);
            let Some(token) = token_of(self.conns[at].id) else { continue };
            if !overdue && self.holds_too_long(ctx, at, token) {
                ctx.unpin(token);
            }
            let held = self.held(ctx, at, token);
            self.held_bytes += held as u64;
            let counts = &self.core().shares[self.id];
            if overdue {
                counts.timeouts.fetch_add(1, Ordering::Relaxed);
                self.close(ctx, token, close_reason::TIMEOUT);
            } else if held > share_max {
                counts.memory_closes.fetch_add(1, Ordering::Relaxed);
                self.close(ctx, token, close_reason::OUTPUT_LIMIT);
            }
        }
    }

    /// What one connection may hold now: anything, until all together hold too much.
    fn share_max(&self) -> usize {
        let core = self.core();
        let most = core.connection_memory.load(Ordering::Relaxed);
        if most == 0 || core.sum(|share| &share.held_bytes) <= most {
            return usize::MAX;
        }
        let connections = core.sum(|share| &share.sessions).max(1);
        usize::try_from(most / connections).unwrap_or(usize::MAX).max(SHARE_BYTES_MIN)
    }

    /// Memory that a connection's bytes take here; values that lie in a store
    /// are not its own.
    fn held(&self, ctx: &DriverCtx, at: usize, token: ConnToken) -> usize {
        let tls = if self.conns[at].has(flag::TLS) { self.tls.held(token) } else { 0 };
        let replies = ctx.queued_bytes(token).saturating_sub(ctx.pinned_bytes(token));
        replies + ctx.input(token).len() + tls
    }

    /// Whether a connection holds memory of the store and its peer has taken nothing for long.
    fn holds_too_long(&self, ctx: &DriverCtx, at: usize, token: ConnToken) -> bool {
        let conn = &self.conns[at];
        let limit = self.core().by_reference_ms.load(Ordering::Relaxed);
        limit > 0
            && conn.waiting_bytes > 0
            && self.clock.host_ms.wrapping_sub(conn.stalled_at) >= limit
            && ctx.pinned_bytes(token) > 0
    }

    fn is_overdue(&mut self, ctx: &DriverCtx, at: usize) -> bool {
        let now = self.clock.host_ms;
        let conn = &mut self.conns[at];
        let Some(token) = token_of(conn.id) else { return false };
        let limits = &self.crew.core.timeouts[conn.listener as usize];
        let clear = if conn.has(flag::TLS) { self.tls.left(token) } else { 0 };
        let waiting = ctx.queued_bytes(token) + clear;
        let pinned = if waiting > 0 { ctx.pinned_bytes(token) } else { 0 };
        self.pinned_bytes += pinned as u64;
        if waiting == 0 || waiting != conn.waiting_bytes {
            conn.waiting_bytes = waiting;
            conn.stalled_at = now;
        } else {
            let limit = limits.write_ms.load(Ordering::Relaxed);
            let due = limit.saturating_add(extra_ms(waiting as u64));
            if limit > 0 && now.wrapping_sub(conn.stalled_at) >= due {
                return true;
            }
        }
        if waiting > 0 || conn.has(flag::BLOCKED | flag::CLOSING) {
            return false;
        }
        if conn.request_due != 0 {
            return is_past(now, conn.request_due);
        }
        let idle = limits.idle_ms.load(Ordering::Relaxed);
        idle > 0 && now.wrapping_sub(conn.active_at) >= idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_holds_over_the_wrap_of_the_clock() {
        assert!(is_past(10, 10) && is_past(11, 10) && !is_past(9, 10));
        assert!(is_past(5, u32::MAX - 5) && !is_past(u32::MAX - 5, 5));
    }

    #[test]
    fn large_values_get_more_time() {
        assert_eq!((extra_ms(0), extra_ms(64 << 10), extra_ms(1 << 20)), (0, 1000, 16_000));
        assert!(extra_ms(u64::MAX) < u32::MAX / 2);
    }
}
