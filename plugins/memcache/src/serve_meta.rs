//! Meta commands to operations.
//!
//! Must hold: whatever a meta command changes, it changes in one operation, so that of any number of
//! racing clients one wins; a `mg` that changes nothing is a plain read. Called by
//! [`crate::serve_text`], which knows the values that follow `ms` lines.

use crucible_plugin_api::{Change, Condition, Item, Modify, Next, Op, Opts, Queue, Status};

use crate::base64;
use crate::counter;
use crate::exptime::{deadline_ms, recache_wins, remaining_s};
use crate::marks::{KEY_BINARY, Outcome, STALE, WON};
use crate::meta::{Flags, Meta, Mode, Return};
use crate::plugin::{Memcache, Worker};
use crate::serve_text::{BLOCK_END, Found, Place, block_len};
use crate::session::{Session, Step};
use crate::stale;
use crate::ticket::{self, MetaKind, Ticket, TooLarge};

const ERROR_DECODING: &str = "CLIENT_ERROR error decoding key";

/// Obeys a meta command whose line took `used` bytes of `input`.
pub fn obey<'a>(
    plugin: &Memcache,
    worker: &mut Worker,
    session: &mut Session,
    meta: Meta<'a>,
    input: &'a [u8],
    used: usize,
    queue: &mut Queue<'a, Ticket>,
) -> Step {
    let scratch = &mut worker.scratch;
    match meta {
        Meta::Get(key, flags) => match decoded(key, flags.base64, scratch, queue) {
            Some(key) => get(key, &flags, queue),
            None => queue.end(Ticket::Line(ERROR_DECODING)),
        },
        Meta::Delete(key, flags) => match decoded(key, flags.base64, scratch, queue) {
            Some(key) => delete(key, &flags, queue),
            None => queue.end(Ticket::Line("CLIENT_ERROR invalid or duplicate flag")),
        },
        Meta::Arithmetic(key, flags, decrement) => {
            match decoded(key, flags.base64, scratch, queue) {
                Some(key) => arithmetic(key, &flags, decrement, queue),
                None => queue.end(Ticket::Line("CLIENT_ERROR invalid or duplicate flag")),
            }
        }
        Meta::Debug(key, base64) => match decoded(key, base64, scratch, queue) {
            Some(key) => {
                let kind = MetaKind::Debug;
                let flags = Flags { base64, ..Flags::default() };
                queue.command(Op::meta(key), Ticket::Meta(meta_ticket(kind, &flags)));
            }
            None => queue.end(Ticket::Line("CLIENT_ERROR bad command line format")),
        },
        Meta::Set(key, flags, mode, len) => {
            let Some(key) = decoded(key, flags.base64, scratch, queue) else {
                queue.end(Ticket::Line(ERROR_DECODING));
                return Step::Stop(used, Next::Discard(block_len(len)));
            };
            return set(plugin, session, Set { key, flags, mode, len }, input, used, queue);
        }
    }
    Step::Used(used)
}

/// The key's bytes. `None`: not base64.
fn decoded<'a>(
    key: &'a [u8],
    is_base64: bool,
    scratch: &mut Vec<u8>,
    queue: &mut Queue<'a, Ticket>,
) -> Option<&'a [u8]> {
    if !is_base64 {
        return Some(key);
    }
    scratch.clear();
    base64::decode(key, scratch)?;
    // Padding alone decodes to nothing.
    (!scratch.is_empty()).then(|| queue.copy(scratch))
}

fn meta_ticket(kind: MetaKind, flags: &Flags<'_>) -> ticket::Meta {
    ticket::Meta {
        kind,
        returns: flags.returns,
        quiet: flags.quiet,
        value: flags.value,
        base64: flags.base64,
        touched: flags.ttl_s.is_some(),
    }
}

/// A token that is returned is meant to be compared later.
fn want_cas(flags: &Flags<'_>) -> Opts {
    if flags.returns.iter().any(|r| r == Return::Cas) { Opts::WANT_CAS } else { Opts::NONE }
}

fn key_marks(flags: &Flags<'_>) -> u8 {
    if flags.base64 { KEY_BINARY } else { 0 }
}

fn deadline_of(seconds: Option<i64>, now_ms: u64) -> Option<u64> {
    seconds.map(|s| deadline_ms(s, now_ms))
}

/// The deadline of an item that `N` creates: the later one of `N` and `T` has the last word.
fn created_deadline(flags: &Flags<'_>, now_ms: u64) -> Option<u64> {
    let vivify = deadline_of(flags.vivify_s, now_ms)?;
    let touch = deadline_of(flags.ttl_s, now_ms).filter(|_| flags.ttl_after_vivify);
    Some(touch.unwrap_or(vivify))
}

fn get<'a>(key: &'a [u8], flags: &Flags<'a>, queue: &mut Queue<'a, Ticket>) {
    let now_ms = queue.now_ms();
    let opts = if flags.no_bump { Opts::NO_TOUCH } else { Opts::NONE } | want_cas(flags);
    let read = Op::get(key).arg(flags.opaque.unwrap_or_default()).opts(opts);
    let touch = deadline_of(flags.ttl_s, now_ms);
    let old_ttl_wanted = touch.is_some() && flags.returns.iter().any(|r| r == Return::TtlBefore);
    let changes = flags.vivify_s.is_some() || flags.recache_s.is_some() || old_ttl_wanted;
    if !changes && !stale::all().contains(key) {
        let read = match touch {
            Some(at) => read.opts(Opts::SET_EXPIRY).expires_at(at),
            None => read,
        };
        return queue.command(read, Ticket::Meta(meta_ticket(MetaKind::Get, flags)));
    }
    let plan = GetPlan {
        now_ms,
        touch,
        create: created_deadline(flags, now_ms),
        recache_s: flags.recache_s,
        marks: key_marks(flags),
        new_cas: flags.new_cas.unwrap_or(0),
    };
    let modify = queue.modify(key, move |old| plan.decide(old));
    // The read after it counts the access, says whether it was the first, and shows the value.
    *modify = std::mem::replace(modify, Op::nop(&[])).opts(Opts::NO_TOUCH);
    queue.op(read);
    queue.end(Ticket::Meta(meta_ticket(MetaKind::GetModify, flags)));
}

/// What a `mg` may change.
#[derive(Clone, Copy, Debug)]
struct GetPlan {
    now_ms: u64,
    touch: Option<u64>,
    create: Option<u64>,
    recache_s: Option<i64>,
    marks: u8,
    new_cas: u64,
}

impl GetPlan {
    fn decide(&self, old: Option<&Item<'_>>) -> Change {
        let Some(item) = old else {
            let Some(expires_at_ms) = self.create else { return Change::keep(Status::MISS) };
            let outcome = Outcome { created: true, won: true, left_before_s: None };
            let marks = self.marks | WON;
            let modify = Modify::Replace { value: Vec::new(), flags: 0, marks, expires_at_ms };
            let note = outcome.to_note();
            return Change { modify, status: Status::OK, note, new_cas: self.new_cas };
        };
        let (marks, expires_at_ms) = (item.marks(), item.expires_at_ms());
        let recache = |s| recache_wins(expires_at_ms, s, self.now_ms);
        let won = marks & WON == 0 && (marks & STALE != 0 || self.recache_s.is_some_and(recache));
        let left = remaining_s(expires_at_ms, self.now_ms);
        let left_before_s = left.map(|s| u32::try_from(s).unwrap_or(u32::MAX));
        let note = Outcome { created: false, won, left_before_s }.to_note();
        let new_marks = if won { marks | WON } else { marks };
        let new_deadline = self.touch.unwrap_or(expires_at_ms);
        let modify = if new_marks == marks && new_deadline == expires_at_ms {
            Modify::Keep
        } else {
            Modify::SetMeta { flags: item.flags(), marks: new_marks, expires_at_ms: new_deadline }
        };
        Change { modify, status: Status::OK, note, new_cas: 0 }
    }
}

fn delete<'a>(key: &'a [u8], flags: &Flags<'a>, queue: &mut Queue<'a, Ticket>) {
    let ticket = Ticket::Meta(meta_ticket(MetaKind::Delete, flags));
    let opaque = flags.opaque.unwrap_or_default();
    if !flags.invalidate && !flags.remove_value {
        let op = Op::delete(key).arg(opaque);
        return queue.command(flags.cas.into_iter().fold(op, Op::if_cas), ticket);
    }
    if flags.invalidate {
        stale::all().insert(key);
    }
    let plan = DeletePlan {
        cas: flags.cas,
        deadline_ms: deadline_of(flags.ttl_s, queue.now_ms()),
        invalidate: flags.invalidate,
        empty: flags.remove_value.then_some(flags.client_flags),
        new_cas: flags.new_cas.unwrap_or(0),
    };
    queue.modify(key, move |old| plan.decide(old));
    queue.op(Op::nop(&[]).arg(opaque));
    queue.end(ticket);
}

/// `md` with `I` or `x`.
#[derive(Clone, Copy, Debug)]
struct DeletePlan {
    cas: Option<u64>,
    deadline_ms: Option<u64>,
    invalidate: bool,
    /// Leave an empty value with these client flags.
    empty: Option<u32>,
    new_cas: u64,
}

impl DeletePlan {
    fn decide(&self, old: Option<&Item<'_>>) -> Change {
        let Some(item) = old else { return Change::keep(Status::MISS) };
        if self.cas.is_some_and(|cas| cas != item.cas()) {
            return Change::keep(Status::EXISTS);
        }
        let key_mark = item.marks() & KEY_BINARY;
        let marks = key_mark | if self.invalidate { STALE } else { 0 };
        // The value is written again, so that its CAS token changes: who fetched it before the
        // invalidation must not store over it.
        let modify = match self.empty {
            Some(flags) => {
                let expires_at_ms = self.deadline_ms.unwrap_or(0);
                Modify::Replace { value: Vec::new(), flags, marks, expires_at_ms }
            }
            None => {
                let expires_at_ms = self.deadline_ms.unwrap_or(item.expires_at_ms());
                let (value, flags) = (item.value().to_vec(), item.flags());
                Modify::Replace { value, flags, marks, expires_at_ms }
            }
        };
        Change { modify, status: Status::OK, note: 0, new_cas: self.new_cas }
    }
}

fn arithmetic<'a>(
    key: &'a [u8],
    flags: &Flags<'a>,
    decrement: bool,
    queue: &mut Queue<'a, Ticket>,
) {
    let now_ms = queue.now_ms();
    let plan = counter::Plan {
        delta: flags.delta.unwrap_or(1),
        decrement,
        cas: flags.cas,
        create: created_deadline(flags, now_ms).map(|at| (flags.initial, at)),
        deadline_ms: deadline_of(flags.ttl_s, now_ms),
        marks: key_marks(flags),
        new_cas: flags.new_cas.unwrap_or(0),
    };
    queue.op(Op::meta(key));
    queue.modify(key, move |old| plan.decide(old));
    queue.op(Op::meta(key).arg(flags.opaque.unwrap_or_default()));
    queue.end(Ticket::Meta(meta_ticket(MetaKind::Arithmetic { decrement }, flags)));
}

/// A `ms` with its decoded key.
#[derive(Clone, Copy)]
struct Set<'a> {
    key: &'a [u8],
    flags: Flags<'a>,
    mode: Mode,
    len: u32,
}

impl<'a> Set<'a> {
    /// A stale value may be taken where the token does not match.
    fn invalidates(&self) -> bool {
        self.flags.invalidate
            && self.flags.cas.is_some()
            && matches!(self.mode, Mode::Set | Mode::Replace)
    }

    fn ticket(&self) -> Ticket {
        let (mode, with_cas, len) = (self.mode, self.flags.cas.is_some(), self.len);
        Ticket::Meta(meta_ticket(MetaKind::Set { mode, with_cas, len }, &self.flags))
    }

    /// The write, if it is a plain one.
    fn op(&self, value: &'a [u8], now_ms: u64) -> Op<'a> {
        let flags = &self.flags;
        let ttl = deadline_of(flags.ttl_s, now_ms).unwrap_or(0);
        let op = match self.mode {
            Mode::Set | Mode::Add | Mode::Replace => Op::store(self.key, value).expires_at(ttl),
            Mode::Append => Op::append(self.key, value),
            Mode::Prepend => Op::prepend(self.key, value),
        };
        let op = match (self.mode, flags.cas) {
            (Mode::Add, _) => op.condition(Condition::IF_ABSENT),
            (Mode::Set | Mode::Replace, Some(cas)) => op.if_cas(cas),
            (Mode::Set, None) => op,
            (Mode::Replace, None) => op.condition(Condition::IF_PRESENT),
            // A token of 0 compares nothing here.
            (Mode::Append | Mode::Prepend, Some(cas)) if cas != 0 => op.if_cas(cas),
            (Mode::Append | Mode::Prepend, _) => match deadline_of(flags.vivify_s, now_ms) {
                Some(at) => op.expires_at(at),
                None => op.condition(Condition::IF_PRESENT),
            },
        };
        op.flags(flags.client_flags)
            .marks(key_marks(flags))
            .new_cas(flags.new_cas.unwrap_or(0))
            .opts(want_cas(flags))
            .arg(flags.opaque.unwrap_or_default())
    }

    fn queue_whole(&self, value: &'a [u8], queue: &mut Queue<'a, Ticket>) {
        let now_ms = queue.now_ms();
        if !self.invalidates() {
            return queue.command(self.op(value, now_ms), self.ticket());
        }
        stale::all().insert(self.key);
        let plan = StaleSetPlan {
            cas: self.flags.cas.unwrap_or(0),
            client_flags: self.flags.client_flags,
            marks: key_marks(&self.flags),
            deadline_ms: deadline_of(self.flags.ttl_s, now_ms).unwrap_or(0),
            new_cas: self.flags.new_cas.unwrap_or(0),
        };
        queue.modify(self.key, move |old| plan.decide(old, value));
        queue.op(Op::nop(&[]).arg(self.flags.opaque.unwrap_or_default()));
        queue.end(self.ticket());
    }
}

/// `ms` with `I` and `C`.
#[derive(Clone, Copy, Debug)]
struct StaleSetPlan {
    cas: u64,
    client_flags: u32,
    marks: u8,
    deadline_ms: u64,
    new_cas: u64,
}

impl StaleSetPlan {
    fn decide(&self, old: Option<&Item<'_>>, value: &[u8]) -> Change {
        let Some(item) = old else { return Change::keep(Status::MISS) };
        let (marks, expires_at_ms) = if self.cas == item.cas() {
            (self.marks, self.deadline_ms)
        } else if self.cas != 0 {
            // Any other token counts as an older one: tokens are not ascending in every backend,
            // and what is stored is marked stale all the same.
            (self.marks | STALE | item.marks() & WON, item.expires_at_ms())
        } else {
            return Change::keep(Status::EXISTS);
        };
        let flags = self.client_flags;
        let modify = Modify::Replace { value: value.to_vec(), flags, marks, expires_at_ms };
        Change { modify, status: Status::OK, note: 0, new_cas: self.new_cas }
    }
}

fn set<'a>(
    plugin: &Memcache,
    session: &mut Session,
    set: Set<'a>,
    input: &'a [u8],
    used: usize,
    queue: &mut Queue<'a, Ticket>,
) -> Step {
    let streams = matches!(set.mode, Mode::Set | Mode::Add | Mode::Replace) && !set.invalidates();
    // Unlike `set`, every mode of `ms` forgets the old value if the new one is too large.
    let stale = Some(set.key);
    let place = Place { key: set.key, len: set.len, streams, stale, noreply: false };
    let too_large = Ticket::TooLarge(TooLarge::Text { noreply: false });
    match place.find(plugin, session, input, used, too_large, queue) {
        Found::Whole(value) => {
            set.queue_whole(value, queue);
            Step::Used(used + value.len() + BLOCK_END.len())
        }
        Found::Step(step) => step,
    }
}

/// A streamed `ms` has landed: publishes it.
pub fn commit<'a>(meta: Meta<'a>, queue: &mut Queue<'a, Ticket>) {
    let Meta::Set(key, flags, mode, len) = meta else {
        debug_assert!(false, "only ms has a body");
        return queue.drop_body();
    };
    let mut scratch = Vec::new();
    let Some(key) = decoded(key, flags.base64, &mut scratch, queue) else {
        debug_assert!(false, "the key was decoded before its body was begun");
        return queue.drop_body();
    };
    let set = Set { key, flags, mode, len };
    let op = set.op(&[], queue.now_ms());
    queue.commit_body(op);
    queue.end(set.ticket());
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    fn plan() -> GetPlan {
        GetPlan { now_ms: NOW, touch: None, create: None, recache_s: None, marks: 0, new_cas: 0 }
    }

    fn item(marks: u8, expires_at_ms: u64) -> Item<'static> {
        Item::of_bytes(b"v", 5, 7, marks, expires_at_ms)
    }

    #[test]
    fn a_stale_item_is_won_once() {
        let first = plan().decide(Some(&item(STALE, 0)));
        assert!(Outcome::from_note(first.note).won);
        assert_eq!(
            first.modify,
            Modify::SetMeta { flags: 7, marks: STALE | WON, expires_at_ms: 0 }
        );
        let second = plan().decide(Some(&item(STALE | WON, 0)));
        assert!(!Outcome::from_note(second.note).won);
        assert_eq!(second.modify, Modify::Keep);
    }

    #[test]
    fn a_missing_item_is_created_and_won() {
        let change = GetPlan { create: Some(9), ..plan() }.decide(None);
        assert_eq!(
            change.modify,
            Modify::Replace { value: vec![], flags: 0, marks: WON, expires_at_ms: 9 }
        );
        assert_eq!(
            Outcome::from_note(change.note),
            Outcome { created: true, won: true, left_before_s: None }
        );
        assert_eq!(plan().decide(None).status, Status::MISS);
    }

    #[test]
    fn recache_is_won_only_when_little_is_left() {
        let soon = item(0, NOW + 20_000);
        assert!(
            Outcome::from_note(GetPlan { recache_s: Some(30), ..plan() }.decide(Some(&soon)).note)
                .won
        );
        assert!(
            !Outcome::from_note(GetPlan { recache_s: Some(10), ..plan() }.decide(Some(&soon)).note)
                .won
        );
        let never = item(0, 0);
        assert!(
            !Outcome::from_note(
                GetPlan { recache_s: Some(30), ..plan() }.decide(Some(&never)).note
            )
            .won
        );
    }

    #[test]
    fn invalidating_lets_the_next_reader_win_and_keeps_the_value() {
        let plan = DeletePlan {
            cas: None,
            deadline_ms: Some(3),
            invalidate: true,
            empty: None,
            new_cas: 0,
        };
        let change = plan.decide(Some(&item(WON | KEY_BINARY, 99)));
        assert_eq!(
            change.modify,
            Modify::Replace {
                value: b"v".to_vec(),
                flags: 7,
                marks: STALE | KEY_BINARY,
                expires_at_ms: 3
            }
        );
        assert_eq!(
            DeletePlan { cas: Some(4), ..plan }.decide(Some(&item(0, 0))).status,
            Status::EXISTS
        );
        assert_eq!(plan.decide(None).status, Status::MISS);
    }

    #[test]
    fn another_token_may_store_a_stale_value_and_none_may_not() {
        let plan = StaleSetPlan { cas: 4, client_flags: 1, marks: 0, deadline_ms: 50, new_cas: 0 };
        let stale = plan.decide(Some(&item(STALE | WON, 70)), b"n");
        let want = Modify::Replace {
            value: b"n".to_vec(),
            flags: 1,
            marks: STALE | WON,
            expires_at_ms: 70,
        };
        assert_eq!(stale.modify, want);
        let fresh = StaleSetPlan { cas: 5, ..plan }.decide(Some(&item(STALE | WON, 70)), b"n");
        let want = Modify::Replace { value: b"n".to_vec(), flags: 1, marks: 0, expires_at_ms: 50 };
        assert_eq!(fresh.modify, want);
        assert_eq!(
            StaleSetPlan { cas: 0, ..plan }.decide(Some(&item(0, 0)), b"n").status,
            Status::EXISTS
        );
    }
}
