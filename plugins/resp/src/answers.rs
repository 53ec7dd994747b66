//! From outcomes to bytes: the way of an answer through a connection's modes.
//!
//! A value that was found, and an answer about one element, is written at once; everything else goes through [`reply`]. Called by the
//! engine once for each ticket, in order.

use crucible_plugin_api::{After, Op, Out, Queue, Status};

use crate::Resp;
use crate::reply::{self, Cx};
use crate::session::{Session, mode};
use crate::structs::direct;
use crate::ticket::Ticket;
use crate::worker::Worker;
use crate::write::{SHORT_LEN_BYTES_MAX, Writer};

impl Resp {
    /// Answers a command.
    #[inline]
    pub(crate) fn tell<'a>(
        &self,
        worker: &mut Worker,
        session: &mut Session,
        ticket: Ticket,
        ops: &[Op<'a>],
        out: &mut Out<'_>,
        queue: &mut Queue<'a, Ticket>,
    ) -> After {
        const RARE: u32 = mode::REPLY_OFF | mode::REPLY_SKIP;
        // A value that was found is most of what there is to answer.
        if let (Ticket::Value, [op]) = (&ticket, ops)
            && op.status() == Status::OK
            && let Some(bytes) = op.value_bytes()
            && bytes.len() <= SHORT_LEN_BYTES_MAX
            && session.mode & RARE == 0
            && session.rare.is_none()
        {
            // It owns nothing: there is nothing to drop.
            std::mem::forget(ticket);
            let before = out.len();
            Writer::new(out, session.version).short(bytes);
            self.hub.stats.of(worker.id).answered_hit((out.len() - before) as u64);
            return After::Done;
        }
        self.reply_any(worker, session, ticket, ops, out, queue)
    }

    #[inline(never)]
    fn reply_any<'a>(
        &self,
        worker: &mut Worker,
        session: &mut Session,
        ticket: Ticket,
        ops: &[Op<'a>],
        out: &mut Out<'_>,
        queue: &mut Queue<'a, Ticket>,
    ) -> After {
        let version = session.version;
        if session.mode & (mode::REPLY_OFF | mode::REPLY_SKIP) != 0 || session.rare.is_some() {
            return self.reply_rare(worker, session, ticket, ops, out, queue);
        }
        let before = out.len();
        let id = worker.id;
        if let (&Ticket::Structure(shape), [op]) = (&ticket, ops)
            && direct::answer((self, id), shape, op, &mut Writer::new(out, version))
        {
            std::mem::forget(ticket);
            self.hub.stats.of(id).wrote((out.len() - before) as u64);
            return After::Done;
        }
        let mut cx = Cx { resp: self, worker, session, queue, followed_up: false };
        let after = reply::answer(&mut cx, ticket, ops, &mut Writer::new(out, version));
        self.hub.stats.of(id).wrote((out.len() - before) as u64);
        after
    }

    /// Answers on a connection in a rare mode: perhaps without a word, perhaps in a transaction.
    #[cold]
    fn reply_rare<'a>(
        &self,
        worker: &mut Worker,
        session: &mut Session,
        ticket: Ticket,
        ops: &[Op<'a>],
        out: &mut Out<'_>,
        queue: &mut Queue<'a, Ticket>,
    ) -> After {
        let (version, before) = (session.version, session.mode);
        let silent = before & (mode::REPLY_OFF | mode::REPLY_SKIP) != 0;
        let skips = before & mode::REPLY_SKIP != 0;
        let goes_on = ticket.ends_a_round() || skips || worker.is_async();
        let mut cx = Cx { resp: self, worker, session, queue, followed_up: false };
        let mut unheard = Vec::new();
        let after = if silent {
            reply::answer(&mut cx, ticket, ops, &mut Writer::new(&mut unheard, version))
        } else {
            reply::answer(&mut cx, ticket, ops, &mut Writer::new(out, version))
        };
        if goes_on && !cx.followed_up {
            reply::transaction::go_on(&mut cx);
        }
        let finished = !cx.followed_up;
        if before & mode::REPLY_OFF != 0 && !session.is(mode::REPLY_OFF) {
            // CLIENT REPLY ON is itself answered.
            out.bytes(&unheard);
        } else if skips && finished {
            session.set(mode::REPLY_SKIP, false);
        }
        after
    }
}
