//! From bytes to operations: the way of a connection's input through parser, table and gate.
//!
//! Runs of plain GETs and SETs take a short cut past all three; everything else is looked up,
//! checked and pushed one by one. What must always be true: N commands queue N tickets, in order,
//! and nothing of a refused command stays queued. Called by `parse`, once for each ready connection.

use std::sync::atomic::Ordering;

use crucible_plugin_api::{Next as Go, Op, Parsed, Queue};

use crate::Resp;
use crate::error::Refusal;
use crate::exec::{self, Pushed, streams};
use crate::frame::plain::{self, Plain};
use crate::frame::{Args, Limits, Next, Parser, Span};
use crate::gate::{Gate, runs_now};
use crate::hub::attention;
use crate::hub::stats::WorkerStats;
use crate::session::{Owned, Session, mode};
use crate::structs::direct;
use crate::table::{Cmd, arity_fits, flag};
use crate::ticket::Ticket;
use crate::watch::may_take_long;
use crate::worker::Worker;

/// Shortest unfinished command whose parser is kept; a shorter one is cheaper to read again.
const PARTIAL_LEN_BYTES_MIN: usize = 4096;

impl Resp {
    /// Takes what can be taken from a connection's input.
    #[inline]
    pub(crate) fn take<'a>(
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

    fn limits(&self, session: &Session) -> Limits {
        Limits {
            array_len_max: i64::from(self.settings.array_len_max),
            bulk_len_bytes_max: self.hub.live.bulk_len_bytes_max() as i64,
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
        // The caller has looked for plain commands at the start of the input.
        let mut is_start = true;
        loop {
            let was_looked_at = std::mem::take(&mut is_start);
            if plain && !was_looked_at && !parser.is_partial() {
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
                    let watchers = attention::MONITOR | attention::PAUSE | attention::SLOWLOG;
                    let watched = self.hub.attention.load(Ordering::Relaxed) & watchers != 0;
                    if let Some(pending) = pending.filter(|_| !session.is(mode::STREAM) && !watched)
                    {
                        let least = self.settings.stream_len_bytes_min as usize;
                        let args = Args::new(rest, parser.spans());
                        let start = consumed + pending.start;
                        let find = |name: &[u8]| self.find(name);
                        let begun =
                            streams::begin(session, find, args, pending, start, least, queue);
                        if let Some(parsed) = begun {
                            parser.after_body(pending.more);
                            return parsed;
                        }
                    }
                    if need_bytes as u64 > self.hub.live.request_len_bytes_max() {
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
        session.mode == 0
            && self.hub.attention.load(Ordering::Relaxed) == 0
            && self.hub.live.bulk_len_bytes_max() as usize >= plain::BULK_LEN_BYTES_MAX
    }

    /// Takes plain GETs and SETs, and commands about one element of a structure, from the start of
    /// `input`, as long as there are any and the round has room; returns how many bytes they were.
    #[inline]
    fn plain<'a>(
        &self,
        worker: &mut Worker,
        input: &'a [u8],
        queue: &mut Queue<'a, Ticket>,
    ) -> usize {
        let (mut consumed, mut gets, mut sets) = (0, 0, 0);
        loop {
            let Some((request, len)) = plain::read(&input[consumed..]) else {
                if worker.has_short_way
                    && let Some((command, len)) = direct::push(&input[consumed..], queue)
                {
                    consumed += len;
                    worker.latest = command as u8;
                    self.hub.stats.of(worker.id).called(command);
                    if queue.should_stop() {
                        break;
                    }
                    continue;
                }
                break;
            };
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
        let Some(command) = self.find(args.at(0)) else {
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
        let alone = spec.is(flag::ISOLATED)
            || self.settings.several_keys_in_one_step && has_several_keys(command, args.len());
        if alone && !queue.is_exclusive() && runs_now(command, session) {
            return Gate::Alone;
        }
        if session.mode != 0 || self.hub.attention.load(Ordering::Relaxed) != 0 {
            match self.gate(command, worker, session, args, queue) {
                Gate::Run => {}
                stop => return stop,
            }
        } else if may_take_long(command, args.len()) {
            worker.watch.note(command, session, args);
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
        worker: &mut Worker,
        session: &Session,
        (command, words): &Owned,
        queue: &mut Queue<'a, Ticket>,
    ) -> bool {
        let command = *command;
        let close = self.hub.attention.load(Ordering::Relaxed) & attention::SLOWLOG != 0;
        if close || may_take_long(command, words.len()) {
            let each = words.iter().map(Vec::as_slice);
            worker.watch.note_words(command, session, each, words.len());
        }
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
                | Cmd::Pfmerge
                | Cmd::Sort
                | Cmd::SortRo
                | Cmd::Georadius
                | Cmd::GeoradiusRo
                | Cmd::Georadiusbymember
                | Cmd::GeoradiusbymemberRo
                | Cmd::Geosearch
                | Cmd::Geosearchstore
        );
        // A command that was refused has its one reply already.
        accepted && (waits || in_steps)
    }

    /// Refuses a command before it runs; an open transaction is spoilt by it.
    pub(crate) fn refuse(
        &self,
        session: &mut Session,
        refusal: &Refusal,
        queue: &mut Queue<'_, Ticket>,
    ) {
        if session.is(mode::MULTI) {
            session.rare().transaction.aborted = true;
        }
        queue.end(Ticket::Error(refusal.to_string().into()));
    }
}

/// Whether a command of so many arguments names several keys, each of which is a step of its own.
fn has_several_keys(command: Cmd, argc: usize) -> bool {
    match command {
        Cmd::Mget | Cmd::Del | Cmd::Unlink | Cmd::Exists | Cmd::Touch => argc > 2,
        Cmd::Mset => argc > 3,
        _ => false,
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
