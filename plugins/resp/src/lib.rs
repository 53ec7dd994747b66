//! The RESP protocol: every Redis client connects unchanged.
//!
//! ```text
//!  bytes ─> frame ─> table (which command, arity) ─> gate (may it run now?) ─> exec (operations)
//!  bytes <─ write <─ reply (one ticket per command, in order) <──────────────── the store
//! ```
//! [`frame`] cuts bytes into commands, [`table`] knows every command, [`gate`] stops what the
//! connection's mode forbids, [`exec`] says what the store has to do, [`reply`] answers, [`hub`] is
//! what all workers share, [`value`] computes on bytes, [`structs`] serves hashes, lists and sets. This file is the wiring.
#![deny(unsafe_code)]

pub mod barred;
pub mod cluster;
pub mod error;
pub mod exec;
pub mod frame;
pub mod gate;
pub mod glob;
pub mod hub;
pub mod number;
pub mod options;
pub mod rdb;
pub mod reply;
pub mod session;
pub mod settings;
pub mod structs;
pub mod table;
pub mod ticket;
pub mod timing;
pub mod value;
pub mod worker;
pub mod write;

use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crucible_plugin_api::{
    After, Capabilities, CloseReason, CommandInfo, ConnInfo, Env, Event, Flow, KeyEvent,
    KeyEventKind, Next as Go, Op, OpCode, Out, Parsed, PluginError, Protocol, Queue, Service,
    Status,
};

use crate::barred::Barred;
use crate::cluster::Cluster;
use crate::error::Refusal;
use crate::exec::{Pushed, streams};
use crate::frame::plain::{self, Plain};
use crate::frame::{Args, Limits, Next, Parser, Span};
use crate::gate::{Gate, runs_now};
use crate::hub::Hub;
use crate::hub::clients::Message;
use crate::hub::stats::WorkerStats;
use crate::hub::waiting::{WAKE_READY, WAKE_UNBLOCK, WAKE_UNBLOCK_ERROR};
use crate::reply::Cx;
use crate::session::{Session, mode};
use crate::settings::Settings;
use crate::structs::blocking::{self, Nudge};
use crate::table::{Cmd, Need, arity_fits, flag};
use crate::ticket::Ticket;
use crate::timing::{TIMED_EVERY, Timing};
use crate::worker::Worker;
use crate::write::{SHORT_LEN_BYTES_MAX, Version, Writer};

/// Shortest unfinished command whose parser is kept; a shorter one is cheaper to read again.
const PARTIAL_LEN_BYTES_MIN: usize = 4096;

/// Shortest `stream_len_bytes_min`: below it a copy is cheaper.
const STREAM_LEN_BYTES_MIN_LEAST: u32 = 16 << 10;

/// The protocol.
#[derive(Debug)]
pub struct Resp {
    /// The settings, checked.
    pub settings: Settings,
    /// The cluster, if this is a node of one.
    pub cluster: Option<Cluster>,
    /// What all workers share.
    pub hub: Hub,
    /// Forty hexadecimal digits that differ from start to start.
    pub run_id: String,
    served: OnceLock<Vec<Cmd>>,
    barred: Barred,
    /// Plain GETs and SETs need no second look.
    plain: bool,
}

impl Resp {
    /// Commands that this backend and these settings allow.
    pub fn served(&self) -> &[Cmd] {
        self.served.get().map_or(&[], Vec::as_slice)
    }

    /// Whether clients of a listener have to authenticate.
    pub fn needs_login(&self, listener: u32) -> bool {
        self.hub.env.authenticate(listener, b"", b"").is_some()
    }

    fn limits(&self, session: &Session) -> Limits {
        Limits {
            array_len_max: i64::from(self.settings.array_len_max),
            bulk_len_bytes_max: i64::from(self.settings.bulk_len_bytes_max),
            unauthenticated: session.is(mode::UNAUTHENTICATED),
        }
    }

    /// Takes commands until the input ends, the round is full, or one has to be awaited.
    #[inline]
    fn commands<'a>(
        &self,
        parser: &mut Parser,
        worker: &mut Worker,
        session: &mut Session,
        input: &'a [u8],
        queue: &mut Queue<'a, Ticket>,
    ) -> Parsed {
        let limits = self.limits(session);
        let plain = self.is_plain(session);
        let mut consumed = 0;
        loop {
            if plain && !parser.is_partial() {
                consumed += self.plain(worker, &input[consumed..], queue);
                if queue.should_stop() {
                    return Parsed::stopped(consumed);
                }
                if consumed == input.len() {
                    return Parsed::more(consumed);
                }
            }
            let rest = &input[consumed..];
            match parser.next(rest, &limits) {
                Ok(Next::Command { consumed: len }) => {
                    let bytes = match parser.line() {
                        None => rest,
                        Some(line) => queue.copy(line),
                    };
                    let args = Args::new(bytes, parser.spans());
                    if session.is(mode::STREAM) {
                        let stats = self.hub.stats.of(worker.id);
                        match streams::finish(session, args, queue) {
                            Ok(command) => stats.called(command),
                            Err(command) => stats.rejected(command),
                        }
                    } else {
                        match self.command(worker, session, args, queue) {
                            Gate::Run | Gate::Done => {}
                            Gate::Wait => return Parsed::stopped(consumed),
                            Gate::Alone => return Parsed::with(consumed, Go::Exclusive),
                        }
                    }
                    consumed += len;
                    if queue.should_stop() {
                        return Parsed::stopped(consumed);
                    }
                }
                Ok(Next::Empty { consumed: len }) => consumed += len,
                Ok(Next::Partial { need_bytes, pending }) => {
                    if rest.is_empty() {
                        return Parsed::more(consumed);
                    }
                    // While somebody monitors or pauses, values are gathered: the gate must see
                    // the whole command.
                    let watched = self.hub.attention.load(Ordering::Relaxed) != 0;
                    if let Some(pending) = pending.filter(|_| !session.is(mode::STREAM) && !watched)
                        && let args = Args::new(rest, parser.spans())
                        && (args.is_empty() || !self.barred.bars(args.at(0)))
                    {
                        let least = self.settings.stream_len_bytes_min as usize;
                        let start = consumed + pending.start;
                        let begun = streams::begin(session, args, pending, start, least, queue);
                        if let Some(parsed) = begun {
                            parser.after_body(pending.more);
                            return parsed;
                        }
                    }
                    if need_bytes > self.settings.request_len_bytes_max as usize {
                        let text = "ERR Protocol error: request exceeds client-query-buffer-limit";
                        queue.end(Ticket::Error(text.into()));
                        return Parsed::with(input.len(), Go::Close);
                    }
                    return Parsed::more(consumed);
                }
                Err(error) => {
                    queue.drop_body();
                    queue.end(Ticket::Error(format!("ERR {error}").into()));
                    return Parsed::with(input.len(), Go::Close);
                }
            }
        }
    }

    /// Whether nothing stands between a command of this connection and the store.
    #[inline]
    fn is_plain(&self, session: &Session) -> bool {
        session.mode == 0 && self.hub.attention.load(Ordering::Relaxed) == 0 && self.plain
    }

    /// Takes plain GETs and SETs from the start of `input`, as long as there are any and the round
    /// has room; returns how many bytes they were.
    #[inline]
    fn plain<'a>(
        &self,
        worker: &mut Worker,
        input: &'a [u8],
        queue: &mut Queue<'a, Ticket>,
    ) -> usize {
        let (mut consumed, mut gets, mut sets) = (0, 0, 0);
        while let Some((request, len)) = plain::read(&input[consumed..]) {
            consumed += len;
            match request {
                Plain::Get { key } => {
                    gets += 1;
                    worker.latest = Cmd::Get as u8;
                    queue.command(Op::get(key), Ticket::Value);
                }
                Plain::Set { key, value } => {
                    sets += 1;
                    worker.latest = Cmd::Set as u8;
                    queue.command(Op::store(key, value), Ticket::Stored);
                }
            }
            if queue.should_stop() {
                break;
            }
        }
        for (command, n) in [(Cmd::Get, gets), (Cmd::Set, sets)] {
            if n > 0 {
                self.hub.stats.of(worker.id).called_times(command, n);
            }
        }
        consumed
    }

    /// Looks a command up, and pushes its operations if nothing forbids it.
    #[inline]
    fn command<'a>(
        &self,
        worker: &mut Worker,
        session: &mut Session,
        args: Args<'a, '_>,
        queue: &mut Queue<'a, Ticket>,
    ) -> Gate {
        let name = args.at(0);
        let own = Cmd::find(name).filter(|command| !self.barred.has(*command));
        let Some(command) = own.or_else(|| self.barred.renamed(name)) else {
            let refusal = Refusal::unknown_command(args.at(0), args.from(1));
            self.refuse(session, &refusal, queue);
            return Gate::Done;
        };
        worker.latest = command as u8;
        let spec = command.spec();
        if !arity_fits(spec.arity, args.len()) {
            self.hub.stats.of(worker.id).rejected(command);
            self.refuse(session, &Refusal::Arity(spec.name.to_owned()), queue);
            return Gate::Done;
        }
        if spec.is(flag::ISOLATED) && !queue.is_exclusive() && runs_now(command, session) {
            return Gate::Alone;
        }
        if session.mode != 0 || self.hub.attention.load(Ordering::Relaxed) != 0 {
            match self.gate(command, worker, session, args, queue) {
                Gate::Run => {}
                stop => return stop,
            }
        }
        self.push(worker, command, args, queue);
        Gate::Done
    }

    #[inline]
    fn push<'a>(
        &self,
        worker: &Worker,
        command: Cmd,
        args: Args<'a, '_>,
        queue: &mut Queue<'a, Ticket>,
    ) {
        let stats = self.hub.stats.of(worker.id);
        pushed(stats, command, exec::push(command, args, queue), queue);
    }

    /// Pushes a command of a running transaction; true when it takes several steps.
    pub(crate) fn push_owned<'a>(
        &self,
        worker: &Worker,
        command: Cmd,
        words: &[Vec<u8>],
        queue: &mut Queue<'a, Ticket>,
    ) -> bool {
        let bytes = queue.copy(&words.concat());
        let mut start = 0;
        let mut spans = Vec::with_capacity(words.len());
        for word in words {
            spans.push(Span { start, len: word.len() as u32 });
            start += word.len() as u32;
        }
        let args = Args::new(bytes, &spans);
        let waits = command.spec().is(flag::BLOCKING);
        let outcome = match waits {
            true => exec::push_at_once(command, args, queue),
            false => exec::push(command, args, queue),
        };
        let accepted = pushed(self.hub.stats.of(worker.id), command, outcome, queue);
        let in_steps = matches!(
            command,
            Cmd::Msetnx
                | Cmd::Msetex
                | Cmd::Rename
                | Cmd::Renamenx
                | Cmd::Copy
                | Cmd::Bitop
                | Cmd::Sort
                | Cmd::SortRo
        );
        // A command that was refused has its one reply already.
        accepted && (waits || in_steps)
    }

    /// Refuses a command before it runs; an open transaction is spoilt by it.
    fn refuse(&self, session: &mut Session, refusal: &Refusal, queue: &mut Queue<'_, Ticket>) {
        if session.is(mode::MULTI) {
            session.rare().transaction.aborted = true;
        }
        queue.end(Ticket::Error(refusal.to_string().into()));
    }
}

/// Counts a command, and answers one that was refused; whether it was accepted.
#[inline]
fn pushed(
    stats: &WorkerStats,
    command: Cmd,
    outcome: Pushed,
    queue: &mut Queue<'_, Ticket>,
) -> bool {
    stats.called(command);
    let Err(refusal) = outcome else { return true };
    stats.failed(command);
    queue.cancel();
    queue.end(Ticket::Error(refusal.to_string().into()));
    false
}

/// Whether a command is served with such a backend and settings.
fn is_served(command: Cmd, settings: &Settings, backend: &Capabilities) -> bool {
    match (command, command.spec().need) {
        (Cmd::Debug, _) => settings.debug_commands,
        (Cmd::Shutdown, _) => settings.shutdown_command,
        (_, Need::Nothing | Need::Store) => true,
        (_, Need::Modify) => backend.serves(OpCode::MODIFY),
        (_, Need::Scan) => backend.has(Capabilities::SCAN),
        (_, Need::Structure(kind)) => backend.has(kind.capability()),
        (_, Need::Absent(_)) => false,
    }
}

/// Digits that differ from start to start.
fn run_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    let word = |n: u64| RandomState::new().hash_one(n);
    format!("{:016x}{:016x}{:08x}", word(1), word(2), word(3) as u32)
}

impl Protocol for Resp {
    type Settings = Settings;
    type Worker = Worker;
    type Session = Session;
    type Ticket = Ticket;
    const TIMED_EVERY: u32 = TIMED_EVERY;

    fn create(settings: Settings, env: &Env) -> Result<Self, PluginError> {
        let cluster = settings
            .cluster
            .as_ref()
            .map(Cluster::new)
            .transpose()
            .map_err(|e| PluginError::setting("cluster", e))?;
        let hub = Hub::new(
            env.clone(),
            settings.mailbox_len_bytes_max as usize,
            settings.tracking_keys_max as usize,
        );
        let barred = Barred::new(&settings).map_err(|(key, e)| PluginError::setting(key, e))?;
        let plain = settings.bulk_len_bytes_max as usize >= plain::BULK_LEN_BYTES_MAX
            && !barred.has(Cmd::Get)
            && !barred.has(Cmd::Set);
        let served = OnceLock::new();
        Ok(Resp { cluster, hub, run_id: run_id(), served, barred, plain, settings })
    }

    fn check(settings: &Settings, _backend: &Capabilities) -> Result<(), PluginError> {
        let too_small = |name: &str, least: u32| {
            Err(PluginError::setting(name, format_args!("must be at least {least}")))
        };
        if settings.stream_len_bytes_min < STREAM_LEN_BYTES_MIN_LEAST {
            return too_small("stream_len_bytes_min", STREAM_LEN_BYTES_MIN_LEAST);
        }
        if settings.request_len_bytes_max < 1 << 20 {
            return too_small("request_len_bytes_max", 1 << 20);
        }
        if settings.array_len_max < 16 {
            return too_small("array_len_max", 16);
        }
        if settings.tracking_keys_max < 1 {
            return too_small("tracking_keys_max", 1);
        }
        Barred::new(settings).map_err(|(key, e)| PluginError::setting(key, e))?;
        if let Some(cluster) = &settings.cluster {
            Cluster::new(cluster).map_err(|e| PluginError::setting("cluster", e))?;
        }
        Ok(())
    }

    fn commands() -> Vec<CommandInfo> {
        let needs = |need| match need {
            Need::Nothing => Some((0, OpCode::NOP)),
            Need::Store => Some((0, OpCode::STORE)),
            Need::Modify => Some((0, OpCode::MODIFY)),
            Need::Scan => Some((Capabilities::SCAN, OpCode::NOP)),
            Need::Structure(kind) => Some((kind.capability(), OpCode::NOP)),
            Need::Absent(_) => None,
        };
        Cmd::all()
            .filter_map(|command| {
                let (needs_caps, needs_op) = needs(command.spec().need)?;
                let name = command.spec().name.to_ascii_uppercase();
                Some(CommandInfo { name, needs_caps, needs_op })
            })
            .collect()
    }

    fn worker(&self, service: &Service) -> Worker {
        let caps = service.capabilities();
        let _first = self.served.get_or_init(|| {
            let all = Cmd::all().filter(|c| !self.barred.has(*c));
            all.filter(|c| is_served(*c, &self.settings, caps)).collect()
        });
        let id = service.ctx().worker_id();
        Worker {
            id: id as usize,
            service: service.clone(),
            parser: None,
            latest: 0,
            random_cursor: 0,
            timing: Timing::default(),
            random_state: 0x9e37_79b9_7f4a_7c15 ^ service.ctx().now_ms() << 8 ^ u64::from(id),
        }
    }

    fn open(
        &self,
        _worker: &mut Worker,
        conn: &ConnInfo<'_>,
        service: &Service,
        _out: &mut Out<'_>,
    ) -> Session {
        let now_ms = service.ctx().now_ms();
        let client = self.hub.clients.open(conn.id, conn.listener, conn.peer, conn.local, now_ms);
        let mut bits = 0;
        if self.needs_login(conn.listener) {
            bits |= mode::UNAUTHENTICATED;
        }
        if self.cluster.is_some() {
            bits |= mode::CLUSTER;
        }
        Session {
            mode: bits,
            version: Version::Resp2,
            noted_s: 0,
            noted_command: u8::MAX,
            client,
            partial: None,
            rare: None,
        }
    }

    #[inline]
    fn parse<'a>(
        &self,
        worker: &mut Worker,
        session: &mut Session,
        input: &'a [u8],
        queue: &mut Queue<'a, Ticket>,
    ) -> Parsed {
        let mut consumed = 0;
        if session.partial.is_none() && self.is_plain(session) {
            consumed = self.plain(worker, input, queue);
        }
        let parsed = if queue.should_stop() {
            Parsed::stopped(consumed)
        } else if consumed == input.len() && consumed > 0 {
            Parsed::more(consumed)
        } else {
            let rest = self.other(worker, session, &input[consumed..], queue);
            Parsed { consumed: consumed + rest.consumed, ..rest }
        };
        session.note(queue.now_ms(), worker.latest);
        self.hub.stats.of(worker.id).read(parsed.consumed as u64);
        parsed
    }

    #[inline]
    fn reply<'a>(
        &self,
        worker: &mut Worker,
        session: &mut Session,
        ticket: Ticket,
        ops: &[Op<'a>],
        out: &mut Out<'_>,
        queue: &mut Queue<'a, Ticket>,
    ) -> After {
        const RARE: u32 = mode::REPLY_OFF | mode::REPLY_SKIP;
        // A value that was found is most of what there is to answer.
        if let (Ticket::Value, [op]) = (&ticket, ops)
            && op.status() == Status::OK
            && let Some(bytes) = op.value_bytes()
            && bytes.len() <= SHORT_LEN_BYTES_MAX
            && session.mode & RARE == 0
            && session.rare.is_none()
        {
            // It owns nothing: there is nothing to drop.
            std::mem::forget(ticket);
            let before = out.len();
            Writer::new(out, session.version).short(bytes);
            self.hub.stats.of(worker.id).answered_hit((out.len() - before) as u64);
            return After::Done;
        }
        self.reply_any(worker, session, ticket, ops, out, queue)
    }

    fn event<'a>(
        &self,
        _worker: &mut Worker,
        session: &mut Session,
        event: Event,
        out: &mut Out<'_>,
        queue: &mut Queue<'a, Ticket>,
    ) -> Flow {
        match event {
            Event::HalfClose | Event::Drain => Flow::Close,
            Event::Timer(token) if session.is_blocked() => {
                let mut w = Writer::new(out, session.version);
                blocking::nudge(self, session, Nudge::Timer(token), queue, &mut w)
            }
            Event::Timer(token) => {
                let Some(rare) = session.rare.as_mut().filter(|r| r.waits) else {
                    return Flow::Continue;
                };
                if rare.wait_token != token {
                    return Flow::Continue;
                }
                rare.waits = false;
                if let Some(reply) = rare.wait_reply.take() {
                    out.bytes(reply);
                }
                Flow::Resume
            }
            Event::Wake(token) => {
                let delivery = session.client.collect();
                for message in &delivery.messages {
                    if is_for(session, message) {
                        reply::pubsub::deliver(message, &mut Writer::new(out, session.version));
                    }
                }
                if delivery.close {
                    return Flow::CloseNow;
                }
                let nudge = match token {
                    WAKE_READY => Some(Nudge::Ready),
                    WAKE_UNBLOCK | WAKE_UNBLOCK_ERROR => {
                        Some(Nudge::Unblock(token == WAKE_UNBLOCK_ERROR))
                    }
                    _ => None,
                };
                if session.is_blocked() {
                    let Some(nudge) = nudge else { return Flow::Continue };
                    let mut w = Writer::new(out, session.version);
                    return blocking::nudge(self, session, nudge, queue, &mut w);
                }
                let now_ms = queue.now_ms();
                match &mut session.rare {
                    Some(rare) if rare.waits && rare.wait_reply.is_none() => {
                        if self.hub.paused(now_ms, true).is_some() {
                            return Flow::Continue;
                        }
                        rare.waits = false;
                        Flow::Resume
                    }
                    _ => Flow::Continue,
                }
            }
        }
    }

    fn close(&self, _worker: &mut Worker, mut session: Session, _why: CloseReason) {
        let id = session.client.id;
        blocking::leave(self, &mut session);
        if let Some(rare) = &mut session.rare {
            reply::pubsub::leave(&self.hub.pubsub, rare, id);
        }
        if session.is(mode::TRACKING) {
            self.hub.tracking.end(id);
        }
        if session.is(mode::MONITOR) {
            self.hub.monitor(&session.client, false);
        }
        self.hub.clients.close(id);
    }

    fn event_kinds(&self) -> u32 {
        let mut kinds = 0;
        if self.hub.waiting.was_used() {
            kinds |= KeyEventKind::GREW.0;
        }
        if self.hub.tracking.is_active() {
            kinds |= KeyEventKind::STORED.0
                | KeyEventKind::DELETED.0
                | KeyEventKind::EXPIRED.0
                | KeyEventKind::EVICTED.0
                | KeyEventKind::FLUSHED.0
                | KeyEventKind::TOUCHED.0;
        }
        kinds
    }

    fn timing_begins(&self, worker: &mut Worker) {
        let id = worker.id;
        worker.timing.begin(&self.hub, id);
    }

    fn timing_ends(&self, worker: &mut Worker, took: Duration) {
        let id = worker.id;
        worker.timing.end(&self.hub, id, took);
    }

    fn key_events(&self, worker: &mut Worker, events: &[KeyEvent<'_>]) {
        // Every worker hears of every event; tracked keys and lines are one table for all.
        if worker.id != 0 {
            return;
        }
        for event in events {
            if event.kind == KeyEventKind::GREW {
                self.hub.waiting.ready(&self.hub.env, event.key);
            } else if event.kind == KeyEventKind::FLUSHED {
                self.hub.tracking.flushed(&self.hub.clients);
            } else {
                self.hub.tracking.changed(&self.hub.clients, event.key, event.conn_id);
            }
        }
    }

    fn refusal(why: CloseReason) -> Vec<u8> {
        match why {
            CloseReason::TOO_MANY_CONNECTIONS => b"-ERR max number of clients reached\r\n".to_vec(),
            _ => Vec::new(),
        }
    }
}

/// Whether a connection takes such a message in its present version: RESP2 hears of invalidations
/// only on the channel it has subscribed to.
fn is_for(session: &Session, message: &Message) -> bool {
    match message {
        Message::Invalidate(_) if session.version == Version::Resp2 => session
            .rare
            .as_ref()
            .is_some_and(|rare| rare.channels.contains(reply::pubsub::INVALIDATE_CHANNEL)),
        _ => true,
    }
}

impl Resp {
    /// Parses with the parser: whatever is not a run of plain commands.
    #[inline(never)]
    fn other<'a>(
        &self,
        worker: &mut Worker,
        session: &mut Session,
        input: &'a [u8],
        queue: &mut Queue<'a, Ticket>,
    ) -> Parsed {
        let own = session.partial.take();
        let mut parser = own.or_else(|| worker.parser.take()).unwrap_or_default();
        let parsed = self.commands(&mut parser, worker, session, input, queue);
        let left = input.len() - parsed.consumed;
        let keep = session.is(mode::STREAM) || left >= PARTIAL_LEN_BYTES_MIN;
        if parser.is_partial() && keep && parsed.next != Go::Close {
            session.partial = Some(parser);
        } else {
            parser.forget();
            parser.shrink();
            worker.parser = Some(parser);
        }
        parsed
    }

    #[inline(never)]
    fn reply_any<'a>(
        &self,
        worker: &mut Worker,
        session: &mut Session,
        ticket: Ticket,
        ops: &[Op<'a>],
        out: &mut Out<'_>,
        queue: &mut Queue<'a, Ticket>,
    ) -> After {
        let version = session.version;
        if session.mode & (mode::REPLY_OFF | mode::REPLY_SKIP) != 0 || session.rare.is_some() {
            return self.reply_rare(worker, session, ticket, ops, out, queue);
        }
        let before = out.len();
        let id = worker.id;
        let mut cx = Cx { resp: self, worker, session, queue, followed_up: false };
        let after = reply::answer(&mut cx, ticket, ops, &mut Writer::new(out, version));
        self.hub.stats.of(id).wrote((out.len() - before) as u64);
        after
    }

    /// Answers on a connection in a rare mode: perhaps without a word, perhaps in a transaction.
    #[cold]
    fn reply_rare<'a>(
        &self,
        worker: &mut Worker,
        session: &mut Session,
        ticket: Ticket,
        ops: &[Op<'a>],
        out: &mut Out<'_>,
        queue: &mut Queue<'a, Ticket>,
    ) -> After {
        let (version, before) = (session.version, session.mode);
        let silent = before & (mode::REPLY_OFF | mode::REPLY_SKIP) != 0;
        let skips = before & mode::REPLY_SKIP != 0;
        let goes_on = ticket.ends_a_round() || skips || worker.is_async();
        let mut cx = Cx { resp: self, worker, session, queue, followed_up: false };
        let mut unheard = Vec::new();
        let after = if silent {
            reply::answer(&mut cx, ticket, ops, &mut Writer::new(&mut unheard, version))
        } else {
            reply::answer(&mut cx, ticket, ops, &mut Writer::new(out, version))
        };
        if goes_on && !cx.followed_up {
            reply::transaction::go_on(&mut cx);
        }
        let finished = !cx.followed_up;
        if before & mode::REPLY_OFF != 0 && !session.is(mode::REPLY_OFF) {
            // CLIENT REPLY ON is itself answered.
            out.bytes(&unheard);
        } else if skips && finished {
            session.set(mode::REPLY_SKIP, false);
        }
        after
    }
}
