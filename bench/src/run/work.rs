//! A worker's own state beside its connections: what it draws from and what it counts into.
//!
//! Always true: verdicts about values are counted in every phase, latencies and outcomes only for
//! requests of the measured time. Called by the worker and its connections.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use super::pending::{Pending, Request};
use super::route::Router;
use super::shared::{SharedRef, Told, flags_of, write_key};
use crate::config::choices::Verify;
use crate::record::sample::{All, CommandSample, Of, Sample};
use crate::workload::content::{Check, Finding, Stamp};
use crate::workload::key_hash;
use crate::workload::ledger::{Floor, Stale};
use crate::workload::mix::Verb;

/// Most troubles a worker tells of; they are counted all the same.
const TROUBLES_MAX: u32 = 5;

/// Most times one request is sent elsewhere.
const REDIRECTS_MAX: u8 = 5;

/// A request that a node of a cluster sent to another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Redirect {
    pub(super) request: Request,
    /// The place of the node that was named.
    pub(super) server: usize,
    /// Whether ASKING has to go before it.
    pub(super) asking: bool,
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) shared: SharedRef,
    pub(super) id: usize,
    pub(super) sample: Sample,
    /// Whether the worker now fills, and how many keys are confirmed and refused.
    pub(super) prefilling: bool,
    pub(super) confirmed: u64,
    pub(super) open_loop: bool,
    pub(super) in_flight: u64,
    /// Requests that the cluster sent elsewhere.
    pub(super) redirects: VecDeque<Redirect>,
    troubles: u32,
    scratch: Vec<u8>,
    /// Versions where there is no ledger.
    version: u32,
}

impl Work {
    pub(super) fn new(shared: SharedRef, id: usize) -> Self {
        let commands = shared.roster.verbs.len();
        Self {
            shared,
            id,
            sample: Sample::new(commands),
            prefilling: false,
            confirmed: 0,
            open_loop: false,
            in_flight: 0,
            redirects: VecDeque::new(),
            troubles: 0,
            scratch: Vec::new(),
            version: 0,
        }
    }

    /// Tells the conductor; it is gone only when the program ends.
    pub(super) fn tell(&self, told: Told) {
        let sender = self.shared.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = sender.send((self.id, told));
    }

    /// Tells a person, a few times.
    pub(super) fn trouble(&mut self, text: impl FnOnce() -> String) {
        self.troubles += 1;
        if self.troubles <= TROUBLES_MAX {
            self.tell(Told::Trouble(text()));
        }
    }

    #[inline]
    pub(super) fn command(&mut self, verb: Verb) -> &mut CommandSample {
        let place = self.shared.roster.place(verb);
        &mut self.sample.commands[place]
    }

    /// The version of a write that is about to be sent.
    #[inline]
    pub(super) fn begin_write(&mut self, id: u64) -> u32 {
        match &self.shared.ledger {
            Some(ledger) => ledger.begin(id),
            None => {
                self.version = self.version.wrapping_add(1);
                self.version
            }
        }
    }

    #[inline]
    pub(super) fn floor(&self, id: u64) -> Floor {
        self.shared.ledger.as_ref().map_or_else(Floor::default, |ledger| ledger.floor(id))
    }

    /// A check for the value of `id`, unless verification is off.
    #[inline]
    pub(super) fn check(&self, id: u64, len: usize) -> Option<Check> {
        (self.shared.plan.verify != Verify::Off).then(|| Check::new(key_hash(id), len))
    }

    /// Whether the key that came with a value is the key of `id`.
    pub(super) fn is_key_of(&mut self, key: &[u8], request: &Request, id: u64) -> bool {
        self.scratch.clear();
        let len = self.shared.key_len(id, request.extra.key_len);
        write_key(&mut self.scratch, id, len, request.verb == Verb::Incr);
        self.scratch == key
    }

    /// A value answered another key, or came with other flags.
    pub(super) fn wrong(&mut self, id: u64, what: &'static str) {
        self.sample.add(All::Wrong, 1);
        self.trouble(|| format!("wrong value: the answer for key {id} {what}"));
    }

    /// Flags as they were stored, when the protocol has them.
    #[inline]
    pub(super) fn flags_fit(&self, id: u64, flags: Option<u32>) -> bool {
        flags.is_none_or(|flags| flags == flags_of(id))
    }

    /// A plain read's value came whole; whoever calls counts it as verified.
    #[inline]
    pub(super) fn judge_whole(
        &mut self,
        id: u64,
        key: Option<&[u8]>,
        flags: Option<u32>,
        value: &[u8],
        floor: Floor,
    ) {
        if let Some(key) = key {
            self.scratch.clear();
            write_key(&mut self.scratch, id, self.shared.key_len(id, 0), false);
            if self.scratch != key {
                return self.wrong(id, "names a key that was not asked for");
            }
        }
        if !self.flags_fit(id, flags) {
            self.wrong(id, "has other client flags than were stored");
        }
        match Check::whole(self.shared.pool, key_hash(id), value) {
            Finding::Whole(Some(stamp)) => self.judge_age(stamp, id, floor),
            found => self.find(found, id, floor),
        }
    }

    /// A value is complete.
    pub(super) fn judge(&mut self, check: &Check, id: u64, floor: Floor) {
        self.sample.add(All::Verified, 1);
        self.find(check.finish(), id, floor);
    }

    fn find(&mut self, finding: Finding, id: u64, floor: Floor) {
        match finding {
            Finding::Wrong => self.wrong(id, "is not a value of this key"),
            Finding::Torn => {
                self.sample.add(All::Torn, 1);
                self.trouble(|| {
                    format!("torn value: the bytes of key {id} do not belong together")
                });
            }
            Finding::Whole(None) => {}
            Finding::Whole(Some(stamp)) => self.judge_age(stamp, id, floor),
        }
    }

    #[inline]
    fn judge_age(&mut self, stamp: Stamp, id: u64, floor: Floor) {
        let Some(ledger) = &self.shared.ledger else { return };
        let version = (stamp.run == self.shared.run).then_some(stamp.version);
        // The newest that was acknowledged, as nearly always: no need to look at the key's entry again.
        if version.unwrap_or(0) == floor.version {
            return;
        }
        let Err(stale) = ledger.judge(id, floor, version) else { return };
        let (counter, words) = match stale {
            Stale::Overwritten => (All::Stale, "an acknowledged write was newer"),
            Stale::Deleted => (All::StaleAfterDelete, "its delete had been acknowledged"),
            Stale::NeverWritten => (All::NeverWritten, "it was never written"),
        };
        self.sample.add(counter, 1);
        self.trouble(|| format!("stale value: key {id} answered version {version:?} (0 or none: an earlier run), but {words}"));
    }

    /// The request was answered at `now_ns`.
    #[inline]
    pub(super) fn answered(&mut self, pending: &Pending, now_ns: u64) {
        self.in_flight -= 1;
        if !pending.request.measured {
            return;
        }
        let open = self.open_loop;
        let command = self.command(pending.request.verb);
        command.add(Of::Responses, 1);
        command.latency.record(now_ns.saturating_sub(pending.request.intended_ns));
        if open {
            command.service.record(now_ns.saturating_sub(pending.sent_ns));
        }
    }

    /// Follows `MOVED slot host:port` and `ASK slot host:port` to servers that are known.
    pub(super) fn redirect(&mut self, request: &Request, words: &[u8]) -> bool {
        if !matches!(self.shared.router, Router::Cluster(_)) {
            return false;
        }
        let text = String::from_utf8_lossy(words);
        let parts: Vec<&str> = text.split(' ').collect();
        let [kind @ ("MOVED" | "ASK"), slot, node] = parts[..] else { return false };
        let server = self.shared.plan.endpoints.iter().position(|e| e.name == node);
        let (Ok(slot), Some(server)) = (slot.parse(), server) else { return false };
        // Nodes that send a request around for ever answer it with an error in the end.
        if request.extra.redirects == REDIRECTS_MAX {
            return false;
        }
        self.in_flight -= 1;
        self.sample.add(All::Redirects, 1);
        let asking = kind == "ASK";
        if !asking {
            self.shared.router.moved(slot, server as u16);
        }
        let mut request = *request;
        request.extra.redirects += 1;
        self.redirects.push_back(Redirect { request, server, asking });
        true
    }

    #[inline]
    pub(super) fn count(&mut self, request: &Request, of: Of, n: u64) {
        if request.measured {
            self.command(request.verb).add(of, n);
        }
    }

    /// The request will not be answered: its age so far is the least its latency can be.
    pub(super) fn given_up(&mut self, pending: &Pending, now_ns: u64, of: Of) {
        self.in_flight -= 1;
        if let (true, Some(ledger)) = (pending.write, &self.shared.ledger) {
            ledger.lose(pending.request.id);
        }
        if pending.request.measured {
            let open = self.open_loop;
            let command = self.command(pending.request.verb);
            command.add(of, 1);
            command.latency.record(now_ns.saturating_sub(pending.request.intended_ns));
            if open {
                command.service.record(now_ns.saturating_sub(pending.sent_ns));
            }
        }
    }

    /// Publishes what prefill confirmed since the last call.
    #[inline]
    pub(super) fn publish_confirmed(&mut self) {
        if self.confirmed > 0 {
            self.shared.confirmed.fetch_add(std::mem::take(&mut self.confirmed), Ordering::Relaxed);
        }
    }
}
