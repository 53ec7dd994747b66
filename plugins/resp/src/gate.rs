//! What a connection's mode, or the server's, forbids or demands before a command runs:
//! authentication, pauses, subscriptions, transactions, cluster slots, tracking, MONITOR.
//!
//! Called by `command` for connections with a mode only; plain ones never come here.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use crucible_plugin_api::{Op, Opts, Queue};

use crate::Resp;
use crate::cluster::slot_of;
use crate::error::Refusal;
use crate::exec::cold;
use crate::frame::Args;
use crate::hub::attention;
use crate::reply::server::{key_positions, writes};
use crate::session::{Session, mode};
use crate::table::{Cmd, flag};
use crate::ticket::Ticket;
use crate::watch::may_take_long;
use crate::worker::Worker;
use crate::write::Version;

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It runs.
    Run,
    /// It is answered already.
    Done,
    /// It has to wait: it is not consumed.
    Wait,
    /// It has to wait until the store is its own: it is not consumed.
    Alone,
}

/// Commands that a listening RESP2 connection may send.
fn may_while_listening(command: Cmd) -> bool {
    matches!(
        command,
        Cmd::Subscribe
            | Cmd::Psubscribe
            | Cmd::Ssubscribe
            | Cmd::Unsubscribe
            | Cmd::Punsubscribe
            | Cmd::Sunsubscribe
            | Cmd::Ping
            | Cmd::Quit
            | Cmd::Reset
    )
}

/// Whether a command that wants the store for itself is to run now: in a transaction it is only
/// gathered, and who may not do anything keeps nobody waiting.
pub(crate) fn runs_now(command: Cmd, session: &Session) -> bool {
    !session.is(mode::UNAUTHENTICATED) && session.is(mode::MULTI) == (command == Cmd::Exec)
}

/// Commands that are refused between MULTI and EXEC.
fn forbidden_in_transaction(command: Cmd) -> bool {
    command.spec().is(flag::NO_MULTI) || matches!(command, Cmd::Monitor | Cmd::Debug)
}

impl Resp {
    /// Decides about a command.
    pub(crate) fn gate<'a>(
        &self,
        command: Cmd,
        worker: &mut Worker,
        session: &mut Session,
        args: Args<'a, '_>,
        queue: &mut Queue<'a, Ticket>,
    ) -> Gate {
        session.client.note(queue.now_ms(), command as u8, session.mode);
        let spec = command.spec();
        if session.is(mode::UNAUTHENTICATED) && !spec.is(flag::NO_AUTH) {
            self.hub.stats.of(worker.id).rejected(command);
            self.refuse(session, &Refusal::NoAuth, queue);
            return Gate::Done;
        }
        if command != Cmd::Client && self.hub.paused(queue.now_ms(), writes(command)).is_some() {
            queue.end_barrier(Ticket::Pause);
            return Gate::Wait;
        }
        if self.hub.attention.load(Ordering::Relaxed) & attention::MONITOR != 0
            && !spec.is(flag::SKIP_MONITOR)
            && !spec.is(flag::ADMIN)
            && command != Cmd::Auth
            && command != Cmd::Hello
        {
            self.hub.show(&monitor_line(session, args));
        }
        if session.is(mode::SUBSCRIBED) && session.version == Version::Resp2 {
            if !may_while_listening(command) {
                let text = format!(
                    "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT \
                     / RESET are allowed in this context",
                    spec.name
                );
                self.refuse(session, &Refusal::Text(text), queue);
                return Gate::Done;
            }
            if command == Cmd::Ping {
                cold::carry(command, args, queue, false);
                return Gate::Done;
            }
        }
        if session.is(mode::MULTI)
            && let Some(gate) = self.in_transaction(command, session, args, queue)
        {
            return gate;
        }
        if session.is(mode::CLUSTER)
            && let Some(refusal) = self.foreign_slot(command, session, args)
        {
            self.refuse(session, &refusal, queue);
            return Gate::Done;
        }
        if session.is(mode::TRACKING) {
            self.track(command, session, args);
        }
        let close = self.hub.attention.load(Ordering::Relaxed) & attention::SLOWLOG != 0;
        if close || may_take_long(command, args.len()) {
            worker.watch.note(command, session, args);
        }
        if session.is(mode::NO_TOUCH) && matches!(command, Cmd::Get | Cmd::Mget) {
            for key in args.from(1) {
                queue.op(Op::get(key).opts(Opts::NO_TOUCH));
            }
            queue.end(if command == Cmd::Get { Ticket::Value } else { Ticket::Values });
            self.hub.stats.of(worker.id).called(command);
            return Gate::Done;
        }
        Gate::Run
    }

    /// Between MULTI and EXEC commands are gathered; `None`: this one runs at once.
    fn in_transaction<'a>(
        &self,
        command: Cmd,
        session: &mut Session,
        args: Args<'a, '_>,
        queue: &mut Queue<'a, Ticket>,
    ) -> Option<Gate> {
        let refusal = match command {
            Cmd::Exec | Cmd::Discard | Cmd::Quit | Cmd::Reset => return None,
            Cmd::Multi => {
                // Refused, but no reason to spoil the transaction.
                queue.end(Ticket::Error("ERR MULTI calls can not be nested".into()));
                return Some(Gate::Done);
            }
            Cmd::Watch => {
                queue.end(Ticket::Error("ERR WATCH inside MULTI is not allowed".into()));
                return Some(Gate::Done);
            }
            _ if forbidden_in_transaction(command) => {
                Some(Refusal::Text("ERR Command not allowed inside a transaction".to_owned()))
            }
            _ if session.is(mode::CLUSTER) => self.foreign_slot(command, session, args),
            _ => None,
        };
        if let Some(refusal) = refusal {
            self.refuse(session, &refusal, queue);
            return Some(Gate::Done);
        }
        let transaction = &mut session.rare().transaction;
        let len_bytes: usize = args.from(0).map(|a| a.len() + size_of::<Vec<u8>>()).sum();
        if transaction.commands.len() >= self.settings.transaction_commands_max as usize
            || transaction.len_bytes + len_bytes > self.settings.transaction_len_bytes_max as usize
        {
            let text = "ERR transaction exceeds the limit of queued commands".to_owned();
            self.refuse(session, &Refusal::Text(text), queue);
            return Some(Gate::Done);
        }
        transaction.len_bytes += len_bytes;
        transaction.commands.push((command, args.from(0).map(<[u8]>::to_vec).collect()));
        let queued = transaction.commands.len() as i32;
        session.client.queued.store(queued, Ordering::Relaxed);
        queue.end(Ticket::Static(b"+QUEUED\r\n"));
        Some(Gate::Done)
    }

    /// Why a node of a cluster does not take a command.
    fn foreign_slot(
        &self,
        command: Cmd,
        session: &mut Session,
        args: Args<'_, '_>,
    ) -> Option<Refusal> {
        let asking = session.is(mode::ASKING);
        if command != Cmd::Asking {
            session.set(mode::ASKING, false);
        }
        let map = self.cluster.as_ref()?;
        let words: Vec<&[u8]> = args.from(0).collect();
        let mut slots = key_positions(command, &words).into_iter().map(|at| slot_of(words[at]));
        let slot = slots.next()?;
        if slots.any(|other| other != slot) {
            let text = "CROSSSLOT Keys in request don't hash to the same slot";
            return Some(Refusal::Text(text.to_owned()));
        }
        if map.is_mine(slot) || asking {
            return None;
        }
        Some(Refusal::Text(match map.owner(slot) {
            Some(node) => format!("MOVED {slot} {}:{}", node.host, node.port),
            None => "CLUSTERDOWN Hash slot not served".to_owned(),
        }))
    }

    /// Notes the keys that a tracking client reads.
    fn track(&self, command: Cmd, session: &mut Session, args: Args<'_, '_>) {
        if command == Cmd::Client {
            return;
        }
        let client_id = session.client.id;
        let tracking = &mut session.rare().tracking;
        let caching = tracking.caching.take();
        let wanted = match (tracking.bcast, tracking.optin, tracking.optout) {
            (true, ..) => false,
            (_, true, _) => caching == Some(true),
            (_, _, true) => caching != Some(false),
            _ => true,
        };
        if wanted && command.spec().is(flag::READONLY) {
            let words: Vec<&[u8]> = args.from(0).collect();
            for at in key_positions(command, &words) {
                self.hub.tracking.read(&self.hub.clients, client_id, words[at]);
            }
        }
    }
}

/// A line of MONITOR: time, address, quoted arguments.
fn monitor_line(session: &Session, args: Args<'_, '_>) -> String {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let addr = session.client.addr();
    let mut line = format!("{}.{:06} [0 {addr}]", since.as_secs(), since.subsec_micros());
    for arg in args.from(0) {
        line.push_str(" \"");
        for byte in arg {
            let _infallible = match byte {
                b'"' | b'\\' => write!(line, "\\{}", char::from(*byte)),
                b'\n' => write!(line, "\\n"),
                b'\r' => write!(line, "\\r"),
                b'\t' => write!(line, "\\t"),
                7 => write!(line, "\\a"),
                8 => write!(line, "\\b"),
                b' '..=b'~' => write!(line, "{}", char::from(*byte)),
                other => write!(line, "\\x{other:02x}"),
            };
        }
        line.push('"');
    }
    line
}
