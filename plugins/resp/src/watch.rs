//! Batches that may take long are timed, for SLOWLOG.
//!
//! ```text
//!  a command that may take long is parsed: the clock begins, its arguments are noted ── the store,
//!  the replies ── the crossing ends: was it slow, each noted command is an entry with that time
//! ```
//! The time of an entry is that of its batch, which is how long its client waited for it inside the
//! server; what ran alone meanwhile is taken off. Commands whose time does not depend on what they
//! are given (GET, SET, INCR, HSET, ...) are noted only when they have many arguments, or when the
//! threshold is below a millisecond: then every command is. What must always be true: a crossing
//! without such a command pays one comparison. Called by `requests`, on one worker.

use std::time::Instant;

use crate::frame::Args;
use crate::hub::Hub;
use crate::hub::slowlog::Cut;
use crate::session::Session;
use crate::table::{Cmd, Group, Need, Spec, TABLE, flag};

/// Most commands noted in one crossing.
const NOTED_MAX: usize = 1024;

/// Commands of more arguments may take long, whatever they are.
pub const ARGS_FEW: usize = 32;

/// The commands of a crossing that may take long.
#[derive(Debug, Default)]
pub struct Watch {
    begun: Option<Instant>,
    noted: Vec<Noted>,
    cut: Cut,
    alone_ns: u64,
}

#[derive(Debug)]
struct Noted {
    client: u64,
    start: usize,
    args: usize,
}

/// Whether the store runs it in batches, rather than `reply` alone.
const fn runs_in_batches(spec: &Spec) -> bool {
    matches!(spec.need, Need::Store | Need::Modify | Need::Structure(_))
        && !matches!(spec.group, Group::Server | Group::Transactions)
}

/// Whether its time depends on what it is given or finds, also with few arguments.
static MAY_TAKE_LONG: [bool; TABLE.len()] = {
    let mut all = [false; TABLE.len()];
    let mut i = 0;
    while i < all.len() {
        let spec = &TABLE[i];
        let one_key = matches!(
            Cmd::at(i),
            Cmd::Set
                | Cmd::Setex
                | Cmd::Psetex
                | Cmd::Setbit
                | Cmd::Setrange
                | Cmd::Getrange
                | Cmd::Substr
                | Cmd::Mset
                | Cmd::Msetnx
                | Cmd::Msetex
                | Cmd::Del
        );
        all[i] = runs_in_batches(spec) && spec.flags & flag::FAST == 0 && !one_key;
        i += 1;
    }
    all
};

/// Whether a command of so many arguments may take long.
#[inline]
pub fn may_take_long(command: Cmd, argc: usize) -> bool {
    MAY_TAKE_LONG[command as usize] || argc > ARGS_FEW
}

impl Watch {
    /// Notes a command that is about to run.
    #[cold]
    pub fn note(&mut self, command: Cmd, session: &Session, args: Args<'_, '_>) {
        self.note_words(command, session, args.from(0), args.len());
    }

    /// As [`Watch::note`], for words that are owned.
    pub fn note_words<'a>(
        &mut self,
        command: Cmd,
        session: &Session,
        words: impl Iterator<Item = &'a [u8]>,
        argc: usize,
    ) {
        let local = matches!(command, Cmd::Echo) || command == Cmd::Ping && argc == 1;
        if self.noted.len() == NOTED_MAX || !(local || runs_in_batches(command.spec())) {
            return;
        }
        self.begun.get_or_insert_with(Instant::now);
        let (start, args) = self.cut.add(words, argc);
        self.noted.push(Noted { client: session.client.id, start, args });
    }

    /// A command of this crossing was timed by itself.
    pub fn ran_alone(&mut self, took_ns: u64) {
        self.alone_ns += took_ns;
    }

    /// The crossing ends.
    #[inline]
    pub fn end(&mut self, hub: &Hub, now_ms: impl FnOnce() -> u64) {
        if let Some(begun) = self.begun.take() {
            self.judge(begun, hub, now_ms);
        }
    }

    fn judge(&mut self, begun: Instant, hub: &Hub, now_ms: impl FnOnce() -> u64) {
        let took_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let took_us = took_ns.saturating_sub(self.alone_ns) / 1000;
        if hub.slowlog.is_slow(took_us) {
            let at_s = now_ms() / 1000;
            for noted in &self.noted {
                let client = hub.clients.get(noted.client);
                let who = client.map(|c| (c.addr(), c.names().name)).unwrap_or_default();
                hub.slowlog.keep(took_us, at_s, self.cut.args(noted.start, noted.args), who);
            }
        }
        self.noted.clear();
        self.cut.clear();
        self.alone_ns = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_whose_time_has_a_bound_are_not_watched_unless_they_have_many_arguments() {
        for command in [Cmd::Get, Cmd::Set, Cmd::Incr, Cmd::Hset, Cmd::Mget, Cmd::Del, Cmd::Keys] {
            assert!(!may_take_long(command, 3), "{command:?}");
            assert!(may_take_long(command, 33), "{command:?}");
        }
        for command in [Cmd::Lrange, Cmd::Sinter, Cmd::Hgetall, Cmd::Bitop, Cmd::Sort, Cmd::Lcs] {
            assert!(may_take_long(command, 3), "{command:?}");
        }
    }
}
