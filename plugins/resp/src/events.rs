//! What reaches a connection from outside: timers, messages, other people's changes to keys.
//!
//! Called by the engine between commands; what a connection waits for ends here.

use crucible_plugin_api::{Event, Flow, KeyEvent, KeyEventKind, Out, Queue};

use crate::Resp;
use crate::hub::clients::Message;
use crate::hub::waiting::{WAKE_READY, WAKE_UNBLOCK, WAKE_UNBLOCK_ERROR};
use crate::reply;
use crate::session::{Session, mode};
use crate::structs::blocking::{self, Nudge};
use crate::ticket::Ticket;
use crate::write::{Version, Writer};

impl Resp {
    /// Something happened that this connection is told.
    pub(crate) fn happened<'a>(
        &self,
        session: &mut Session,
        event: Event,
        out: &mut Out<'_>,
        queue: &mut Queue<'a, Ticket>,
    ) -> Flow {
        match event {
            Event::HalfClose | Event::Drain => Flow::Close,
            Event::Timer(token) if session.is_blocked() => {
                let mut w = Writer::new(out, session.version);
                blocking::nudge(self, session, Nudge::Timer(token), queue, &mut w)
            }
            Event::Timer(token) => {
                let Some(rare) = session.rare.as_mut().filter(|r| r.waits) else {
                    return Flow::Continue;
                };
                if rare.wait_token != token {
                    return Flow::Continue;
                }
                rare.waits = false;
                if let Some(reply) = rare.wait_reply.take() {
                    out.bytes(reply);
                }
                Flow::Resume
            }
            Event::Wake(token) => {
                let delivery = session.client.collect();
                for message in &delivery.messages {
                    if is_for(session, message) {
                        reply::pubsub::deliver(message, &mut Writer::new(out, session.version));
                    }
                }
                if delivery.close {
                    return Flow::CloseNow;
                }
                let nudge = match token {
                    WAKE_READY => Some(Nudge::Ready),
                    WAKE_UNBLOCK | WAKE_UNBLOCK_ERROR => {
                        Some(Nudge::Unblock(token == WAKE_UNBLOCK_ERROR))
                    }
                    _ => None,
                };
                if session.is_blocked() {
                    let Some(nudge) = nudge else { return Flow::Continue };
                    let mut w = Writer::new(out, session.version);
                    return blocking::nudge(self, session, nudge, queue, &mut w);
                }
                let now_ms = queue.now_ms();
                match &mut session.rare {
                    Some(rare) if rare.waits && rare.wait_reply.is_none() => {
                        if self.hub.paused(now_ms, true).is_some() {
                            return Flow::Continue;
                        }
                        rare.waits = false;
                        Flow::Resume
                    }
                    _ => Flow::Continue,
                }
            }
        }
    }

    /// A connection is over: it leaves every list it is on.
    pub(crate) fn leave(&self, mut session: Session) {
        let id = session.client.id;
        blocking::leave(self, &mut session);
        if let Some(rare) = &mut session.rare {
            reply::pubsub::leave(&self.hub.pubsub, rare, id);
        }
        if session.is(mode::TRACKING) {
            self.hub.tracking.end(id);
        }
        if session.is(mode::MONITOR) {
            self.hub.monitor(&session.client, false);
        }
        self.hub.clients.close(id);
    }

    /// Kinds of changes to keys that somebody here waits for.
    pub(crate) fn kinds_awaited(&self) -> u32 {
        let mut kinds = 0;
        if self.hub.waiting.was_used() {
            kinds |= KeyEventKind::GREW.0;
        }
        if self.hub.tracking.is_active() {
            kinds |= KeyEventKind::STORED.0
                | KeyEventKind::DELETED.0
                | KeyEventKind::EXPIRED.0
                | KeyEventKind::EVICTED.0
                | KeyEventKind::FLUSHED.0
                | KeyEventKind::TOUCHED.0;
        }
        kinds
    }

    /// Keys have changed.
    pub(crate) fn changed(&self, events: &[KeyEvent<'_>]) {
        for event in events {
            if event.kind == KeyEventKind::GREW {
                self.hub.waiting.ready(&self.hub.env, event.key);
            } else if event.kind == KeyEventKind::FLUSHED {
                self.hub.tracking.flushed(&self.hub.clients);
            } else {
                self.hub.tracking.changed(&self.hub.clients, event.key, event.conn_id);
            }
        }
    }
}

/// Whether a connection takes such a message in its present version: RESP2 hears of invalidations
/// only on the channel it has subscribed to.
fn is_for(session: &Session, message: &Message) -> bool {
    match message {
        Message::Invalidate(_) if session.version == Version::Resp2 => session
            .rare
            .as_ref()
            .is_some_and(|rare| rare.channels.contains(reply::pubsub::INVALIDATE_CHANNEL)),
        _ => true,
    }
}
