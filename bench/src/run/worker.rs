//! A worker: one pinned thread's event loop, its connections, and the task it works on.
//!
//! Always true: requests are sent from one place ([`Worker::pump`]), in the order of their intended
//! times, to connections that have room; a connection whose oldest request is over its time is closed,
//! because the replies behind it can no longer be told apart. Called by kompio.
//!
//! ```text
//!  on_notify(task) → pump ─ issue → … on_data → replies → room → pump …
//!                     └ timer at the next intended time / end of the interval / scan for timeouts
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use kompio::{CloseReason, ConnToken, Consumed, DriverCtx, EventHandler, OutBuf};

use super::by_reference::{BY_REFERENCE_LEN_BYTES_MIN, splice};
use super::channel::Channel;
use super::conn::{Conn, State};
use super::grpc::Grpc;
use super::pending::{Extra, Packed, Pending, Request};
use super::route::Router;
use super::shared::{SharedRef, Task, Told, flags_of, write_key};
use super::short::ReadTemplate;
use super::source::{Draw, Next, Source};
use super::stamps::Stamps;
use super::work::Work;
use crate::config::choices::{Reconnect, Timestamps};
use crate::record::sample::{All, Of, Sample};
use crate::wire::{Codec, Condition, Garbage, Keys, Store};
use crate::workload::content::Stamp;
use crate::workload::key_hash;
use crate::workload::keys::KeySource;
use crate::workload::mix::{Part, Verb};
use crate::workload::spread::Spread;

const TIMER_PUMP: u64 = 1;
const TIMER_BOUNDARY: u64 = 2;
const TIMER_SCAN: u64 = 3;
/// Reconnect timers carry the connection's number above this bit.
const TIMER_RECONNECT: u64 = 1 << 32;

/// The scan for overdue requests runs this many times in a request timeout.
const SCANS_PER_TIMEOUT: u32 = 8;
/// Requests issued before the event loop is given a turn.
const ISSUES_PER_PUMP_MAX: u32 = 4096;

/// The task in hand.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// Nothing is sent before.
    start_ns: u64,
    measure_ns: u64,
    end_ns: u64,
    /// The interval in progress: 0 is the warm-up.
    interval: u64,
    /// When it ends.
    boundary_ns: u64,
    /// The source ran dry (a trace's end, the last key).
    dry: bool,
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Worker<C> {
    shared: SharedRef,
    work: Work,
    conns: Vec<Conn<C>>,
    by_slot: Vec<u32>,
    /// Connections with room, for each endpoint, next first.
    ready: Vec<VecDeque<u32>>,
    /// A request whose server has no room.
    held: Option<Request>,
    draw: Draw,
    source: Source,
    run: Option<Run>,
    /// When the last wait for room ended.
    room_ns: u64,
    pump_at_ns: u64,
    told_ready: bool,
    down_since_ns: Option<u64>,
    last_failure: String,
    /// Plain reads are sent from it, where the plan allows.
    read_template: Option<ReadTemplate>,
    scratch: Vec<u8>,
    keys: Keys,
    clock: (u64, u64, u64),
}

impl<C: Codec> Worker<C> {
    pub(super) fn new(shared: SharedRef, id: usize) -> Self {
        let plan = &shared.plan;
        let endpoints = plan.endpoints.len();
        let mine = (id..plan.connections).step_by(plan.threads);
        let conns: Vec<_> =
            mine.enumerate().map(|(n, _)| Conn::new((n % endpoints) as u16)).collect();
        let feed = shared
            .feeds
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .get_mut(id)
            .and_then(Option::take);
        let keys =
            KeySource::new(&plan.law, plan.key_count, plan.seed, id as u64, plan.threads as u64);
        let read_template = match (&plan.trace, &plan.key_length) {
            (None, Spread::Fixed(len)) => ReadTemplate::new(&mut C::new(), *len as usize),
            _ => None,
        };
        Self {
            work: Work::new(shared.clone(), id),
            conns,
            by_slot: Vec::new(),
            ready: vec![VecDeque::new(); endpoints],
            held: None,
            draw: Draw { keys, feed },
            source: Source::Idle,
            run: None,
            room_ns: 0,
            pump_at_ns: 0,
            told_ready: false,
            down_since_ns: None,
            last_failure: String::new(),
            read_template,
            scratch: Vec::new(),
            keys: Keys::default(),
            clock: (0, 0, 0),
            shared,
        }
    }

    // ---- connections ------------------------------------------------------------------------

    fn connect(&mut self, ctx: &mut DriverCtx, number: u32) {
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

    fn connect_failed(&mut self, ctx: &mut DriverCtx, number: u32, why: String) {
        self.conns[number as usize].token = None;
        self.conns[number as usize].state = State::Down;
        self.work.sample.add(All::ConnectFailures, 1);
        self.work.trouble(|| why.clone());
        self.last_failure = why;
        self.reconnect_later(ctx, number);
    }

    fn reconnect_later(&mut self, ctx: &mut DriverCtx, number: u32) {
        if let Reconnect::After(wait) = self.shared.plan.reconnect {
            ctx.timer_after(wait, TIMER_RECONNECT | u64::from(number));
        }
    }

    fn number_of(&self, token: ConnToken) -> Option<u32> {
        let number = *self.by_slot.get(token.index())?;
        (self.conns.get(number as usize)?.token == Some(token)).then_some(number)
    }

    /// Gives up everything in flight on a connection and closes it.
    fn fail(&mut self, ctx: &mut DriverCtx, number: u32, now_ns: u64) {
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

    fn lost(&mut self, ctx: &mut DriverCtx, number: u32, why: &str) {
        let endpoint = self.conns[number as usize].endpoint as usize;
        let text = format!("{}: {why}", self.shared.plan.endpoints[endpoint].name);
        self.work.sample.add(All::Disconnects, 1);
        self.work.trouble(|| text.clone());
        self.last_failure = text;
        let now_ns = self.shared.now_ns();
        self.fail(ctx, number, now_ns);
    }

    fn garbage(&mut self, ctx: &mut DriverCtx, number: u32, garbage: &Garbage) {
        let endpoint = self.conns[number as usize].endpoint as usize;
        let text =
            format!("{} answers garbage: {garbage}", self.shared.plan.endpoints[endpoint].name);
        self.work.sample.add(All::Garbage, 1);
        self.work.trouble(|| text.clone());
        self.last_failure = text;
        let now_ns = self.shared.now_ns();
        self.fail(ctx, number, now_ns);
    }

    fn list(&mut self, number: u32) {
        let conn = &mut self.conns[number as usize];
        if !conn.listed && conn.has_room(self.shared.plan.pipeline_depth) {
            conn.listed = true;
            self.ready[conn.endpoint as usize].push_back(number);
        }
    }

    fn came_up(&mut self, number: u32) {
        self.work.sample.add(All::Connects, 1);
        self.list(number);
        if !self.told_ready && self.conns.iter().all(|c| c.state == State::Up) {
            self.told_ready = true;
            self.work.tell(Told::Ready);
        }
    }

    // ---- requests ---------------------------------------------------------------------------

    /// Sends what is due to whoever has room, then sets the timer for what is due next.
    fn pump(&mut self, ctx: &mut DriverCtx) {
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
            // In a closed loop the connection is filled at one go, and any key will do for it.
            if matches!(self.source, Source::Closed) && self.ready.len() == 1 {
                while left > 0
                    && self.conns[number as usize].has_room(self.shared.plan.pipeline_depth)
                {
                    let Ok(request) = self.next(now_ns, &run) else { break };
                    left -= 1;
                    self.issue(number, &mut out, request, now_ns);
                }
            }
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

    /// The next due request, or when to look again.
    #[inline]
    fn next(&mut self, now_ns: u64, run: &Run) -> Result<Request, Option<u64>> {
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
    fn endpoint(&mut self, request: &Request) -> usize {
        if matches!(self.shared.router, Router::Single) {
            return 0;
        }
        self.scratch.clear();
        let len = self.shared.key_len(request.id, request.extra.key_len);
        write_key(&mut self.scratch, request.id, len, is_counter(request.verb));
        self.shared.router.server(&self.scratch) as usize
    }

    fn take_ready(&mut self, endpoint: usize) -> Option<u32> {
        loop {
            let number = self.ready[endpoint].pop_front()?;
            let conn = &mut self.conns[number as usize];
            conn.listed = false;
            if conn.has_room(self.shared.plan.pipeline_depth) {
                return Some(number);
            }
        }
    }

    /// Writes a request and notes what its answer may be.
    #[inline]
    fn issue(&mut self, number: u32, out: &mut OutBuf, request: Request, now_ns: u64) {
        if self.work.open_loop && request.measured {
            // Late by the generator's fault: not while every connection was busy.
            let due_ns = request.intended_ns.max(self.room_ns);
            self.work.sample.slip.record(now_ns.saturating_sub(due_ns));
        }
        if request.verb == Verb::Get
            && request.extra == Extra::default()
            && let Some(template) = &self.read_template
        {
            let floor = self.work.floor(request.id);
            let out = out.as_mut_vec();
            let before = out.len();
            template.write(out, request.id);
            self.work.sample.add(All::BytesSent, (out.len() - before) as u64);
            self.work.count(&request, Of::Requests, 1);
            self.work.in_flight += 1;
            let Request { id, intended_ns, measured, .. } = request;
            let read = Packed::read(id, now_ns, intended_ns, measured, floor);
            let conn = &mut self.conns[number as usize];
            conn.pending.push_read(read);
            if let Some(stamps) = &mut conn.stamps {
                stamps.requested(out.len() - before);
            }
            return;
        }
        let before = out.total_len();
        let mut pending =
            Pending { request, sent_ns: now_ns, floor: Default::default(), keys: 0, write: false };
        self.scratch.clear();
        let id = request.id;
        let key_len = self.shared.key_len(id, request.extra.key_len);
        write_key(&mut self.scratch, id, key_len, is_counter(request.verb));
        match request.verb {
            Verb::Get | Verb::Gets => {
                pending.floor = self.work.floor(id);
                let codec = &mut self.conns[number as usize].codec;
                codec.get(out.as_mut_vec(), &self.scratch, request.verb == Verb::Gets);
            }
            Verb::Set => pending.write = self.store(number, out, &request, Condition::Always),
            Verb::Cas => {
                pending.write =
                    self.store(number, out, &request, Condition::Token(request.extra.token))
            }
            Verb::MGet => pending.keys = self.get_many(number, out, &request),
            Verb::Template(index) => self.template(number, out, &request, index),
            Verb::Delete => {
                self.work.begin_write(id);
                pending.write = true;
                self.conns[number as usize].codec.delete(out.as_mut_vec(), &self.scratch);
            }
            Verb::Incr => self.conns[number as usize].codec.incr(out.as_mut_vec(), &self.scratch),
            Verb::Touch => {
                let ttl_s = self.ttl_s(&request).max(1);
                self.conns[number as usize].codec.touch(out.as_mut_vec(), &self.scratch, ttl_s);
            }
            Verb::Asking => {
                self.keys.clear();
                self.keys.push_with(|out| out.extend_from_slice(b"ASKING"));
                self.conns[number as usize].codec.command(out.as_mut_vec(), &self.keys);
            }
            Verb::Ping => self.conns[number as usize].codec.ping(out.as_mut_vec()),
            Verb::CounterInit => {
                let store = Store { len: 1, flags: 0, ttl_s: 0, condition: Condition::IfAbsent };
                let codec = &mut self.conns[number as usize].codec;
                codec.store(out.as_mut_vec(), &self.scratch, store, |out| out.push(b'1'));
            }
        }
        self.work.sample.add(All::BytesSent, (out.total_len() - before) as u64);
        self.work.count(&request, Of::Requests, 1);
        self.work.in_flight += 1;
        let conn = &mut self.conns[number as usize];
        conn.pending.push(pending);
        if let Some(stamps) = &mut conn.stamps {
            stamps.requested(out.total_len() - before);
        }
    }

    fn ttl_s(&mut self, request: &Request) -> u32 {
        let Some(ttl) = &self.shared.plan.ttl else { return 0 };
        let word = self.draw.keys.rng().word();
        u32::try_from(ttl.draw(word, u64::from(request.extra.ttl_s))).unwrap_or(u32::MAX)
    }

    /// Writes a store; gives whether the ledger counts it as a write.
    fn store(
        &mut self,
        number: u32,
        out: &mut OutBuf,
        request: &Request,
        condition: Condition,
    ) -> bool {
        let id = request.id;
        let len = self.shared.value_len(id, request.extra.value_len);
        let ttl_s = self.ttl_s(request);
        let stamp = Stamp { run: self.shared.run, version: self.work.begin_write(id) };
        let store = Store { len, flags: flags_of(id), ttl_s, condition };
        let (pool, hash) = (self.shared.pool, key_hash(id));
        let conn = &mut self.conns[number as usize];
        // What is sealed is copied anyway.
        let copied = len < BY_REFERENCE_LEN_BYTES_MIN || conn.channel.is_some();
        let codec = &mut conn.codec;
        if copied {
            codec.store(out.as_mut_vec(), &self.scratch, store, |out| {
                pool.write(out, hash, stamp, len)
            });
            return true;
        }
        let mut body = None;
        codec.store(out.as_mut_vec(), &self.scratch, store, |out| {
            let pieces = pool.write_head(out, hash, stamp, len);
            body = Some((out.len(), pieces));
        });
        if let Some((at, pieces)) = body {
            splice(out, at, pieces);
        }
        true
    }

    fn get_many(&mut self, number: u32, out: &mut OutBuf, request: &Request) -> u8 {
        self.keys.clear();
        let count = self.shared.plan.mget_keys;
        let conn = &mut self.conns[number as usize];
        for n in 0..count {
            let id = if n == 0 { request.id } else { self.draw.keys.id() };
            let len = self.shared.key_len(id, 0);
            self.keys.push_with(|out| write_key(out, id, len, false));
            conn.keys.push_back((id, self.work.floor(id)));
        }
        conn.codec.get_many(out.as_mut_vec(), &self.keys);
        count as u8
    }

    fn template(&mut self, number: u32, out: &mut OutBuf, request: &Request, index: u8) {
        self.keys.clear();
        let (id, pool) = (request.id, self.shared.pool);
        let len = self.shared.value_len(id, request.extra.value_len);
        let stamp = Stamp { run: self.shared.run, version: 0 };
        let rng = self.draw.keys.rng();
        for argument in &self.shared.plan.mix.templates[index as usize].arguments {
            self.keys.push_with(|out| {
                for part in argument {
                    match part {
                        Part::Literal(bytes) => out.extend_from_slice(bytes),
                        Part::Key => out.extend_from_slice(&self.scratch),
                        Part::Value => pool.write(out, key_hash(id), stamp, len),
                        Part::Number => out.extend_from_slice(
                            itoa::Buffer::new().format(rng.below(1_000_000)).as_bytes(),
                        ),
                    }
                }
            });
        }
        self.conns[number as usize].codec.command(out.as_mut_vec(), &self.keys);
    }

    /// Requests that follow from replies go before any other, on the same connection.
    fn follow(&mut self, ctx: &mut DriverCtx, number: u32, token: ConnToken) {
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

    // ---- what arrives -----------------------------------------------------------------------

    /// The connection speaks plainly now: the greeting goes out, if there is one.
    fn greet(&mut self, ctx: &mut DriverCtx, number: u32, token: ConnToken) {
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
    fn stamp(&mut self, ctx: &mut DriverCtx, number: u32, token: ConnToken) -> std::io::Result<()> {
        if !ctx.stamp_receives(token) {
            return Err(std::io::Error::other("a receive is under way already"));
        }
        let socket = ctx.descriptor(token).ok_or(std::io::ErrorKind::NotConnected)?;
        self.conns[number as usize].stamps = Some(Box::new(Stamps::enable(socket)?));
        Ok(())
    }

    /// What stands between codec and socket, by the plan.
    fn channel(&self, number: u32) -> Result<Option<Channel>, String> {
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
    fn say(&mut self, ctx: &mut DriverCtx, number: u32, token: ConnToken) {
        let Some(mut out) = ctx.take_out(token) else { return };
        let from = out.bytes().len();
        self.conns[number as usize].seal(&mut out, from);
        ctx.put_out(token, out);
    }

    /// Bytes of a sealed connection.
    fn on_sealed(
        &mut self,
        ctx: &mut DriverCtx,
        number: u32,
        token: ConnToken,
        data: &[u8],
        now_ns: u64,
    ) {
        let Some(channel) = &mut self.conns[number as usize].channel else { return };
        let opened = channel.open(data);
        let ready = channel.is_ready();
        let mut plain = std::mem::take(&mut channel.plain);
        // An alert goes out even when what came could not be opened.
        self.say(ctx, number, token);
        if ready && opened.is_ok() && self.conns[number as usize].state == State::Securing {
            self.greet(ctx, number, token);
        }
        // Replies that came before a goodbye count.
        if !plain.is_empty() {
            match self.on_plain(ctx, number, token, &plain, now_ns) {
                Ok(used) => drop(plain.drain(..used)),
                Err(()) => return,
            }
        }
        match (opened, &mut self.conns[number as usize].channel) {
            (Err(why), _) => self.lost(ctx, number, &why),
            (Ok(()), Some(channel)) => channel.plain = plain,
            (Ok(()), None) => {}
        }
    }

    /// Plain bytes; gives how many are done with, or nothing of a connection that was given up.
    fn on_plain(
        &mut self,
        ctx: &mut DriverCtx,
        number: u32,
        token: ConnToken,
        data: &[u8],
        now_ns: u64,
    ) -> Result<usize, ()> {
        let conn = &mut self.conns[number as usize];
        let was = conn.state;
        let had_room = conn.listed;
        match conn.receive(data, now_ns, &mut self.work) {
            Ok(used) => {
                self.work.sample.add(All::BytesReceived, used as u64);
                if was == State::Greeting && conn.state == State::Up {
                    self.came_up(number);
                }
                self.follow(ctx, number, token);
                if !had_room {
                    if self.held.is_some() {
                        self.room_ns = now_ns;
                    }
                    self.list(number);
                }
                Ok(used)
            }
            Err(garbage) => {
                self.garbage(ctx, number, &garbage);
                Err(())
            }
        }
    }

    // ---- time -------------------------------------------------------------------------------

    fn instant(&self, at_ns: u64) -> Instant {
        self.shared.epoch + Duration::from_nanos(at_ns)
    }

    fn begin(&mut self, ctx: &mut DriverCtx, task: Task) {
        let now_ns = self.shared.now_ns();
        if !matches!(task, Task::Halt) {
            self.held = None;
        }
        match task {
            Task::Prefill => {
                let (next, step) = (self.work.id as u64, self.shared.plan.threads as u64);
                self.source = Source::Prefill { next, step, again: Vec::new() };
                self.work.prefilling = true;
                self.work.open_loop = false;
                self.run = Some(Run {
                    start_ns: 0,
                    measure_ns: u64::MAX,
                    end_ns: u64::MAX,
                    interval: 0,
                    boundary_ns: u64::MAX,
                    dry: false,
                });
            }
            Task::Drive { rate, start_ns, measure_ns, end_ns } => {
                self.source = Source::drive(&self.shared, rate, start_ns, self.work.id);
                self.work.prefilling = false;
                self.work.open_loop = self.source.is_open();
                self.work.sample = Sample::new(self.shared.roster.verbs.len());
                self.clock = clock(now_ns);
                self.room_ns = start_ns;
                self.run = Some(Run {
                    start_ns,
                    measure_ns,
                    end_ns,
                    interval: 0,
                    boundary_ns: measure_ns,
                    dry: false,
                });
                ctx.timer_at(self.instant(measure_ns), TIMER_BOUNDARY);
            }
            Task::Halt => {
                if let Some(run) = &mut self.run {
                    run.end_ns = run.end_ns.min(now_ns);
                    run.dry = true;
                }
            }
        }
        self.pump_at_ns = 0;
        self.pump(ctx);
        self.finish_if_done(ctx);
    }

    /// The interval in progress is over: its sample goes to the conductor.
    fn boundary(&mut self, ctx: &mut DriverCtx) {
        let Some(run) = self.run else { return };
        let now_ns = self.shared.now_ns();
        if now_ns < run.boundary_ns || run.interval == u64::MAX {
            return;
        }
        let sample = self.take_sample(now_ns);
        self.work.tell(Told::Interval { number: run.interval, sample });
        let interval_ns = self.shared.plan.interval.as_nanos() as u64;
        let over = run.boundary_ns >= run.end_ns;
        // A worker that was held up reports the interval it missed as part of the one it is in.
        let mut interval = run.interval + 1;
        let mut boundary_ns = run.measure_ns + interval * interval_ns;
        while boundary_ns <= now_ns && boundary_ns < run.end_ns {
            interval += 1;
            boundary_ns = run.measure_ns + interval * interval_ns;
        }
        let boundary_ns = boundary_ns.min(run.end_ns);
        let interval = if over { u64::MAX } else { interval };
        self.run = Some(Run { interval, boundary_ns, ..run });
        if !over {
            ctx.timer_at(self.instant(boundary_ns), TIMER_BOUNDARY);
        }
    }

    fn take_sample(&mut self, now_ns: u64) -> Box<Sample> {
        let commands = self.shared.roster.verbs.len();
        let mut sample = Box::new(std::mem::replace(&mut self.work.sample, Sample::new(commands)));
        sample.connections = self.conns.iter().filter(|c| c.state == State::Up).count() as u64;
        sample.in_flight = self.work.in_flight;
        sample.backlog =
            self.source.backlog(now_ns) + u64::from(self.held.is_some() && self.work.open_loop);
        let (before, after) = (self.clock, clock(now_ns));
        let wall_ns = after.0.saturating_sub(before.0).max(1);
        let (cpu_ns, wait_ns) =
            (after.1.saturating_sub(before.1), after.2.saturating_sub(before.2));
        sample.add(All::CpuNs, cpu_ns);
        sample.add(All::WaitNs, wait_ns);
        sample.busiest_permille = (cpu_ns.saturating_mul(1000) / wall_ns).min(1000);
        self.clock = after;
        sample
    }

    fn finish_if_done(&mut self, ctx: &mut DriverCtx) {
        let Some(run) = self.run else { return };
        let now_ns = self.shared.now_ns();
        let ended = now_ns >= run.end_ns || (run.dry && self.held.is_none());
        let again = matches!(&self.source, Source::Prefill { again, .. } if !again.is_empty());
        if run.dry && again {
            self.run = Some(Run { dry: false, ..run });
            return;
        }
        let drained = self.work.in_flight == 0
            && self.work.redirects.is_empty()
            && self.conns.iter().all(|c| c.follow.is_empty());
        if !ended || !drained {
            return;
        }
        self.count_unsent(&run, now_ns);
        self.work.publish_confirmed();
        self.work.prefilling = false;
        self.source = Source::Idle;
        self.run = None;
        let sample = self.take_sample(now_ns);
        self.work.tell(Told::Done { sample });
        let _ = ctx;
    }

    /// What was due and never sent waited to the end: its age is the least its latency can be.
    fn count_unsent(&mut self, run: &Run, now_ns: u64) {
        let end_ns = run.end_ns.min(now_ns);
        let mut unsent = Vec::new();
        if self.work.open_loop {
            unsent.extend(self.held.take().map(|r| r.intended_ns));
            self.source.overdue(end_ns, |intended_ns| unsent.push(intended_ns));
        }
        // Counted under the first command: which it would have been was never drawn.
        let command = &mut self.work.sample.commands[0];
        for intended_ns in unsent.into_iter().filter(|at| *at >= run.measure_ns) {
            command.add(Of::Unsent, 1);
            command.latency.record(end_ns.saturating_sub(intended_ns));
        }
    }

    /// Closes connections whose oldest request, or greeting, is over its time.
    fn scan(&mut self, ctx: &mut DriverCtx) {
        let plan = &self.shared.plan;
        let (timeout, connect_timeout) = (plan.request_timeout, plan.connect_timeout);
        let timeout_ns = timeout.as_nanos() as u64;
        let now_ns = self.shared.now_ns();
        for number in 0..self.conns.len() {
            let conn = &self.conns[number];
            let since_ns = match conn.state {
                State::Greeting | State::Securing => Some(conn.since_ns),
                _ => conn.pending.peek().map(|p| p.sent_ns),
            };
            if since_ns.is_some_and(|since| now_ns.saturating_sub(since) >= timeout_ns) {
                let name = &plan_name(&self.shared, conn.endpoint);
                self.last_failure = format!("{name}: no answer within {timeout:?}");
                let text = self.last_failure.clone();
                self.work.trouble(|| text);
                self.fail(ctx, number as u32, now_ns);
            }
        }
        let all_down =
            self.conns.iter().all(|c| matches!(c.state, State::Down | State::Connecting));
        self.down_since_ns = all_down.then(|| self.down_since_ns.unwrap_or(now_ns));
        let never = self.shared.plan.reconnect == Reconnect::Never
            && self.conns.iter().all(|c| c.state == State::Down);
        if let Some(since) = self.down_since_ns
            && (never || now_ns - since > connect_timeout.as_nanos() as u64)
            && self.run.is_some()
            && self.told_ready
        {
            self.down_since_ns = None;
            self.work
                .tell(Told::Abandoned(format!("no connection is left: {}", self.last_failure)));
        }
        ctx.timer_after(scan_every(timeout), TIMER_SCAN);
        self.finish_if_done(ctx);
    }
}

fn plan_name(shared: &SharedRef, endpoint: u16) -> String {
    shared.plan.endpoints[endpoint as usize].name.clone()
}

fn scan_every(timeout: Duration) -> Duration {
    (timeout / SCANS_PER_TIMEOUT).clamp(Duration::from_millis(1), Duration::from_millis(100))
}

fn is_counter(verb: Verb) -> bool {
    matches!(verb, Verb::Incr | Verb::CounterInit)
}

/// The time, this thread's time on a processor, and its time waiting for one.
fn clock(now_ns: u64) -> (u64, u64, u64) {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(|n| n.parse().unwrap_or(0));
    (now_ns, numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

impl<C: Codec> EventHandler for Worker<C> {
    fn on_start(&mut self, ctx: &mut DriverCtx) {
        for number in 0..self.conns.len() {
            self.connect(ctx, number as u32);
        }
        ctx.timer_after(scan_every(self.shared.plan.request_timeout), TIMER_SCAN);
    }

    fn on_connect(&mut self, ctx: &mut DriverCtx, token: ConnToken, result: std::io::Result<()>) {
        let Some(number) = self.number_of(token) else { return };
        let conn = &mut self.conns[number as usize];
        if let Err(error) = result {
            let why = format!("connect to {}: {error}", plan_name(&self.shared, conn.endpoint));
            self.connect_failed(ctx, number, why);
            return;
        }
        conn.since_ns = self.shared.now_ns();
        match self.channel(number) {
            Ok(Some(channel)) => {
                let ready = channel.is_ready();
                let conn = &mut self.conns[number as usize];
                conn.channel = Some(Box::new(channel));
                conn.state = State::Securing;
                self.say(ctx, number, token);
                if ready {
                    self.greet(ctx, number, token);
                }
                return;
            }
            Ok(None) => {}
            Err(why) => return self.lost(ctx, number, &why),
        }
        if self.shared.plan.timestamps == Timestamps::Kernel
            && let Err(error) = self.stamp(ctx, number, token)
        {
            return self.lost(ctx, number, &format!("no kernel timestamps: {error}"));
        }
        self.greet(ctx, number, token);
    }

    fn on_data(&mut self, ctx: &mut DriverCtx, token: ConnToken, data: &[u8]) -> Consumed {
        let Some(number) = self.number_of(token) else { return Consumed::Bytes(data.len()) };
        let now_ns = self.shared.now_ns();
        if self.conns[number as usize].channel.is_some() {
            self.on_sealed(ctx, number, token, data, now_ns);
            return Consumed::Bytes(data.len());
        }
        let conn = &mut self.conns[number as usize];
        if let Some(stamps) = &mut conn.stamps
            && let Some(socket) = ctx.descriptor(token)
        {
            stamps.collect(socket);
            conn.received = ctx.received_at();
        }
        match self.on_plain(ctx, number, token, data, now_ns) {
            Ok(used) => Consumed::Bytes(used),
            Err(()) => Consumed::Bytes(data.len()),
        }
    }

    fn on_sweep(&mut self, ctx: &mut DriverCtx) {
        if self.run.is_none() {
            return;
        }
        self.work.publish_confirmed();
        self.pump(ctx);
        self.finish_if_done(ctx);
    }

    fn on_half_close(&mut self, ctx: &mut DriverCtx, token: ConnToken) {
        if let Some(number) = self.number_of(token) {
            self.lost(ctx, number, "the server closed the connection");
        } else {
            ctx.close(token);
        }
    }

    fn on_close(&mut self, ctx: &mut DriverCtx, token: ConnToken, reason: CloseReason) {
        let Some(number) = self.number_of(token) else { return };
        if self.conns[number as usize].state == State::Connecting {
            let why = format!(
                "connect to {}: {reason:?}",
                plan_name(&self.shared, self.conns[number as usize].endpoint)
            );
            self.connect_failed(ctx, number, why);
            return;
        }
        match reason {
            CloseReason::Failed { errno } => {
                let error = std::io::Error::from_raw_os_error(errno);
                self.lost(ctx, number, &format!("the connection broke: {error}"));
            }
            _ => self.lost(ctx, number, "the server closed the connection"),
        }
    }

    fn on_timer(&mut self, ctx: &mut DriverCtx, token: u64) {
        match token {
            // `on_sweep` follows and pumps.
            TIMER_PUMP => self.pump_at_ns = 0,
            TIMER_BOUNDARY => self.boundary(ctx),
            TIMER_SCAN => self.scan(ctx),
            reconnect => {
                let number = (reconnect & 0xffff_ffff) as u32;
                if self.conns[number as usize].state == State::Down {
                    self.connect(ctx, number);
                }
            }
        }
    }

    fn on_notify(&mut self, ctx: &mut DriverCtx, _value: u64) {
        let (_, task) = *self.shared.task.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.begin(ctx, task);
    }
}
