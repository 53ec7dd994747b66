//! The protocol as the SDK drives it.
//!
//! Wiring only: bytes go to the session, done commands to the rooms that write replies. Must hold:
//! each ticket is answered by exactly one room.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crucible_plugin_api::{
    After, Capabilities, CloseReason, CommandInfo, ConnInfo, Env, Event, Flow, KeyEvent, Op,
    OpCode, Out, Parsed, PluginError, Protocol, Queue, Service, Status, WorkerCtx,
};

use crate::auth::{self, Auth};
use crate::counters::{Count, Counters, Register};
use crate::dump;
use crate::line::Split;
use crate::reply_binary;
use crate::reply_meta;
use crate::reply_text::{self, line, line_unless};
use crate::session::{Session, State};
use crate::settings::Settings;
use crate::stats;
use crate::ticket::{Binary, Ticket};
use crate::watch::{Feed, Hub, Told, Wanted, Watchers};

/// The memcache protocol.
#[derive(Debug)]
pub struct Memcache {
    /// As configured.
    pub settings: Settings,
    /// All workers' counters.
    pub counters: Register,
    hub: Hub,
    connections: Mutex<BTreeMap<u64, ConnRow>>,
}

/// A row of `stats conns`. Unix sockets have no addresses.
#[derive(Clone, Copy, Debug)]
pub struct ConnRow {
    /// The peer's address.
    pub peer: Option<SocketAddr>,
    /// Ours.
    pub local: Option<SocketAddr>,
}

/// One worker's state.
#[derive(Debug)]
pub struct Worker {
    /// What this worker counts.
    pub counters: Arc<Counters>,
    /// For keys that are decoded.
    pub scratch: Vec<u8>,
    watchers: Watchers,
    env: Env,
    ctx: WorkerCtx,
}

/// What a wake-up for log lines is called.
const WATCH_TOKEN: u64 = 1;

impl Memcache {
    /// The longest value taken: ours or the backend's limit.
    pub fn value_len_max(&self, service: &Service) -> u64 {
        self.settings.value_len_bytes_max.min(service.capabilities().value_len_max)
    }

    /// The longest data block of a command; one that cannot stream is gathered, so it has its own limit.
    pub fn block_len_max(&self, streams: bool, service: &Service) -> u64 {
        let gathered = if streams { u64::MAX } else { self.settings.gathered_len_bytes_max };
        self.value_len_max(service).min(gathered)
    }

    /// How many watch.
    pub fn watchers(&self) -> u32 {
        self.hub.watchers()
    }

    /// Visits the open connections.
    pub fn each_connection(&self, mut visit: impl FnMut(u64, &ConnRow)) {
        let rows = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        rows.iter().for_each(|(id, row)| visit(*id, row));
    }

    fn feed<'f>(&'f self, worker: &'f Worker) -> Feed<'f> {
        Feed {
            hub: &self.hub,
            env: &worker.env,
            now_ms: worker.ctx.now_ms(),
            queue_bytes_max: self.settings.watch_queue_bytes_max,
            token: WATCH_TOKEN,
        }
    }

    fn tell_connection(&self, worker: &Worker, what: &str, session: &Session) {
        if self.hub.watchers() == 0 {
            return;
        }
        let peer = match session.peer {
            Some(peer) => format!("rip={} rport={}", peer.ip(), peer.port()),
            None => "rip=unix rport=0".to_owned(),
        };
        let told = self.hub.tell_connection(self.feed(worker), what, &peer, session.conn_id);
        worker.told(told);
    }

    fn stats_text(&self, service: &Service, args: &[u8], out: &mut Out<'_>) {
        let split = Split::<8>::new(args);
        if let [b"cachedump", rest @ ..] = split.get() {
            if !self.settings.dump_enabled {
                return line(out, "CLIENT_ERROR stats cachedump not allowed");
            }
            return dump::cachedump(rest, service, out);
        }
        let outcome = stats::write(self, service, args, &mut |name, value| {
            let _never_fails = write!(out, "STAT {name} {value}\r\n");
        });
        match outcome {
            stats::Outcome::Rows => line(out, "END"),
            stats::Outcome::Line(text) => line(out, text),
            stats::Outcome::Unknown => line(out, "ERROR"),
        }
    }

    fn stats_binary(&self, service: &Service, to: &Binary, args: &[u8], out: &mut Out<'_>) {
        let outcome = stats::write(self, service, args, &mut |name, value| {
            reply_binary::stat(to, name, value, out);
        });
        match outcome {
            stats::Outcome::Rows | stats::Outcome::Line("RESET" | "OK" | "END") => {
                reply_binary::stat(to, "", "", out);
            }
            _ => reply_binary::error(to, crate::binary::Status::KeyNotFound, out),
        }
    }

    /// Makes the connection a watcher.
    ///
    /// # Errors
    /// The line to answer instead.
    pub fn watch(
        &self,
        worker: &mut Worker,
        session: &mut Session,
        args: &[u8],
    ) -> Result<(), &'static str> {
        if self.settings.watchers_max == 0 {
            return Err("CLIENT_ERROR watch commands not allowed");
        }
        let wanted = Wanted::parse(args).ok_or("ERROR")?;
        if !worker.watchers.add(&self.hub, session.conn_id, wanted, self.settings.watchers_max) {
            return Err("WATCHER_TOO_MANY log watcher limit reached");
        }
        session.watching = true;
        Ok(())
    }

    fn dump_slice(session: &mut Session, service: &Service, out: &mut Out<'_>) -> After {
        let State::Dump(dump) = &mut session.state else { return After::Done };
        if dump.slice(service, out) {
            session.state = State::Skip;
            if session.ending {
                return After::Close;
            }
        }
        After::Done
    }
}

impl Worker {
    fn told(&self, told: Told) {
        if told.sent > 0 {
            self.counters.add(Count::log_watcher_sent, told.sent);
        }
        if told.skipped > 0 {
            self.counters.add(Count::log_watcher_skipped, told.skipped);
        }
    }
}

impl Protocol for Memcache {
    type Settings = Settings;
    type Worker = Worker;
    type Session = Session;
    type Ticket = Ticket;

    fn create(settings: Settings, _: &Env) -> Result<Self, PluginError> {
        settings.check()?;
        Ok(Self {
            settings,
            counters: Register::default(),
            hub: Hub::default(),
            connections: Mutex::default(),
        })
    }

    fn check(settings: &Settings, backend: &Capabilities) -> Result<(), PluginError> {
        settings.check()?;
        for (bit, what) in [
            (Capabilities::CAS, "CAS tokens"),
            (Capabilities::FLAGS, "client flags"),
            (Capabilities::TTL, "expiry"),
        ] {
            if !backend.has(bit) {
                return Err(PluginError::setting(
                    "backend",
                    format!("memcache needs a backend with {what}"),
                ));
            }
        }
        Ok(())
    }

    fn commands() -> Vec<CommandInfo> {
        let row = |names: &str, needs_caps: u64, needs_op: OpCode| {
            let infos = names.split(' ').map(|name| CommandInfo {
                name: name.into(),
                needs_caps,
                needs_op,
            });
            infos.collect::<Vec<_>>()
        };
        [
            row("get gets gat gats mg", 0, OpCode::GET),
            row("set add replace cas ms", 0, OpCode::STORE),
            row("append", 0, OpCode::APPEND),
            row("prepend", 0, OpCode::PREPEND),
            row("incr decr ma", 0, OpCode::MODIFY),
            row("delete md", 0, OpCode::DELETE),
            row("touch", 0, OpCode::TOUCH),
            row("me", 0, OpCode::META),
            row("lru_crawler", Capabilities::SCAN, OpCode::NOP),
            row("cache_memlimit", Capabilities::MEM_RESIZE, OpCode::NOP),
            row("mn flush_all version verbosity quit shutdown stats watch slabs", 0, OpCode::NOP),
        ]
        .concat()
    }

    fn worker(&self, service: &Service) -> Worker {
        Worker {
            counters: self.counters.worker(),
            scratch: Vec::new(),
            watchers: Watchers::default(),
            env: service.env().clone(),
            ctx: service.ctx().clone(),
        }
    }

    fn open(
        &self,
        worker: &mut Worker,
        conn: &ConnInfo<'_>,
        service: &Service,
        _: &mut Out<'_>,
    ) -> Session {
        let auth: Auth = auth::at_open(service.env(), conn.listener);
        let session = Session::new(conn, auth, self.settings.encodings);
        let row = ConnRow { peer: conn.peer, local: conn.local };
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).insert(conn.id, row);
        self.tell_connection(worker, "conn_new", &session);
        session
    }

    #[inline]
    fn parse<'a>(
        &self,
        worker: &mut Worker,
        session: &mut Session,
        input: &'a [u8],
        queue: &mut Queue<'a, Ticket>,
    ) -> Parsed {
        session.parse(self, worker, input, queue)
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
        let counters = &*worker.counters;
        // Which tickets come with operations, the `serve` rooms decide.
        let args = || ops.first().map_or(&[][..], Op::val);
        match (ticket, ops.first()) {
            (Ticket::Value(value), op) => reply_text::value(counters, session, value, op, out),
            (Ticket::Line(text), _) => line(out, text),
            (Ticket::Store { verb, noreply }, Some(op)) => {
                reply_text::store(counters, verb, noreply, op, out);
            }
            (Ticket::TooLarge(to), _) => reply_text::too_large(counters, to, out),
            (Ticket::BadChunk { noreply }, _) => {
                line_unless(out, noreply, "CLIENT_ERROR bad data chunk");
            }
            (Ticket::Delete { noreply }, Some(op)) => {
                reply_text::delete(counters, noreply, op, out)
            }
            (Ticket::Arithmetic { decrement, noreply }, Some(op)) => {
                reply_text::arithmetic(counters, decrement, noreply, op, out);
            }
            (Ticket::Touch { noreply }, Some(op)) => reply_text::touch(counters, noreply, op, out),
            (Ticket::Meta(meta), _) => reply_meta::reply(counters, &meta, queue.now_ms(), ops, out),
            (Ticket::Binary(to), op) => {
                reply_binary::reply(counters, &to, &self.settings.version, op, out);
            }
            (Ticket::BinaryStatus(to, status), _) => reply_binary::known(&to, status, out),
            (Ticket::Version, _) => {
                let _never_fails = write!(out, "VERSION {}\r\n", self.settings.version);
            }
            (Ticket::Flush { delay_ms, answer }, _) => {
                reply_text::answer(answer, queue.service().flush(delay_ms), out);
            }
            (Ticket::Stats, _) => self.stats_text(queue.service(), args(), out),
            (Ticket::StatsBinary(to), _) => self.stats_binary(queue.service(), &to, args(), out),
            (Ticket::WatchLines, _) => {
                if !worker.watchers.take(&self.hub, session.conn_id, |bytes| out.bytes(bytes)) {
                    return After::Wait;
                }
            }
            (Ticket::DumpSlice, _) => return Self::dump_slice(session, queue.service(), out),
            (Ticket::MemoryLimit { mib, noreply }, _) => {
                let status = queue.service().set_memory_limit(u64::from(mib) << 20);
                let text = if status == Status::OK {
                    "OK"
                } else {
                    "MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust"
                };
                line_unless(out, noreply, text);
            }
            (Ticket::Shutdown, _) => {
                worker.env.shutdown();
                return After::Close;
            }
            (
                Ticket::Store { .. }
                | Ticket::Delete { .. }
                | Ticket::Arithmetic { .. }
                | Ticket::Touch { .. },
                None,
            ) => {
                debug_assert!(false, "a write without an operation");
                line(out, reply_text::failure(Status::INTERNAL));
            }
        }
        After::Done
    }

    fn event<'a>(
        &self,
        _: &mut Worker,
        session: &mut Session,
        event: Event,
        _: &mut Out<'_>,
        _: &mut Queue<'a, Ticket>,
    ) -> Flow {
        match event {
            Event::HalfClose if session.watching => Flow::CloseNow,
            Event::HalfClose if matches!(session.state, State::Dump(_)) => {
                session.ending = true;
                Flow::Continue
            }
            Event::HalfClose | Event::Drain => Flow::Close,
            Event::Wake(WATCH_TOKEN) if session.watching => Flow::Resume,
            Event::Wake(_) | Event::Timer(_) => Flow::Continue,
        }
    }

    fn close(&self, worker: &mut Worker, session: Session, _: CloseReason) {
        if session.watching {
            worker.watchers.remove(&self.hub, session.conn_id);
        }
        self.tell_connection(worker, "conn_close", &session);
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).remove(&session.conn_id);
    }

    fn event_kinds(&self) -> u32 {
        self.hub.event_kinds()
    }

    fn key_events(&self, worker: &mut Worker, events: &[KeyEvent<'_>]) {
        let mut watchers = std::mem::take(&mut worker.watchers);
        let told = watchers.tell_keys(self.feed(worker), events);
        worker.watchers = watchers;
        worker.told(told);
    }

    fn refusal(why: CloseReason) -> Vec<u8> {
        if why == CloseReason::TOO_MANY_CONNECTIONS {
            b"ERROR Too many open connections\r\n".to_vec()
        } else {
            Vec::new()
        }
    }
}
