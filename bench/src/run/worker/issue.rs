//! How a worker writes one request of any kind, and what it notes to judge the answer by.
//!
//! Always true: what is written is counted and queued in the same step, so a reply always finds its request.
//! Called when a request is due.

use kompio::OutBuf;

use super::super::by_reference::{BY_REFERENCE_LEN_BYTES_MIN, splice};
use super::super::pending::{Extra, Packed, Pending, Request};
use super::super::shared::{flags_of, write_key};
use super::{Worker, is_counter};
use crate::record::sample::{All, Of};
use crate::wire::{Codec, Condition, Store};
use crate::workload::content::Stamp;
use crate::workload::key_hash;
use crate::workload::mix::{Part, Verb};

impl<C: Codec> Worker<C> {
    /// Writes a request and notes what its answer may be.
    #[inline]
    pub(super) fn issue(&mut self, number: u32, out: &mut OutBuf, request: Request, now_ns: u64) {
        if self.work.open_loop && request.measured {
            // Late by the generator's fault: not while every connection was busy.
            let due_ns = request.intended_ns.max(self.room_ns);
            self.work.sample.slip.record(now_ns.saturating_sub(due_ns));
        }
        if request.verb == Verb::Get
            && request.extra == Extra::default()
            && let Some(template) = &self.read_template
        {
            let floor = self.work.floor(request.id);
            let out = out.as_mut_vec();
            let before = out.len();
            template.write(out, request.id);
            self.work.sample.add(All::BytesSent, (out.len() - before) as u64);
            self.work.count(&request, Of::Requests, 1);
            self.work.in_flight += 1;
            let Request { id, intended_ns, measured, .. } = request;
            let read = Packed::read(id, now_ns, intended_ns, measured, floor);
            let conn = &mut self.conns[number as usize];
            conn.pending.push_read(read);
            if let Some(stamps) = &mut conn.stamps {
                stamps.requested(out.len() - before);
            }
            return;
        }
        let before = out.total_len();
        let mut pending =
            Pending { request, sent_ns: now_ns, floor: Default::default(), keys: 0, write: false };
        self.scratch.clear();
        let id = request.id;
        let key_len = self.shared.key_len(id, request.extra.key_len);
        write_key(&mut self.scratch, id, key_len, is_counter(request.verb));
        match request.verb {
            Verb::Get | Verb::Gets => {
                pending.floor = self.work.floor(id);
                let codec = &mut self.conns[number as usize].codec;
                codec.get(out.as_mut_vec(), &self.scratch, request.verb == Verb::Gets);
            }
            Verb::Set => pending.write = self.store(number, out, &request, Condition::Always),
            Verb::Cas => {
                pending.write =
                    self.store(number, out, &request, Condition::Token(request.extra.token))
            }
            Verb::MGet => pending.keys = self.get_many(number, out, &request),
            Verb::Template(index) => self.template(number, out, &request, index),
            Verb::Delete => {
                self.work.begin_write(id);
                pending.write = true;
                self.conns[number as usize].codec.delete(out.as_mut_vec(), &self.scratch);
            }
            Verb::Incr => self.conns[number as usize].codec.incr(out.as_mut_vec(), &self.scratch),
            Verb::Touch => {
                let ttl_s = self.ttl_s(&request).max(1);
                self.conns[number as usize].codec.touch(out.as_mut_vec(), &self.scratch, ttl_s);
            }
            Verb::Asking => {
                self.keys.clear();
                self.keys.push_with(|out| out.extend_from_slice(b"ASKING"));
                self.conns[number as usize].codec.command(out.as_mut_vec(), &self.keys);
            }
            Verb::Ping => self.conns[number as usize].codec.ping(out.as_mut_vec()),
            Verb::CounterInit => {
                let store = Store { len: 1, flags: 0, ttl_s: 0, condition: Condition::IfAbsent };
                let codec = &mut self.conns[number as usize].codec;
                codec.store(out.as_mut_vec(), &self.scratch, store, |out| out.push(b'1'));
            }
        }
        self.work.sample.add(All::BytesSent, (out.total_len() - before) as u64);
        self.work.count(&request, Of::Requests, 1);
        self.work.in_flight += 1;
        let conn = &mut self.conns[number as usize];
        conn.pending.push(pending);
        if let Some(stamps) = &mut conn.stamps {
            stamps.requested(out.total_len() - before);
        }
    }

    pub(super) fn ttl_s(&mut self, request: &Request) -> u32 {
        let Some(ttl) = &self.shared.plan.ttl else { return 0 };
        let word = self.draw.keys.rng().word();
        u32::try_from(ttl.draw(word, u64::from(request.extra.ttl_s))).unwrap_or(u32::MAX)
    }

    /// Writes a store; gives whether the ledger counts it as a write.
    pub(super) fn store(
        &mut self,
        number: u32,
        out: &mut OutBuf,
        request: &Request,
        condition: Condition,
    ) -> bool {
        let id = request.id;
        let len = self.shared.value_len(id, request.extra.value_len);
        let ttl_s = self.ttl_s(request);
        let stamp = Stamp { run: self.shared.run, version: self.work.begin_write(id) };
        let store = Store { len, flags: flags_of(id), ttl_s, condition };
        let (pool, hash) = (self.shared.pool, key_hash(id));
        let conn = &mut self.conns[number as usize];
        // What is sealed is copied anyway.
        let copied = len < BY_REFERENCE_LEN_BYTES_MIN || conn.channel.is_some();
        let codec = &mut conn.codec;
        if copied {
            codec.store(out.as_mut_vec(), &self.scratch, store, |out| {
                pool.write(out, hash, stamp, len)
            });
            return true;
        }
        let mut body = None;
        codec.store(out.as_mut_vec(), &self.scratch, store, |out| {
            let pieces = pool.write_head(out, hash, stamp, len);
            body = Some((out.len(), pieces));
        });
        if let Some((at, pieces)) = body {
            splice(out, at, pieces);
        }
        true
    }

    pub(super) fn get_many(&mut self, number: u32, out: &mut OutBuf, request: &Request) -> u8 {
        self.keys.clear();
        let count = self.shared.plan.mget_keys;
        let conn = &mut self.conns[number as usize];
        for n in 0..count {
            let id = if n == 0 { request.id } else { self.draw.keys.id() };
            let len = self.shared.key_len(id, 0);
            self.keys.push_with(|out| write_key(out, id, len, false));
            conn.keys.push_back((id, self.work.floor(id)));
        }
        conn.codec.get_many(out.as_mut_vec(), &self.keys);
        count as u8
    }

    pub(super) fn template(&mut self, number: u32, out: &mut OutBuf, request: &Request, index: u8) {
        self.keys.clear();
        let (id, pool) = (request.id, self.shared.pool);
        let len = self.shared.value_len(id, request.extra.value_len);
        let stamp = Stamp { run: self.shared.run, version: 0 };
        let rng = self.draw.keys.rng();
        for argument in &self.shared.plan.mix.templates[index as usize].arguments {
            self.keys.push_with(|out| {
                for part in argument {
                    match part {
                        Part::Literal(bytes) => out.extend_from_slice(bytes),
                        Part::Key => out.extend_from_slice(&self.scratch),
                        Part::Value => pool.write(out, key_hash(id), stamp, len),
                        Part::Number => out.extend_from_slice(
                            itoa::Buffer::new().format(rng.below(1_000_000)).as_bytes(),
                        ),
                    }
                }
            });
        }
        self.conns[number as usize].codec.command(out.as_mut_vec(), &self.keys);
    }
}
