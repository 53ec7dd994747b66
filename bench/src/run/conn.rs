//! One connection: what it has asked, and how the bytes that come back are read and judged.
//!
//! Always true: replies are taken in the order of the requests; a value's bytes are judged as they
//! arrive and never gathered; after garbage nothing more is read. Called by the worker.

use std::collections::VecDeque;
use std::time::Duration;

use kompio::{ConnToken, OutBuf};

use super::channel::Channel;
use super::pending::{Extra, Flight, Pending, Request};
use super::stamps::Stamps;
use super::work::Work;
use crate::record::sample::{All, Of};
use crate::wire::{Codec, Expect, Garbage, Login, Outcome, Step, excerpt};
use crate::workload::content::Check;
use crate::workload::ledger::Floor;
use crate::workload::mix::Verb;

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Closed; comes back by a timer, or never.
    Down,
    /// On its way.
    Connecting,
    /// Established; TLS is being agreed upon.
    Securing,
    /// Its greeting is not answered yet.
    Greeting,
    /// Carries requests.
    Up,
}

#[derive(Debug)]
pub(super) struct Value {
    left: usize,
    check: Option<Check>,
    id: u64,
    floor: Floor,
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Conn<C> {
    pub(super) codec: C,
    pub(super) endpoint: u16,
    pub(super) token: Option<ConnToken>,
    pub(super) state: State,
    /// What its bytes go through; most go straight to the socket.
    pub(super) channel: Option<Box<Channel>>,
    /// The kernel's clock, where it was asked for.
    pub(super) stamps: Option<Box<Stamps>>,
    /// When the kernel received what is being read.
    pub(super) received: Option<Duration>,
    /// When the connection was begun or the greeting was sent.
    pub(super) since_ns: u64,
    pub(super) pending: Flight,
    /// Keys of the mgets in `pending`, in order.
    pub(super) keys: VecDeque<(u64, Floor)>,
    /// Requests that follow from replies and come before any other.
    pub(super) follow: VecDeque<Request>,
    /// Whether it stands in the worker's list of connections with room.
    pub(super) listed: bool,
    pub(super) value: Option<Value>,
    greeting: Expect,
    /// Which keys of the reply in progress were found.
    found: u128,
    token_seen: u64,
    /// When the first byte of the reply in progress came; 0 between replies.
    pub(super) first_byte_ns: u64,
}

impl<C: Codec> Conn<C> {
    pub(super) fn new(endpoint: u16) -> Self {
        Self {
            codec: C::new(),
            endpoint,
            token: None,
            state: State::Down,
            channel: None,
            stamps: None,
            received: None,
            since_ns: 0,
            pending: Flight::default(),
            keys: VecDeque::new(),
            follow: VecDeque::new(),
            listed: false,
            value: None,
            greeting: Expect::Hello,
            found: 0,
            token_seen: 0,
            first_byte_ns: 0,
        }
    }

    /// Whether another request may be sent.
    #[inline]
    pub(super) fn has_room(&self, depth: usize) -> bool {
        self.state == State::Up && self.pending.len() < depth
    }

    /// How many more may be sent.
    #[inline]
    pub(super) fn room(&self, depth: usize) -> usize {
        if self.state == State::Up { depth.saturating_sub(self.pending.len()) } else { 0 }
    }

    /// A fresh connection begins: nothing of the old one is left.
    pub(super) fn restart(&mut self, login: &std::sync::Arc<Login>) {
        debug_assert!(self.pending.is_empty());
        self.codec = C::new();
        self.codec.login(login);
        self.channel = None;
        self.stamps = None;
        self.value = None;
        self.found = 0;
        self.first_byte_ns = 0;
        self.keys.clear();
        self.follow.clear();
    }

    /// Seals what was written from `from` on, where there is a channel.
    #[inline]
    pub(super) fn seal(&mut self, out: &mut OutBuf, from: usize) {
        if let Some(channel) = &mut self.channel {
            channel.seal(out.as_mut_vec(), from);
        }
    }

    /// Notes that the greeting was sent.
    pub(super) fn greet(&mut self, expect: Expect) {
        self.greeting = expect;
        self.state = State::Greeting;
    }

    /// Reads what arrived; gives how many bytes are done with.
    ///
    /// # Errors
    /// When the server answered what is no answer.
    pub(super) fn receive(
        &mut self,
        data: &[u8],
        now_ns: u64,
        work: &mut Work,
    ) -> Result<usize, Garbage> {
        let mut used = 0;
        loop {
            if let Some(value) = &mut self.value {
                let take = value.left.min(data.len() - used);
                if let Some(check) = &mut value.check {
                    check.feed(work.shared.pool, &data[used..used + take]);
                }
                used += take;
                value.left -= take;
                if value.left > 0 {
                    return Ok(used);
                }
                if let Some(Value { check: Some(check), id, floor, .. }) = self.value.take() {
                    work.judge(&check, id, floor);
                }
            }
            if self.between_replies() {
                used += self.receive_whole(&data[used..], now_ns, work);
            }
            let rest = &data[used..];
            if self.state == State::Greeting {
                match self.codec.step(rest, self.greeting)? {
                    Step::Done { used: n, outcome: Outcome::Ok } => {
                        used += n;
                        self.state = State::Up;
                        continue;
                    }
                    Step::More => return Ok(used),
                    Step::Done { outcome: Outcome::Error(words), .. } => {
                        return Err(Garbage::Refused { words: excerpt(&rest[words]) });
                    }
                    _ => {
                        return Err(Garbage::Unexpected {
                            text: excerpt(rest),
                            expect: self.greeting,
                        });
                    }
                }
            }
            let Some(pending) = self.pending.front() else {
                return if rest.is_empty() {
                    Ok(used)
                } else {
                    Err(Garbage::Unasked { text: excerpt(rest) })
                };
            };
            if self.first_byte_ns == 0 && !rest.is_empty() {
                self.first_byte_ns = now_ns;
                if pending.request.measured {
                    work.sample.first_byte.record(now_ns.saturating_sub(pending.sent_ns));
                }
            }
            match self.codec.step(rest, expect(pending.request.verb))? {
                Step::More => return Ok(used),
                Step::Value { skip, len, key, place, flags, token } => {
                    let key = key.map(|range| &rest[range]);
                    self.token_seen = token;
                    self.begin_value(&pending, key, place, flags, len, work);
                    used += skip;
                }
                Step::Done { used: n, outcome } => {
                    let words = match &outcome {
                        Outcome::Error(range) => &rest[range.clone()],
                        _ => &[],
                    };
                    self.pending.pop();
                    self.complete(&pending, &outcome, words, now_ns, work);
                    used += n;
                }
            }
        }
    }

    /// A value begins: finds out whose it is.
    fn begin_value(
        &mut self,
        pending: &Pending,
        key: Option<&[u8]>,
        place: Option<usize>,
        flags: Option<u32>,
        len: usize,
        work: &mut Work,
    ) {
        let verb = pending.request.verb;
        // A counter's number, or a reply that is not judged.
        if matches!(verb, Verb::Incr | Verb::Template(_)) {
            self.value = Some(Value { left: len, check: None, id: 0, floor: Floor::default() });
            return;
        }
        let judged = work.shared.plan.verify != crate::config::choices::Verify::Off;
        let count = usize::from(pending.keys).max(1);
        let owner = |at: usize, conn: &Self| {
            if pending.keys == 0 { (pending.request.id, pending.floor) } else { conn.keys[at] }
        };
        let at = match (place, key) {
            (Some(place), _) if place < count => Some(place),
            (_, Some(key)) if judged => (0..count).find(|at| {
                self.found >> at & 1 == 0
                    && work.is_key_of(key, &pending.request, owner(*at, self).0)
            }),
            // Without a check the order of the request is believed.
            _ => Some(self.found.trailing_ones() as usize).filter(|at| *at < count),
        };
        let Some(at) = at else {
            work.wrong(pending.request.id, "names a key that was not asked for");
            self.value = Some(Value { left: len, check: None, id: 0, floor: Floor::default() });
            return;
        };
        let (id, floor) = owner(at, self);
        if self.found >> at & 1 == 1 {
            work.wrong(id, "came twice");
        }
        self.found |= 1 << at;
        if judged && !work.flags_fit(id, flags) {
            work.wrong(id, "has other client flags than were stored");
        }
        self.value = Some(Value { left: len, check: work.check(id, len), id, floor });
    }

    fn complete(
        &mut self,
        pending: &Pending,
        outcome: &Outcome,
        words: &[u8],
        now_ns: u64,
        work: &mut Work,
    ) {
        self.first_byte_ns = 0;
        self.clock(pending.request.measured, work);
        let found = std::mem::take(&mut self.found);
        let request = &pending.request;
        self.settle(pending, outcome, work);
        if matches!(outcome, Outcome::Error(_)) && work.redirect(request, words) {
            return;
        }
        work.answered(pending, now_ns);
        match outcome {
            Outcome::Error(_) => {
                work.count(request, Of::Errors, 1);
                work.sample.error(words);
                if work.prefilling {
                    work.trouble(|| {
                        format!("prefill: key {} was refused: {}", request.id, excerpt(words))
                    });
                }
            }
            Outcome::NotStored => work.count(request, Of::NotStored, 1),
            Outcome::Miss => self.missed(request, now_ns, work),
            Outcome::Ok => self.succeeded(pending, found, now_ns, work),
        }
        self.keys.drain(..usize::from(pending.keys));
    }

    /// Records what the kernel's clock says of the reply.
    #[inline]
    fn clock(&mut self, measured: bool, work: &mut Work) {
        let Some(stamps) = &mut self.stamps else { return };
        match stamps.answered(self.received) {
            Some(took_ns) if measured => work.sample.kernel.record(took_ns),
            None if measured => work.sample.add(All::Unstamped, 1),
            _ => {}
        }
    }

    /// Tells the ledger how a write ended.
    fn settle(&mut self, pending: &Pending, outcome: &Outcome, work: &mut Work) {
        if !pending.write {
            return;
        }
        let id = pending.request.id;
        let Some(ledger) = &work.shared.ledger else { return };
        match (outcome, pending.request.verb) {
            // After a delete that found nothing, nothing older may be seen either.
            (Outcome::Ok | Outcome::Miss, Verb::Delete) => ledger.acknowledge(id, true),
            (Outcome::Ok, _) => ledger.acknowledge(id, false),
            _ => ledger.refuse(id),
        }
    }

    fn missed(&mut self, request: &Request, now_ns: u64, work: &mut Work) {
        work.count(request, Of::Misses, 1);
        match request.verb {
            Verb::Get => self.backfill(request, request.id, now_ns, work),
            Verb::Incr => self.follow.push_back(Request {
                verb: Verb::CounterInit,
                intended_ns: now_ns,
                ..*request
            }),
            _ => {}
        }
    }

    fn succeeded(&mut self, pending: &Pending, found: u128, now_ns: u64, work: &mut Work) {
        let request = &pending.request;
        match request.verb {
            Verb::Get => work.count(request, Of::Hits, 1),
            Verb::Gets => {
                work.count(request, Of::Hits, 1);
                self.follow.push_back(Request {
                    verb: Verb::Cas,
                    intended_ns: now_ns,
                    extra: Extra { token: self.token_seen, ..request.extra },
                    ..*request
                });
            }
            Verb::MGet => {
                let hits = u64::from(found.count_ones());
                work.count(request, Of::Hits, hits);
                work.count(request, Of::Misses, u64::from(pending.keys) - hits);
                if work.shared.plan.backfill_on_miss {
                    for at in (0..usize::from(pending.keys)).filter(|at| found >> at & 1 == 0) {
                        let id = self.keys[at].0;
                        self.backfill(request, id, now_ns, work);
                    }
                }
            }
            Verb::Set if work.prefilling => work.confirmed += 1,
            Verb::Delete | Verb::Touch | Verb::Incr => work.count(request, Of::Hits, 1),
            _ => {}
        }
    }

    fn backfill(&mut self, request: &Request, id: u64, now_ns: u64, work: &mut Work) {
        if work.shared.plan.backfill_on_miss {
            work.sample.add(All::Backfills, 1);
            self.follow.push_back(Request { verb: Verb::Set, id, intended_ns: now_ns, ..*request });
        }
    }
}

/// The reply that a command has.
fn expect(verb: Verb) -> Expect {
    match verb {
        Verb::Get | Verb::Gets => Expect::Get,
        Verb::MGet => Expect::GetMany,
        Verb::Set | Verb::Cas | Verb::CounterInit => Expect::Store,
        Verb::Delete => Expect::Delete,
        Verb::Incr => Expect::Incr,
        Verb::Touch => Expect::Touch,
        Verb::Ping => Expect::Ping,
        Verb::Template(_) | Verb::Asking => Expect::Any,
    }
}
