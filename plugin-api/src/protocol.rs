//! What a protocol's author writes.
//!
//! A [`Protocol`] is a sans-I/O state machine: [`Protocol::parse`] turns bytes
//! into commands, each some operations and a *ticket*; the SDK runs the
//! operations of all ready connections as one batch; [`Protocol::reply`] turns
//! each ticket with its results into bytes. It never sees a socket, so it can
//! be tested with byte tables.
//!
//! Always true, by the engine in `engine`:
//!
//! * commands of one connection take effect, and are answered, in their order;
//! * after a command that ended with [`Queue::end_barrier`], nothing more of
//!   that connection is parsed until its reply is written and its follow-ups
//!   are done;
//! * a panic closes that one connection.

mod body;
mod engine;
mod queue;
mod service;
pub(crate) mod table;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::abi::caps::Capabilities;
use crate::abi::op::OpCode;
use crate::abi::tables::close_reason;
use crate::env::{Env, KeyEvent};
use crate::error::PluginError;
use crate::op::Op;
use crate::out::Out;

pub use queue::Queue;
pub use service::Service;

/// Operations that a round gathers before it executes them.
pub const ROUND_OPS: usize = 64;

/// A protocol.
pub trait Protocol: Sized + Send + Sync + 'static {
    /// The protocol's own settings.
    type Settings: DeserializeOwned + JsonSchema;
    /// One worker's state.
    type Worker: 'static;
    /// One connection's state.
    type Session: 'static;
    /// How to answer one command.
    type Ticket: 'static;

    /// One crossing in so many is timed, for [`Protocol::timing_ends`]; 0: none.
    const TIMED_EVERY: u32 = 0;

    /// Makes the protocol; one instance serves all workers.
    ///
    /// # Errors
    /// A sentence for the operator.
    fn create(settings: Self::Settings, env: &Env) -> Result<Self, PluginError>;

    /// Whether settings and backend will do.
    ///
    /// # Errors
    /// A sentence that names the setting, or the missing capability.
    fn check(_settings: &Self::Settings, _backend: &Capabilities) -> Result<(), PluginError> {
        Ok(())
    }

    /// The commands served, for the start-up log and for people.
    fn commands() -> Vec<CommandInfo> {
        Vec::new()
    }

    /// Makes one worker's state, on that worker's thread.
    fn worker(&self, service: &Service) -> Self::Worker;

    /// A connection opens; a greeting may be written.
    fn open(
        &self,
        worker: &mut Self::Worker,
        conn: &ConnInfo<'_>,
        service: &Service,
        out: &mut Out<'_>,
    ) -> Self::Session;

    /// Takes as many whole commands from the input as there are, until
    /// [`Queue::should_stop`] says to stop. What is not consumed is offered
    /// again, with more bytes behind it. After [`Next::Body`], called again
    /// (with perhaps no input) when the body is whole.
    fn parse<'a>(
        &self,
        worker: &mut Self::Worker,
        session: &mut Self::Session,
        input: &'a [u8],
        queue: &mut Queue<'a, Self::Ticket>,
    ) -> Parsed;

    /// Answers one command. Follow-up operations may be queued, if the command
    /// ended with a barrier.
    fn reply<'a>(
        &self,
        worker: &mut Self::Worker,
        session: &mut Self::Session,
        ticket: Self::Ticket,
        ops: &[Op<'a>],
        out: &mut Out<'_>,
        queue: &mut Queue<'a, Self::Ticket>,
    ) -> After;

    /// Something other than input happened to a connection.
    fn event<'a>(
        &self,
        _worker: &mut Self::Worker,
        _session: &mut Self::Session,
        event: Event,
        _out: &mut Out<'_>,
        _queue: &mut Queue<'a, Self::Ticket>,
    ) -> Flow {
        match event {
            Event::HalfClose | Event::Drain => Flow::Close,
            Event::Timer(_) | Event::Wake(_) => Flow::Continue,
        }
    }

    /// A connection is gone.
    fn close(&self, _worker: &mut Self::Worker, _session: Self::Session, _why: CloseReason) {}

    /// Kinds of key events this protocol wants to hear of now. The host asks
    /// again after each crossing, so it may change with what clients ask.
    fn event_kinds(&self) -> u32 {
        0
    }

    /// Key events of those kinds, on every worker.
    fn key_events(&self, _worker: &mut Self::Worker, _events: &[KeyEvent<'_>]) {}

    /// A crossing that is timed begins.
    fn timing_begins(&self, _worker: &mut Self::Worker) {}

    /// What it took, from the first `parse` to the last `reply`, the backend included.
    fn timing_ends(&self, _worker: &mut Self::Worker, _took: std::time::Duration) {}

    /// Everything of a crossing is answered. Each crossing ends so: keep it to a look.
    #[inline]
    fn crossing_ends(&self, _worker: &mut Self::Worker) {}

    /// What to tell a connection that is refused before it opens.
    fn refusal(_why: CloseReason) -> Vec<u8> {
        Vec::new()
    }
}

/// What a call of `parse` achieved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parsed {
    /// Bytes of the input that are dealt with.
    pub consumed: usize,
    /// How to go on.
    pub next: Next,
}

impl Parsed {
    /// Everything whole was taken; the rest of the input is part of a command.
    #[must_use]
    pub fn more(consumed: usize) -> Self {
        Self { consumed, next: Next::More }
    }

    /// Stopped early because the queue asked for it.
    #[must_use]
    pub fn stopped(consumed: usize) -> Self {
        Self { consumed, next: Next::Again }
    }

    /// Go on as `next` says.
    #[must_use]
    pub fn with(consumed: usize, next: Next) -> Self {
        Self { consumed, next }
    }
}

/// How a connection goes on after `parse`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// With more input.
    More,
    /// With the input that is left, after what is queued has been answered.
    Again,
    /// By dropping the next so many bytes without offering them.
    Discard(u64),
    /// By receiving the body begun with [`Queue::begin_body`].
    Body,
    /// With the same input once the store can be had alone: the next command is
    /// one that nobody may see half done. Said only while
    /// [`Queue::is_exclusive`] is false, for a command that is not consumed;
    /// what is queued is answered first.
    Exclusive,
    /// By closing, once what is queued has been answered and sent.
    Close,
}

/// How a connection goes on after `reply`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    /// As it was.
    Done,
    /// Blocked until an event's [`Flow::Resume`].
    Wait,
    /// By closing once everything written has left.
    Close,
    /// By closing now.
    CloseNow,
}

/// How a connection goes on after `event`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// As it was.
    Continue,
    /// No longer blocked.
    Resume,
    /// By closing once everything written has left.
    Close,
    /// By closing now.
    CloseNow,
}

/// Something other than input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A timer set with [`crate::WorkerCtx::timer`] fired.
    Timer(u64),
    /// Somebody called [`crate::Waker::wake`].
    Wake(u64),
    /// The peer sends no more.
    HalfClose,
    /// The host is draining.
    Drain,
}

/// Why a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CloseReason(pub u32);

impl CloseReason {
    /// The peer closed.
    pub const PEER: Self = Self(close_reason::PEER);
    /// The session asked for it.
    pub const PROTOCOL: Self = Self(close_reason::PROTOCOL);
    /// Idle or stuck for too long.
    pub const TIMEOUT: Self = Self(close_reason::TIMEOUT);
    /// The peer did not read.
    pub const OUTPUT_LIMIT: Self = Self(close_reason::OUTPUT_LIMIT);
    /// A request longer than the limit.
    pub const INPUT_LIMIT: Self = Self(close_reason::INPUT_LIMIT);
    /// The host stops.
    pub const SHUTDOWN: Self = Self(close_reason::SHUTDOWN);
    /// The socket failed.
    pub const ERROR: Self = Self(close_reason::ERROR);
    /// No room for one more.
    pub const TOO_MANY_CONNECTIONS: Self = Self(close_reason::TOO_MANY_CONNECTIONS);
    /// The session panicked.
    pub const PANIC: Self = Self(close_reason::PANIC);
}

/// A command that a protocol serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandInfo {
    /// As people write it.
    pub name: String,
    /// Capability bits it needs from the backend.
    pub needs_caps: u64,
    /// Opcode it needs from the backend; NOP = none.
    pub needs_op: OpCode,
}

/// Who connected.
#[derive(Clone, Copy, Debug)]
pub struct ConnInfo<'c> {
    /// Names the connection to wakers and timers.
    pub id: u64,
    /// Which listener of the host.
    pub listener: u32,
    /// Encrypted.
    pub tls: bool,
    /// Unix socket.
    pub unix: bool,
    /// The peer's address; `None` for unix sockets.
    pub peer: Option<std::net::SocketAddr>,
    /// Our address; `None` for unix sockets.
    pub local: Option<std::net::SocketAddr>,
    /// The verified name of the peer's certificate; empty without one.
    pub peer_name: &'c [u8],
}
