//! The RESP protocol: every Redis client connects unchanged.
//!
//! ```text
//!  bytes ─> frame ─> table (which command, arity) ─> gate (may it run now?) ─> exec (operations)
//!  bytes <─ write <─ reply (one ticket per command, in order) <──────────────── the store
//! ```
//! [`frame`] cuts bytes into commands, [`table`] knows every command, [`gate`] stops what the
//! connection's mode forbids, [`exec`] says what the store has to do, [`reply`] answers, [`hub`] is
//! what all workers share, [`value`] computes on bytes, [`geo`] on places, [`structs`] serves hashes,
//! lists and sets.
//! `requests`, `answers` and `events` lead a connection through these rooms. This file is the wiring.
#![deny(unsafe_code)]

mod answers;
pub mod cluster;
pub mod error;
mod events;
pub mod exec;
pub mod frame;
pub mod gate;
pub mod geo;
pub mod glob;
pub mod hub;
pub mod names;
pub mod number;
pub mod options;
pub mod rdb;
pub mod reply;
mod requests;
pub mod session;
pub mod settings;
pub mod structs;
pub mod table;
pub mod ticket;
pub mod timing;
pub mod value;
pub mod watch;
pub mod worker;
pub mod write;

use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crucible_plugin_api::{
    After, Capabilities, CloseReason, CommandInfo, ConnInfo, Env, Event, Flow, KeyEvent, Op,
    OpCode, Out, Parsed, PluginError, Protocol, Queue, Service,
};

use crate::cluster::Cluster;
use crate::hub::{Hub, attention};
use crate::names::Names;
use crate::session::{Session, mode};
use crate::settings::Settings;
use crate::structs::direct;
use crate::table::{Cmd, Need};
use crate::ticket::Ticket;
use crate::timing::{TIMED_EVERY, Timing};
use crate::watch::Watch;
use crate::worker::Worker;
use crate::write::Version;

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
    /// Names that are not the table's.
    names: Option<Box<Names>>,
    served: OnceLock<Vec<Cmd>>,
}

impl Resp {
    /// Commands that this backend and these settings allow.
    pub fn served(&self) -> &[Cmd] {
        self.served.get().map_or(&[], Vec::as_slice)
    }

    /// The command that clients of this listener call so, letters of either case.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<Cmd> {
        match &self.names {
            None => Cmd::find(name),
            Some(names) => names.find(name),
        }
    }

    /// Whether a command is served with such a backend.
    fn serves(&self, command: Cmd, backend: &Capabilities) -> bool {
        if self.names.as_ref().is_some_and(|names| names.is_disabled(command)) {
            return false;
        }
        match (command, command.spec().need) {
            (Cmd::Debug, _) => self.settings.debug_commands,
            (Cmd::Shutdown, _) => self.settings.shutdown_command,
            (_, Need::Nothing | Need::Store) => true,
            (_, Need::Modify) => backend.serves(OpCode::MODIFY),
            (_, Need::Scan) => backend.has(Capabilities::SCAN),
            (_, Need::Structure(kind)) => backend.has(kind.capability()),
            (_, Need::Absent(_)) => false,
        }
    }

    /// Whether clients of a listener have to authenticate.
    pub fn needs_login(&self, listener: u32) -> bool {
        self.hub.env.authenticate(listener, b"", b"").is_some()
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
        let hub = Hub::new(env.clone(), &settings);
        let names = Names::new(&settings).map_err(|(key, why)| PluginError::setting(key, why))?;
        if names.as_ref().is_some_and(|n| !n.is_plain(Cmd::Get) || !n.is_plain(Cmd::Set)) {
            hub.attention.fetch_or(attention::NAMES, Ordering::Relaxed);
        }
        let (names, served) = (names.map(Box::new), OnceLock::new());
        Ok(Resp { cluster, hub, run_id: run_id(), names, served, settings })
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
        Names::new(settings).map_err(|(key, why)| PluginError::setting(key, why))?;
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
        let _first =
            self.served.get_or_init(|| Cmd::all().filter(|c| self.serves(*c, caps)).collect());
        let id = service.ctx().worker_id();
        Worker {
            id: id as usize,
            service: service.clone(),
            has_short_way: self.names.is_none() && direct::are_served(caps),
            parser: None,
            latest: 0,
            random_cursor: 0,
            timing: Timing::default(),
            watch: Watch::default(),
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
        self.take(worker, session, input, queue)
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
        self.tell(worker, session, ticket, ops, out, queue)
    }

    fn event<'a>(
        &self,
        _worker: &mut Worker,
        session: &mut Session,
        event: Event,
        out: &mut Out<'_>,
        queue: &mut Queue<'a, Ticket>,
    ) -> Flow {
        self.happened(session, event, out, queue)
    }

    fn close(&self, _worker: &mut Worker, session: Session, _why: CloseReason) {
        self.leave(session);
    }

    fn event_kinds(&self) -> u32 {
        self.kinds_awaited()
    }

    fn timing_begins(&self, worker: &mut Worker) {
        let id = worker.id;
        worker.timing.begin(&self.hub, id);
    }

    fn timing_ends(&self, worker: &mut Worker, took: Duration) {
        let id = worker.id;
        worker.timing.end(&self.hub, id, took);
    }

    #[inline]
    fn crossing_ends(&self, worker: &mut Worker) {
        let ctx = worker.service.ctx();
        worker.watch.end(&self.hub, || ctx.now_ms());
    }

    fn key_events(&self, worker: &mut Worker, events: &[KeyEvent<'_>]) {
        // Every worker hears of every event; tracked keys and lines are one table for all.
        if worker.id == 0 {
            self.changed(events);
        }
    }

    fn refusal(why: CloseReason) -> Vec<u8> {
        match why {
            CloseReason::TOO_MANY_CONNECTIONS => b"-ERR max number of clients reached\r\n".to_vec(),
            _ => Vec::new(),
        }
    }
}
