//! One connection's protocol state. What nearly every connection never needs is boxed, so that an
//! idle connection costs little.
//!
//! Modes change when a command is *answered*, never when it is parsed: replies of earlier commands
//! in the same pipeline must not see them. Commands that change a mode are barriers.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::frame::Parser;
use crate::hub::clients::Client;
use crate::hub::waiting::{Keys, Line};
use crate::structs::blocking::Blocked;
use crate::table::Cmd;
use crate::write::Version;

/// Mode bits; zero for a plain connection.
pub mod mode {
    /// Users exist and the client has not authenticated.
    pub const UNAUTHENTICATED: u32 = 1;
    /// Between MULTI and EXEC.
    pub const MULTI: u32 = 1 << 1;
    /// Listens to something.
    pub const SUBSCRIBED: u32 = 1 << 2;
    /// CLIENT REPLY OFF.
    pub const REPLY_OFF: u32 = 1 << 3;
    /// CLIENT REPLY SKIP: the next reply is dropped.
    pub const REPLY_SKIP: u32 = 1 << 4;
    /// CLIENT TRACKING ON.
    pub const TRACKING: u32 = 1 << 5;
    /// A value of this command goes straight into the store, or is being discarded.
    pub const STREAM: u32 = 1 << 6;
    /// MONITOR.
    pub const MONITOR: u32 = 1 << 7;
    /// CLIENT NO-TOUCH.
    pub const NO_TOUCH: u32 = 1 << 8;
    /// The server is a node of a cluster.
    pub const CLUSTER: u32 = 1 << 9;
    /// ASKING: the next command may use a foreign slot.
    pub const ASKING: u32 = 1 << 10;
    /// READONLY of a cluster client.
    pub const READONLY: u32 = 1 << 11;
    /// The client was killed: close when the present command is answered.
    pub const KILLED: u32 = 1 << 12;
}

/// A connection's state.
#[derive(Debug)]
pub struct Session {
    /// Bits of [`mode`].
    pub mode: u32,
    /// Protocol version.
    pub version: Version,
    /// What CLIENT LIST was last told: the second, and the command's row.
    pub noted_s: u32,
    /// See `noted_s`.
    pub noted_command: u8,
    /// The number that CLIENT ID tells.
    pub client: Arc<Client>,
    /// A long command whose end is awaited.
    pub partial: Option<Box<Parser>>,
    /// State of the rare modes.
    pub rare: Option<Box<Rare>>,
}

/// State of the rare modes.
#[derive(Debug, Default)]
pub struct Rare {
    /// The open transaction.
    pub transaction: Transaction,
    /// The transaction that is running.
    pub running: Option<Running>,
    /// Keys under WATCH with the tokens they had.
    pub watched: Vec<(Vec<u8>, u64)>,
    /// Channels listened to.
    pub channels: BTreeSet<Vec<u8>>,
    /// Patterns listened to.
    pub patterns: BTreeSet<Vec<u8>>,
    /// Shard channels listened to.
    pub shard_channels: BTreeSet<Vec<u8>>,
    /// The command whose value streams.
    pub stream: Option<Stream>,
    /// CLIENT TRACKING's options.
    pub tracking: Tracking,
    /// A wait that a timer ends: the token of that timer.
    pub wait_token: u64,
    /// Blocked until then.
    pub waits: bool,
    /// The reply that is due when the wait ends.
    pub wait_reply: Option<&'static [u8]>,
    /// The command that waits for elements.
    pub blocked: Option<Box<Blocked>>,
    /// The lines this connection stands in, also while it tries.
    pub line: Option<(Line, Keys)>,
}

/// An owned command.
pub type Owned = (Cmd, Vec<Vec<u8>>);

/// Commands gathered since MULTI.
#[derive(Debug, Default)]
pub struct Transaction {
    /// The commands.
    pub commands: Vec<Owned>,
    /// Bytes of their arguments.
    pub len_bytes: usize,
    /// One of them was refused.
    pub aborted: bool,
}

/// A transaction on its way.
#[derive(Debug)]
pub struct Running {
    /// Commands yet to run.
    pub left: VecDeque<Owned>,
}

/// A command whose value streams past the parser.
#[derive(Debug)]
pub struct Stream {
    /// The command.
    pub command: Cmd,
    /// Its arguments in front of the value.
    pub before: Vec<Vec<u8>>,
    /// The value is refused with this text; its bytes are dropped.
    pub refused: Option<Box<str>>,
}

/// CLIENT TRACKING's options.
#[derive(Clone, Debug, Default)]
pub struct Tracking {
    /// Broadcasting mode.
    pub bcast: bool,
    /// Only keys read after CLIENT CACHING YES.
    pub optin: bool,
    /// All keys but those read after CLIENT CACHING NO.
    pub optout: bool,
    /// Not the client's own writes.
    pub noloop: bool,
    /// The client that gets the messages; 0 = this one.
    pub redirect: u64,
    /// Prefixes of the broadcasting mode.
    pub prefixes: Vec<Vec<u8>>,
    /// CLIENT CACHING was said, for the next command.
    pub caching: Option<bool>,
}

impl Session {
    /// Tells CLIENT LIST of activity, at most once a second for the same command.
    #[inline]
    pub fn note(&mut self, now_ms: u64, command: u8) {
        let now_s = (now_ms / 1000) as u32;
        if self.noted_s != now_s || self.noted_command != command {
            (self.noted_s, self.noted_command) = (now_s, command);
            self.client.note(now_ms, command, self.mode);
        }
    }

    /// The rare state, made when first needed.
    pub fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Whether a mode bit is set.
    pub fn is(&self, bit: u32) -> bool {
        self.mode & bit != 0
    }

    /// Sets or clears a mode bit.
    pub fn set(&mut self, bit: u32, on: bool) {
        if on { self.mode |= bit } else { self.mode &= !bit }
    }

    /// Whether the connection waits for elements.
    pub fn is_blocked(&self) -> bool {
        self.rare.as_deref().is_some_and(|rare| rare.blocked.is_some())
    }

    /// How many channels, patterns and shard channels are listened to.
    pub fn subscriptions(&self) -> (usize, usize) {
        let of = |r: &Rare| (r.channels.len() + r.patterns.len(), r.shard_channels.len());
        self.rare.as_deref().map_or((0, 0), of)
    }

    /// Forgets the open transaction and the watched keys.
    pub fn end_transaction(&mut self) {
        self.set(mode::MULTI, false);
        if let Some(rare) = &mut self.rare {
            rare.transaction = Transaction::default();
            rare.watched.clear();
        }
    }
}
