//! What a worker sends next, and when: the one place from which requests leave.
//!
//! Always true: requests leave in the order of their intended times, to connections that have room; what has
//! no room is held and leaves first. Called by the worker's event loop after each of its turns.

use kompio::{ConnToken, DriverCtx, OutBuf};

use super::super::pending::{Extra, Request};
use super::super::route::Router;
use super::super::shared::{Told, write_key};
use super::super::source::{Next, Source};
use super::{Run, TIMER_PUMP, Worker, is_counter};
use crate::wire::Codec;
use crate::workload::mix::Verb;

/// Requests issued before the event loop is given a turn.
const ISSUES_PER_PUMP_MAX: u32 = 4096;

impl<C: Codec> Worker<C> {
    /// Sends what is due to whoever has room, then sets the timer for what is due next.
    pub(super) fn pump(&mut self, ctx: &mut DriverCtx) {
        let Some(run) = self.run else { return };
        let mut now_ns = self.shared.now_ns();
        let mut left = ISSUES_PER_PUMP_MAX;
        let next_ns = loop {
            if left == 0 {
                break Some(now_ns);
            }
            if now_ns >= run.end_ns && self.work.redirects.is_empty() {
                break None;
            }
            if self.any_request_will_do(&run, now_ns) {
                let Some(number) = self.take_ready(0) else { break None };
                let token = self.conns[number as usize].token;
                let Some((token, mut out)) = token.and_then(|t| Some((t, ctx.take_out(t)?))) else {
                    continue;
                };
                let from = out.bytes().len();
                left -= self.fill(number, &mut out, left, now_ns, &run);
                self.conns[number as usize].seal(&mut out, from);
                ctx.put_out(token, out);
                self.list(number);
                now_ns = self.shared.now_ns();
                continue;
            }
            let redirect = self.work.redirects.pop_front();
            let request = match redirect.map(|r| r.request).or_else(|| self.held.take()) {
                // A closed loop has no schedule: the request is meant for when it can be sent.
                Some(request) if !self.work.open_loop && redirect.is_none() => {
                    Request { intended_ns: now_ns, ..request }
                }
                Some(request) => request,
                None => match self.next(now_ns, &run) {
                    Ok(request) => request,
                    Err(next_ns) => break next_ns,
                },
            };
            let endpoint = redirect.map_or_else(|| self.endpoint(&request), |r| r.server);
            let Some(number) = self.take_ready(endpoint) else {
                match redirect {
                    Some(redirect) => self.work.redirects.push_front(redirect),
                    None => self.held = Some(request),
                }
                // Looks again when a reply makes room.
                break None;
            };
            let token = self.conns[number as usize].token;
            let Some((token, mut out)) = token.and_then(|t| Some((t, ctx.take_out(t)?))) else {
                // The connection is closing: another one takes it.
                match redirect {
                    Some(redirect) => self.work.redirects.push_front(redirect),
                    None => self.held = Some(request),
                }
                continue;
            };
            left -= 1;
            let from = out.bytes().len();
            if redirect.is_some_and(|r| r.asking) {
                self.issue(
                    number,
                    &mut out,
                    Request { verb: Verb::Asking, measured: false, ..request },
                    now_ns,
                );
            }
            self.issue(number, &mut out, request, now_ns);
            self.conns[number as usize].seal(&mut out, from);
            ctx.put_out(token, out);
            self.list(number);
            now_ns = self.shared.now_ns();
        };
        if let Some(next_ns) = next_ns
            && (self.pump_at_ns <= now_ns || next_ns < self.pump_at_ns)
        {
            self.pump_at_ns = next_ns;
            ctx.timer_at(self.instant(next_ns), TIMER_PUMP);
        }
    }

    /// In a closed loop with one server a connection is filled at one go, and any key will do for it.
    #[inline]
    fn any_request_will_do(&self, run: &Run, now_ns: u64) -> bool {
        matches!(self.source, Source::Closed)
            && self.ready.len() == 1
            && self.held.is_none()
            && self.work.redirects.is_empty()
            && !run.dry
            && now_ns >= run.start_ns
    }

    /// Fills a connection's room with `most` requests at most; gives how many.
    fn fill(&mut self, number: u32, out: &mut OutBuf, most: u32, now_ns: u64, run: &Run) -> u32 {
        let room = self.conns[number as usize].room(self.shared.plan.pipeline_depth);
        let count = most.min(room as u32);
        let measured = now_ns >= run.measure_ns;
        for _ in 0..count {
            let (verb, id) = self.draw.one(&self.shared);
            if verb == Verb::Get && self.read_template.is_some() {
                if !self.reads.push(id) {
                    self.issue_reads(number, out, now_ns, measured);
                    self.reads.push(id);
                }
                continue;
            }
            // What was drawn before goes before.
            self.issue_reads(number, out, now_ns, measured);
            let extra = Extra::default();
            let request = Request { verb, id, intended_ns: now_ns, measured, extra };
            self.issue(number, out, request, now_ns);
        }
        self.issue_reads(number, out, now_ns, measured);
        count
    }

    /// The next due request, or when to look again.
    #[inline]
    pub(super) fn next(&mut self, now_ns: u64, run: &Run) -> Result<Request, Option<u64>> {
        if run.dry || now_ns >= run.end_ns {
            return Err(None);
        }
        // All workers of a closed loop begin together.
        if now_ns < run.start_ns {
            return Err(Some(run.start_ns));
        }
        match self.source.next(&self.shared, &mut self.draw, now_ns, run.measure_ns) {
            Next::Due(request) => Ok(request),
            Next::At(at_ns) => Err((at_ns < run.end_ns).then_some(at_ns)),
            Next::End => {
                self.run = Some(Run { dry: true, ..*run });
                Err(None)
            }
            Next::Broken(why) => {
                self.work.tell(Told::Abandoned(why));
                self.run = Some(Run { dry: true, ..*run });
                Err(None)
            }
        }
    }

    #[inline]
    pub(super) fn endpoint(&mut self, request: &Request) -> usize {
        if matches!(self.shared.router, Router::Single) {
            return 0;
        }
        self.scratch.clear();
        let len = self.shared.key_len(request.id, request.extra.key_len);
        write_key(&mut self.scratch, request.id, len, is_counter(request.verb));
        self.shared.router.server(&self.scratch) as usize
    }

    pub(super) fn take_ready(&mut self, endpoint: usize) -> Option<u32> {
        loop {
            let number = self.ready[endpoint].pop_front()?;
            let conn = &mut self.conns[number as usize];
            conn.listed = false;
            if conn.has_room(self.shared.plan.pipeline_depth) {
                return Some(number);
            }
        }
    }

    /// Requests that follow from replies go before any other, on the same connection.
    pub(super) fn follow(&mut self, ctx: &mut DriverCtx, number: u32, token: ConnToken) {
        if self.conns[number as usize].follow.is_empty() {
            return;
        }
        let Some(mut out) = ctx.take_out(token) else { return };
        let from = out.bytes().len();
        let now_ns = self.shared.now_ns();
        while self.conns[number as usize].has_room(self.shared.plan.pipeline_depth)
            && let Some(request) = self.conns[number as usize].follow.pop_front()
        {
            // Its intended time is now, so it slips nothing and waits for nobody.
            let open = std::mem::replace(&mut self.work.open_loop, false);
            self.issue(number, &mut out, request, now_ns);
            self.work.open_loop = open;
        }
        self.conns[number as usize].seal(&mut out, from);
        ctx.put_out(token, out);
    }
}
