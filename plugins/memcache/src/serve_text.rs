//! Text commands to operations.
//!
//! Must hold: every command that is consumed has queued exactly one ticket for each reply it owes,
//! in order; a value is consumed with its header or discarded to the byte. Called by the session's
//! loop for the text encoding; meta commands go on to [`crate::serve_meta`].

use crucible_plugin_api::{Condition, Next, Op, Opts, Queue, Status};

use crate::auth;
use crate::counter;
use crate::counters::Count;
use crate::dump;
use crate::exptime::deadline_ms;
use crate::limits::{KEY_LEN_BYTES_MAX, STREAM_FROM_BYTES};
use crate::line::{self, Line, Words};
use crate::plugin::{Memcache, Worker};
use crate::serve_meta;
use crate::session::{MultiGet, Session, State, Step};
use crate::text::{self, Command, Refused, Store, Verb};
use crate::ticket::{Answer, Ticket, TooLarge, Value};

/// The two bytes after every data block.
pub const BLOCK_END: &[u8] = b"\r\n";

/// Takes one command, or part of a long one, from the start of `input`.
pub fn step<'a>(
    plugin: &Memcache,
    worker: &mut Worker,
    session: &mut Session,
    input: &'a [u8],
    queue: &mut Queue<'a, Ticket>,
) -> Step {
    match session.state {
        State::Command => {}
        State::MultiGet(list) => return multi_get(session, list, input, queue),
        State::Body(_) => return landed(session, input, queue),
        State::Dump(_) => {
            queue.end_barrier(Ticket::DumpSlice);
            return Step::Stop(0, Next::Again);
        }
        State::Watch => {
            queue.end_barrier(Ticket::WatchLines);
            return Step::Stop(input.len() - 1, Next::Again);
        }
        State::Skip => {
            session.state = State::Command;
            return Step::Used(1);
        }
    }
    if session.auth.allows()
        && let Some((key, with_cas, used)) = plain_get(input)
    {
        session.scanned = 0;
        let opts = if with_cas { Opts::WANT_CAS } else { Opts::NONE };
        queue.command(
            Op::get(key).opts(opts),
            Ticket::Value(Value { with_cas, touched: false, last: true, empty: false }),
        );
        return Step::Used(used);
    }
    let limit = plugin.settings.multiget_len_bytes_max as usize;
    match line::find(input, session.scanned, limit) {
        Line::Partial { scanned } => {
            session.scanned = scanned;
            Step::More
        }
        Line::Endless => Step::Stop(input.len(), Next::Close),
        Line::Whole { line, used } => {
            session.scanned = 0;
            if session.auth.allows() {
                obey(plugin, worker, session, text::parse(line), input, used, queue)
            } else {
                auth::text_line(worker, session, line, input, used, queue)
            }
        }
    }
}

/// The commonest command, `get` or `gets` of one short key, recognised without looking at a byte
/// twice. `None` for anything unusual, which the general way judges.
#[inline]
fn plain_get(input: &[u8]) -> Option<(&[u8], bool, usize)> {
    let (start, with_cas) = match input.first_chunk::<5>()? {
        [b'g', b'e', b't', b' ', _] => (4, false),
        b"gets " => (5, true),
        _ => return None,
    };
    let key = &input[start..];
    let window = &key[..key.len().min(KEY_LEN_BYTES_MAX + 2)];
    let len = first_at_most_space(window)?;
    (len > 0 && window[len] == b'\r' && window.get(len + 1) == Some(&b'\n'))
        .then(|| (&key[..len], with_cas, start + len + 2))
}

/// Where the first byte up to and including a space is: eight bytes at a time.
#[inline]
fn first_at_most_space(s: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    let (chunks, tail) = s.as_chunks::<8>();
    for (i, chunk) in chunks.iter().enumerate() {
        let word = u64::from_le_bytes(*chunk);
        // The lowest set bit is exact: a borrow can only come from a byte that is itself a hit.
        let hits = word.wrapping_sub(ONES * 0x21) & !word & (ONES * 0x80);
        if hits != 0 {
            return Some(i * 8 + (hits.trailing_zeros() / 8) as usize);
        }
    }
    let at = tail.iter().position(|b| *b <= b' ')?;
    Some(chunks.len() * 8 + at)
}

fn obey<'a>(
    plugin: &Memcache,
    worker: &mut Worker,
    session: &mut Session,
    command: Command<'a>,
    input: &'a [u8],
    used: usize,
    queue: &mut Queue<'a, Ticket>,
) -> Step {
    match command {
        Command::Get { keys, with_cas } => {
            return list_start(session, keys, with_cas, None, input, used, queue);
        }
        Command::GetAndTouch { keys, with_cas, exptime_s } => {
            let deadline = deadline_ms(exptime_s, queue.now_ms());
            return list_start(session, keys, with_cas, Some(deadline), input, used, queue);
        }
        Command::Store(store) => return block(plugin, session, store, input, used, queue),
        Command::Meta(meta) => {
            worker.counters.add(Count::cmd_meta, 1);
            return serve_meta::obey(plugin, worker, session, meta, input, used, queue);
        }
        Command::Refused(refused) => return refuse(refused, used, queue),
        Command::Quit => return Step::Stop(used, Next::Close),
        Command::Delete { key, noreply } => {
            queue.command(Op::delete(key), Ticket::Delete { noreply })
        }
        Command::Arithmetic { key, delta, decrement, noreply } => {
            let plan = counter::Plan { delta, decrement, ..counter::Plan::default() };
            queue.modify(key, move |old| plan.decide(old));
            queue.end(Ticket::Arithmetic { decrement, noreply });
        }
        Command::Touch { key, exptime_s, noreply } => {
            let deadline = deadline_ms(exptime_s, queue.now_ms());
            queue.command(Op::touch(key, deadline), Ticket::Touch { noreply });
        }
        Command::MetaNoop => queue.end(Ticket::Line("MN")),
        Command::Version => queue.end(Ticket::Version),
        Command::Verbosity { level: _, noreply } => line(queue, "OK", noreply),
        Command::FlushAll { delay_s, noreply } => {
            worker.counters.add(Count::cmd_flush, 1);
            if !plugin.settings.flush_enabled {
                line(queue, "CLIENT_ERROR flush_all not allowed", noreply);
                return Step::Used(used);
            }
            let now_ms = queue.now_ms();
            let delay_ms = deadline_ms(delay_s.max(0), now_ms).saturating_sub(now_ms);
            queue.end_barrier(Ticket::Flush { delay_ms, answer: Answer::Text { noreply } });
        }
        Command::Shutdown { graceful } => match graceful {
            _ if !plugin.settings.shutdown_command => {
                queue.end(Ticket::Line("ERROR: shutdown not enabled"));
            }
            Some(_) => queue.end_barrier(Ticket::Shutdown),
            None => queue.end(Ticket::Line("CLIENT_ERROR invalid shutdown mode")),
        },
        Command::Stats(args) => with_args(queue, args, Ticket::Stats),
        Command::Watch(args) => match plugin.watch(worker, session, args) {
            Err(text) => queue.end(Ticket::Line(text)),
            Ok(()) => {
                queue.end(Ticket::Line("OK"));
                session.state = State::Watch;
                return Step::Used(used - 1);
            }
        },
        Command::LruCrawler(args) => match dump::Dump::parse(args) {
            Err(text) => queue.end(Ticket::Line(text)),
            Ok(_) if !plugin.settings.dump_enabled => {
                queue.end(Ticket::Line("ERROR metadump not allowed"));
            }
            Ok(dump) => {
                session.state = State::Dump(dump);
                return Step::Used(used - 1);
            }
        },
        Command::CacheMemlimit { mib, noreply } => {
            queue.end_barrier(Ticket::MemoryLimit { mib, noreply });
        }
    }
    Step::Used(used)
}

fn with_args<'a>(queue: &mut Queue<'a, Ticket>, args: &'a [u8], ticket: Ticket) {
    queue.op(Op::nop(args));
    queue.end_barrier(ticket);
}

fn line(queue: &mut Queue<'_, Ticket>, text: &'static str, noreply: bool) {
    if !noreply {
        queue.end(Ticket::Line(text));
    }
}

/// Answers a refusal and skips the value that may follow its line.
fn refuse(refused: Refused, used: usize, queue: &mut Queue<'_, Ticket>) -> Step {
    line(queue, refused.line, refused.noreply);
    match refused.body_len {
        Some(len) => Step::Stop(used, Next::Discard(block_len(len))),
        None => Step::Used(used),
    }
}

/// Bytes of a data block with its end.
pub fn block_len(len: u32) -> u64 {
    u64::from(len) + BLOCK_END.len() as u64
}

fn list_start<'a>(
    session: &mut Session,
    keys: &'a [u8],
    with_cas: bool,
    touch_ms: Option<u64>,
    input: &'a [u8],
    used: usize,
    queue: &mut Queue<'a, Ticket>,
) -> Step {
    session.list_failed = false;
    // Where the keys begin in the input: both are parts of one buffer.
    let start = keys.as_ptr().addr() - input.as_ptr().addr();
    let list = MultiGet { line_left: keys.len(), used_left: used - start, with_cas, touch_ms };
    if Words::new(keys).next().is_none() {
        let touched = touch_ms.is_some();
        queue.end(Ticket::Value(Value { with_cas, touched, last: true, empty: true }));
        return Step::Used(used);
    }
    match multi_get(session, list, &input[start..], queue) {
        Step::Used(n) => Step::Used(start + n),
        other => other,
    }
}

/// Queues keys until the line ends or the round is full.
fn multi_get<'a>(
    session: &mut Session,
    list: MultiGet,
    input: &'a [u8],
    queue: &mut Queue<'a, Ticket>,
) -> Step {
    let line = &input[..list.line_left];
    let mut words = Words::new(line);
    let touched = list.touch_ms.is_some();
    while let Some(key) = words.next() {
        let opts = if list.with_cas { Opts::WANT_CAS } else { Opts::NONE };
        let op = match list.touch_ms {
            None => Op::get(key).opts(opts),
            Some(at) => Op::get(key).opts(opts | Opts::SET_EXPIRY).expires_at(at),
        };
        let last = words.rest().iter().all(|b| *b == b' ');
        let value = Value { with_cas: list.with_cas, touched, last, empty: false };
        queue.command(op, Ticket::Value(value));
        if last {
            break;
        }
        if queue.should_stop() {
            let done = line.len() - words.rest().len();
            session.state = State::MultiGet(MultiGet {
                line_left: list.line_left - done,
                used_left: list.used_left - done,
                ..list
            });
            return Step::Used(done);
        }
    }
    session.state = State::Command;
    Step::Used(list.used_left)
}

/// The operation of a storage command; `None` for the value: it is streamed.
fn store_op<'a>(store: &Store<'a>, value: &'a [u8], now_ms: u64) -> Op<'a> {
    let op = match store.verb {
        Verb::Append => return Op::append(store.key, value).condition(Condition::IF_PRESENT),
        Verb::Prepend => return Op::prepend(store.key, value).condition(Condition::IF_PRESENT),
        Verb::Set => Op::store(store.key, value),
        Verb::Add => Op::store(store.key, value).condition(Condition::IF_ABSENT),
        Verb::Replace => Op::store(store.key, value).condition(Condition::IF_PRESENT),
        Verb::Cas(token) => Op::store(store.key, value).if_cas(token),
    };
    op.flags(store.flags).expires_at(deadline_ms(store.exptime_s, now_ms))
}

/// A storage command's line is here; what of its value?
fn block<'a>(
    plugin: &Memcache,
    session: &mut Session,
    store: Store<'a>,
    input: &'a [u8],
    used: usize,
    queue: &mut Queue<'a, Ticket>,
) -> Step {
    let (verb, noreply) = (store.verb, store.noreply);
    let streams = !matches!(verb, Verb::Append | Verb::Prepend);
    let stale = (verb == Verb::Set).then_some(store.key);
    let too_large = Ticket::TooLarge(TooLarge::Text { noreply });
    let place = Place { key: store.key, len: store.len, streams, stale, noreply };
    match place.find(plugin, session, input, used, too_large, queue) {
        Found::Whole(value) => {
            let now_ms = queue.now_ms();
            queue.command(store_op(&store, value, now_ms), Ticket::Store { verb, noreply });
            Step::Used(used + value.len() + BLOCK_END.len())
        }
        Found::Step(step) => step,
    }
}

/// A value that follows a line: where it is, or what to do until it is there.
pub struct Place<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its length without the end.
    pub len: u32,
    /// Whether it may be received straight into the store.
    pub streams: bool,
    /// The key to forget if it is too large: an old value must not survive a refused new one.
    pub stale: Option<&'a [u8]>,
    /// Errors are not answered either.
    pub noreply: bool,
}

/// What [`Place::find`] found.
pub enum Found<'a> {
    /// The whole value.
    Whole(&'a [u8]),
    /// Not now.
    Step(Step),
}

impl<'a> Place<'a> {
    /// Looks for the value behind the first `used` bytes of `input`.
    pub fn find(
        &self,
        plugin: &Memcache,
        session: &mut Session,
        input: &'a [u8],
        used: usize,
        too_large: Ticket,
        queue: &mut Queue<'a, Ticket>,
    ) -> Found<'a> {
        let len = self.len as usize;
        let rest = &input[used..];
        if u64::from(self.len) > plugin.block_len_max(self.streams, queue.service()) {
            return Found::Step(self.refuse(used, too_large, queue));
        }
        if let Some((value, end)) = rest.split_at_checked(len)
            && end.len() >= BLOCK_END.len()
        {
            if end.starts_with(BLOCK_END) {
                return Found::Whole(value);
            }
            queue.end(Ticket::BadChunk { noreply: self.noreply });
            return Found::Step(Step::Used(used + len + BLOCK_END.len()));
        }
        if !self.streams || len < STREAM_FROM_BYTES {
            return Found::Step(Step::More);
        }
        Found::Step(match queue.begin_body(self.key, u64::from(self.len), Opts::NONE) {
            Ok(()) => {
                session.state = State::Body(input[..used].into());
                Step::Stop(used, Next::Body)
            }
            Err(Status::TOO_LARGE) => self.refuse(used, too_large, queue),
            Err(status) => {
                line(queue, crate::reply_text::failure(status), self.noreply);
                Step::Stop(used, Next::Discard(block_len(self.len)))
            }
        })
    }

    fn refuse(&self, used: usize, too_large: Ticket, queue: &mut Queue<'a, Ticket>) -> Step {
        if let Some(key) = self.stale {
            queue.op(Op::delete(key));
        }
        queue.end(too_large);
        Step::Stop(used, Next::Discard(block_len(self.len)))
    }
}

/// A streamed value is in the store's memory; its end must follow.
fn landed<'a>(session: &mut Session, input: &'a [u8], queue: &mut Queue<'a, Ticket>) -> Step {
    let Some(end) = input.first_chunk::<2>() else { return Step::More };
    let State::Body(header) = std::mem::replace(&mut session.state, State::Command) else {
        return Step::More;
    };
    let header = queue.copy(&header);
    let Line::Whole { line, .. } = line::find(header, 0, usize::MAX) else {
        debug_assert!(false, "a body's header was a whole line");
        queue.drop_body();
        return Step::Stop(input.len(), Next::Close);
    };
    let good = end == BLOCK_END;
    match text::parse(line) {
        Command::Store(store) if good => {
            let op = store_op(&store, &[], queue.now_ms());
            queue.commit_body(op);
            queue.end(Ticket::Store { verb: store.verb, noreply: store.noreply });
        }
        Command::Store(store) => {
            queue.drop_body();
            queue.end(Ticket::BadChunk { noreply: store.noreply });
        }
        Command::Meta(meta) if good => serve_meta::commit(meta, queue),
        _ => {
            queue.drop_body();
            queue.end(Ticket::BadChunk { noreply: false });
        }
    }
    Step::Used(BLOCK_END.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_plain_get_is_recognised_and_nothing_else() {
        assert_eq!(plain_get(b"get key\r\nget"), Some((&b"key"[..], false, 9)));
        assert_eq!(plain_get(b"gets k\r\nget"), Some((&b"k"[..], true, 8)));
        let long = [b"get ", &[b'k'; 250][..], b"\r\n"].concat();
        assert_eq!(plain_get(&long).map(|(k, _, n)| (k.len(), n)), Some((250, 256)));
        let longer = [b"get ", &[b'k'; 251][..], b"\r\n"].concat();
        for other in [
            &b"get key"[..],
            b"get key\r",
            b"get key\n",
            b"get a b\r\n",
            b"get  a\r\n",
            b"get \r\n",
            b"get a\rb\r\n",
            b"get a\0\r\n",
            b"get a\t\r\n",
            b"gets  a\r\n",
            b"get",
            b"",
            &longer,
        ] {
            assert_eq!(plain_get(other), None, "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn the_first_low_byte_is_found(s in proptest::collection::vec(0u8..=255, 0..40)) {
            prop_assert_eq!(first_at_most_space(&s), s.iter().position(|b| *b <= b' '));
        }

        #[test]
        fn a_plain_get_agrees_with_the_general_way(key in "[!-~]{1,60}") {
            let line = format!("get {key}\r\n");
            prop_assert_eq!(plain_get(line.as_bytes()), Some((key.as_bytes(), false, line.len())));
        }
    }
}
