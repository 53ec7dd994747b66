//! A worker: one pinned thread's event loop, its connections, and the task it works on.
//!
//! Always true: requests are sent from one place (`Worker::pump`), in the order of their intended
//! times, to connections that have room; a connection whose oldest request is over its time is closed,
//! because the replies behind it can no longer be told apart. Called by kompio.
//!
//! ```text
//!  on_notify(task) → pump ─ issue → … on_data → replies → room → pump …
//!                     └ timer at the next intended time / end of the interval / scan for timeouts
//! ```

mod arrivals;
mod connections;
mod issue;
mod pump;
mod reads;
mod tasks;

use std::collections::VecDeque;

use kompio::{CloseReason, ConnToken, Consumed, DriverCtx, EventHandler};

use super::conn::{Conn, State};
use super::pending::Request;
use super::shared::SharedRef;
use super::short::ReadTemplate;
use super::source::{Draw, Source};
use super::work::Work;
use crate::config::choices::Timestamps;
use crate::wire::{Codec, Keys};
use crate::workload::keys::KeySource;
use crate::workload::mix::Verb;
use crate::workload::spread::Spread;
use reads::Reads;
use tasks::scan_every;

const TIMER_PUMP: u64 = 1;
const TIMER_BOUNDARY: u64 = 2;
const TIMER_SCAN: u64 = 3;
/// Reconnect timers carry the connection's number above this bit.
const TIMER_RECONNECT: u64 = 1 << 32;

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
    /// Those of the connection that is being filled.
    reads: Reads,
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
            reads: Reads::default(),
            scratch: Vec::new(),
            keys: Keys::default(),
            clock: (0, 0, 0),
            shared,
        }
    }
}

fn plan_name(shared: &SharedRef, endpoint: u16) -> String {
    shared.plan.endpoints[endpoint as usize].name.clone()
}
fn is_counter(verb: Verb) -> bool {
    matches!(verb, Verb::Incr | Verb::CounterInit)
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
