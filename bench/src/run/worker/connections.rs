//! A worker's connections: how they come up, what they are told first, and how they are given up.
//!
//! Always true: what was in flight on a connection that is given up is counted, as timed out or as lost.
//! Called by the worker's event loop.

use kompio::{ConnToken, DriverCtx};

use super::super::channel::Channel;
use super::super::conn::State;
use super::super::grpc::Grpc;
use super::super::shared::Told;
use super::super::source::Source;
use super::super::stamps::Stamps;
use super::{TIMER_RECONNECT, Worker};
use crate::config::choices::Reconnect;
use crate::record::sample::{All, Of};
use crate::wire::{Codec, Garbage};
use crate::workload::mix::Verb;

impl<C: Codec> Worker<C> {
    pub(super) fn connect(&mut self, ctx: &mut DriverCtx, number: u32) {
        let conn = &mut self.conns[number as usize];
        let endpoint = &self.shared.plan.endpoints[conn.endpoint as usize];
        conn.restart(&self.shared.plan.login);
        conn.since_ns = self.shared.now_ns();
        match ctx.connect_with_timeout(endpoint.address, self.shared.plan.connect_timeout) {
            Ok(token) => {
                conn.token = Some(token);
                conn.state = State::Connecting;
                if self.by_slot.len() <= token.index() {
                    self.by_slot.resize(token.index() + 1, u32::MAX);
                }
                self.by_slot[token.index()] = number;
            }
            Err(error) => {
                let why = format!("connect to {}: {error}", endpoint.name);
                self.connect_failed(ctx, number, why);
            }
        }
    }

    pub(super) fn connect_failed(&mut self, ctx: &mut DriverCtx, number: u32, why: String) {
        self.conns[number as usize].token = None;
        self.conns[number as usize].state = State::Down;
        self.work.sample.add(All::ConnectFailures, 1);
        self.work.trouble(|| why.clone());
        self.last_failure = why;
        self.reconnect_later(ctx, number);
    }

    pub(super) fn reconnect_later(&mut self, ctx: &mut DriverCtx, number: u32) {
        if let Reconnect::After(wait) = self.shared.plan.reconnect {
            ctx.timer_after(wait, TIMER_RECONNECT | u64::from(number));
        }
    }

    pub(super) fn number_of(&self, token: ConnToken) -> Option<u32> {
        let number = *self.by_slot.get(token.index())?;
        (self.conns.get(number as usize)?.token == Some(token)).then_some(number)
    }

    /// Gives up everything in flight on a connection and closes it.
    pub(super) fn fail(&mut self, ctx: &mut DriverCtx, number: u32, now_ns: u64) {
        let timeout_ns = self.shared.plan.request_timeout.as_nanos() as u64;
        let mut again = Vec::new();
        while let Some(pending) = self.conns[number as usize].pending.pop() {
            let overdue = now_ns.saturating_sub(pending.sent_ns) >= timeout_ns;
            self.work.given_up(&pending, now_ns, if overdue { Of::Timeouts } else { Of::Lost });
            again.push(pending.request.id);
        }
        let conn = &mut self.conns[number as usize];
        again.extend(conn.follow.drain(..).filter(|r| r.verb == Verb::Set).map(|r| r.id));
        if let Source::Prefill { again: queue, .. } = &mut self.source {
            queue.extend(again);
        }
        if let Some(token) = conn.token.take() {
            ctx.close(token);
        }
        conn.state = State::Down;
        self.reconnect_later(ctx, number);
    }

    pub(super) fn lost(&mut self, ctx: &mut DriverCtx, number: u32, why: &str) {
        let endpoint = self.conns[number as usize].endpoint as usize;
        let text = format!("{}: {why}", self.shared.plan.endpoints[endpoint].name);
        self.work.sample.add(All::Disconnects, 1);
        self.work.trouble(|| text.clone());
        self.last_failure = text;
        let now_ns = self.shared.now_ns();
        self.fail(ctx, number, now_ns);
    }

    pub(super) fn garbage(&mut self, ctx: &mut DriverCtx, number: u32, garbage: &Garbage) {
        let endpoint = self.conns[number as usize].endpoint as usize;
        let text =
            format!("{} answers garbage: {garbage}", self.shared.plan.endpoints[endpoint].name);
        self.work.sample.add(All::Garbage, 1);
        self.work.trouble(|| text.clone());
        self.last_failure = text;
        let now_ns = self.shared.now_ns();
        self.fail(ctx, number, now_ns);
    }

    pub(super) fn list(&mut self, number: u32) {
        let conn = &mut self.conns[number as usize];
        if !conn.listed && conn.has_room(self.shared.plan.pipeline_depth) {
            conn.listed = true;
            self.ready[conn.endpoint as usize].push_back(number);
        }
    }

    pub(super) fn came_up(&mut self, number: u32) {
        self.work.sample.add(All::Connects, 1);
        self.list(number);
        if !self.told_ready && self.conns.iter().all(|c| c.state == State::Up) {
            self.told_ready = true;
            self.work.tell(Told::Ready);
        }
    }

    /// The connection speaks plainly now: the greeting goes out, if there is one.
    pub(super) fn greet(&mut self, ctx: &mut DriverCtx, number: u32, token: ConnToken) {
        let Some(mut out) = ctx.take_out(token) else { return };
        let from = out.bytes().len();
        let conn = &mut self.conns[number as usize];
        match conn.codec.greet(out.as_mut_vec()) {
            Some(expect) => conn.greet(expect),
            None => conn.state = State::Up,
        }
        if let Some(stamps) = &mut conn.stamps {
            stamps.wrote(out.bytes().len() - from);
        }
        conn.seal(&mut out, from);
        ctx.put_out(token, out);
        if self.conns[number as usize].state == State::Up {
            self.came_up(number);
        }
    }

    /// Asks for the kernel's clock, before the first byte.
    pub(super) fn stamp(
        &mut self,
        ctx: &mut DriverCtx,
        number: u32,
        token: ConnToken,
    ) -> std::io::Result<()> {
        if !ctx.stamp_receives(token) {
            return Err(std::io::Error::other("a receive is under way already"));
        }
        let socket = ctx.descriptor(token).ok_or(std::io::ErrorKind::NotConnected)?;
        self.conns[number as usize].stamps = Some(Box::new(Stamps::enable(socket)?));
        Ok(())
    }

    /// What stands between codec and socket, by the plan.
    pub(super) fn channel(&self, number: u32) -> Result<Option<Channel>, String> {
        let plan = &self.shared.plan;
        if self.shared.tls.is_none() && !C::OVER_GRPC {
            return Ok(None);
        }
        let name = &plan.endpoints[self.conns[number as usize].endpoint as usize].name;
        let tls = self.shared.tls.as_ref().map(|settings| settings.session(name)).transpose()?;
        let grpc = C::OVER_GRPC.then(|| Grpc::new(name, tls.is_some(), plan.login.clone()));
        Ok(Some(Channel { tls, grpc: grpc.transpose()?, plain: Vec::new() }))
    }

    /// What the channel has to say by itself goes out.
    pub(super) fn say(&mut self, ctx: &mut DriverCtx, number: u32, token: ConnToken) {
        let Some(mut out) = ctx.take_out(token) else { return };
        let from = out.bytes().len();
        self.conns[number as usize].seal(&mut out, from);
        ctx.put_out(token, out);
    }
}
