//! One connection's state, and the loop that takes commands from its input.
//!
//! ```text
//!           first byte            line / header with a long value
//!  (none) ------------> Command ---------------------------------> Body --landed--> Command
//!                        |   ^
//!         multi-get, the |   | last key
//!         round is full  v   |
//!                       MultiGet          Dump, Watch: one byte is kept back, see there
//! ```
//! Must hold: whatever the input, each call consumes bytes, asks for more, or closes; a header is
//! kept, not its parse, while its value streams in. Called by [`crate::plugin`].

use std::net::SocketAddr;

use crucible_plugin_api::{ConnInfo, Next, Parsed, Queue};

use crate::binary::MAGIC_REQUEST;
use crate::dump::Dump;
use crate::plugin::{Memcache, Worker};
use crate::settings::Encodings;
use crate::ticket::Ticket;
use crate::{serve_binary, serve_text};

/// How a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Lines.
    Text,
    /// Headers.
    Binary,
}

/// What the next bytes of input are.
#[derive(Debug)]
pub enum State {
    /// The start of a command.
    Command,
    /// Further keys of a multi-get whose line is whole and was checked.
    MultiGet(MultiGet),
    /// What follows a streamed value; the bytes are the line or header it came with.
    Body(Box<[u8]>),
    /// The end of the line that asked for a dump. It is kept until the dump is complete, so that the
    /// next slice is a command like any other: one that waits while too much is waiting to be sent.
    Dump(Dump),
    /// The last byte of whatever a watcher sent; kept for the same reason, for ever.
    Watch,
    /// One byte that was kept.
    Skip,
}

/// A multi-get in the middle.
#[derive(Clone, Copy, Debug)]
pub struct MultiGet {
    /// Bytes of the line left, its end not included.
    pub line_left: usize,
    /// Bytes of input left until the next command.
    pub used_left: usize,
    /// Print CAS tokens.
    pub with_cas: bool,
    /// Touch with this deadline.
    pub touch_ms: Option<u64>,
}

/// Whether the connection may give commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// The listener has no users: SASL does not exist here.
    NotNeeded,
    /// Not yet.
    Required,
    /// The mechanism is agreed on, the credentials come next.
    Started,
    /// It may.
    Done,
}

impl Auth {
    /// Whether commands are obeyed.
    pub const fn allows(self) -> bool {
        matches!(self, Self::NotNeeded | Self::Done)
    }
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    /// Names the connection to timers and wakers.
    pub conn_id: u64,
    /// Whose users it is checked against.
    pub listener: u32,
    /// The peer, if it has an address.
    pub peer: Option<SocketAddr>,
    /// Unknown until the first byte.
    pub encoding: Option<Encoding>,
    /// Bytes of the present line that hold no end.
    pub scanned: usize,
    /// What comes next.
    pub state: State,
    /// May it?
    pub auth: Auth,
    /// A key of the running multi-get failed: the rest of the list is not sent.
    pub list_failed: bool,
    /// It receives log lines now, for ever.
    pub watching: bool,
    /// The peer sends no more: close once the dump is complete.
    pub ending: bool,
}

/// What one step of parsing achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many bytes are dealt with; go on.
    Used(usize),
    /// The rest is part of a command.
    More,
    /// So many bytes are dealt with; go on like this.
    Stop(usize, Next),
}

impl Session {
    /// A connection opens.
    pub fn new(conn: &ConnInfo<'_>, auth: Auth, encodings: Encodings) -> Self {
        Self {
            conn_id: conn.id,
            listener: conn.listener,
            peer: conn.peer,
            encoding: match encodings {
                Encodings::Auto => None,
                Encodings::Text => Some(Encoding::Text),
                Encodings::Binary => Some(Encoding::Binary),
            },
            scanned: 0,
            state: State::Command,
            auth,
            list_failed: false,
            watching: false,
            ending: false,
        }
    }

    /// Takes commands until the input or the round is used up.
    pub fn parse<'a>(
        &mut self,
        plugin: &Memcache,
        worker: &mut Worker,
        input: &'a [u8],
        queue: &mut Queue<'a, Ticket>,
    ) -> Parsed {
        let encoding = match self.encoding {
            Some(encoding) => encoding,
            None => {
                let Some(first) = input.first() else { return Parsed::more(0) };
                let encoding =
                    if *first == MAGIC_REQUEST { Encoding::Binary } else { Encoding::Text };
                *self.encoding.insert(encoding)
            }
        };
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            if rest.is_empty() && !matches!(self.state, State::Body(_)) {
                return Parsed::more(consumed);
            }
            let step = match encoding {
                Encoding::Text => serve_text::step(plugin, worker, self, rest, queue),
                Encoding::Binary => serve_binary::step(plugin, worker, self, rest, queue),
            };
            match step {
                Step::Used(n) => consumed += n,
                Step::More => return Parsed::more(consumed),
                Step::Stop(n, next) => return Parsed::with(consumed + n, next),
            }
            if queue.should_stop() {
                return Parsed::stopped(consumed);
            }
        }
    }
}
